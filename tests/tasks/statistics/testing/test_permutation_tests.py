"""Permutation p-values against their definitions, exact ties, scikit-bio, and their error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from skbio.stats.distance import DistanceMatrix
from skbio.stats.distance import permanova as skbio_permanova

from activarium.tasks.statistics.testing.label_permutations import permuted_positions
from activarium.tasks.statistics.testing.permutation_tests import max_t_p, permanova, permutation_p
from activarium.tasks.statistics.testing.permutations import permuted_effects

SHAPES = st.tuples(st.integers(1, 8), st.integers(0, 12))


@st.composite
def effect_tables(draw):
    """Effects in steps far above the tolerance, with ties and constant units."""
    units, size = draw(SHAPES)
    step = st.integers(0, 9).map(lambda k: k / 8)
    observed = draw(hnp.arrays(np.float64, units, elements=step))
    permuted = draw(hnp.arrays(np.float32, (units, size), elements=step))
    return observed, permuted


def slow_max_t(observed, permuted):
    """Box 2 of Ge, Dudoit and Speed, with the true labels as one more permutation."""
    order = sorted(range(len(observed)), key=lambda unit: -observed[unit])
    size = permuted.shape[1]
    p = {}
    before = 0.0
    for k, unit in enumerate(order):
        reached = sum(max(permuted[j, b] for j in order[k:]) >= observed[unit] for b in range(size))
        before = max(before, (1 + reached) / (1 + size))
        p[unit] = before
    return [p[unit] for unit in range(len(observed))]


def null_effects(rng, *, units, images, classes, size, seed=0, shared=0.0):
    common = shared * rng.standard_normal(images)
    responses = (rng.standard_normal((units, images)) + common).astype(np.float32)
    label = rng.permutation(np.arange(images) % classes)
    return permuted_effects(responses, label, classes, permutations=size, seed=seed)


def test_p_values__hand_worked_case():
    observed = np.array([0.5, 0.9, 0.1])
    permuted = np.array([[0.6, 0.2, 0.1, 0.5], [0.1, 0.2, 0.3, 0.4], [0.2, 0.95, 0, 0.05]])
    # 0.6 and the tie 0.5; none; 0.2 and 0.95.
    np.testing.assert_allclose(permutation_p(observed, permuted), [3 / 5, 1 / 5, 3 / 5])
    # Largest over all: 0.6 0.95 0.3 0.5; over units 0 and 2: 0.6 0.95 0.1 0.5; over unit 2 alone.
    # 0.9 is reached once; 0.5 three times; 0.1 twice, but not below the one before.
    np.testing.assert_allclose(max_t_p(observed, permuted), [4 / 5, 2 / 5, 4 / 5])


@given(effect_tables())
@settings(deadline=None, max_examples=150)
def test_p_values__equal_their_definitions(table):
    observed, permuted = table
    expected = (1 + (permuted >= observed[:, None]).sum(axis=1)) / (1 + permuted.shape[1])
    np.testing.assert_allclose(permutation_p(observed, permuted), expected, rtol=1e-12)
    np.testing.assert_allclose(
        max_t_p(observed, permuted), slow_max_t(observed, permuted), rtol=1e-12
    )


@given(effect_tables(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_max_t__order_of_units_changes_nothing(table, random):
    observed, permuted = table
    order = list(range(len(observed)))
    random.shuffle(order)
    np.testing.assert_array_equal(
        max_t_p(observed[order], permuted[order]), max_t_p(observed, permuted)[order]
    )


@given(effect_tables())
@settings(deadline=None, max_examples=60)
def test_max_t__never_below_the_unit_alone_and_in_the_order_of_effects(table):
    observed, permuted = table
    adjusted = max_t_p(observed, permuted)
    assert (adjusted >= permutation_p(observed, permuted)).all()
    assert (np.diff(adjusted[np.argsort(-observed, kind="stable")]) >= 0).all()
    assert (adjusted <= 1).all()


@pytest.mark.parametrize("test", [permutation_p, max_t_p])
def test_p_values__effects_within_the_tolerance_count_as_equal(test):
    observed = np.full(2, 0.5)
    permuted = np.array([[0.5 * (1 - 5e-6)], [0.5 * (1 - 5e-5)]], np.float32)
    assert test(observed[:1], permuted[:1]).tolist() == [1]
    assert test(observed[1:], permuted[1:]).tolist() == [0.5]


@pytest.mark.parametrize("test", [permutation_p, max_t_p])
def test_p_values__constant_unit_is_one(test):
    observed = np.array([0.0, 0.7])
    permuted = np.zeros((2, 9), np.float32)
    np.testing.assert_allclose(test(observed, permuted), [1, 0.1])


@pytest.mark.parametrize("test", [permutation_p, max_t_p])
def test_p_values__no_permutations_are_one_and_no_units_are_none(test):
    assert test(np.array([0.0, 0.7]), np.empty((2, 0), np.float32)).tolist() == [1, 1]
    assert test(np.empty(0), np.empty((0, 9), np.float32)).shape == (0,)


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_p_values__memory_map_equals_the_array(tmp_path, mode):
    rng = np.random.default_rng(0)
    observed, permuted = rng.random(300), rng.random((300, 99), np.float32)
    np.save(tmp_path / "permuted.npy", permuted)
    mapped = np.load(tmp_path / "permuted.npy", mmap_mode=mode)
    for test in (permutation_p, max_t_p):
        np.testing.assert_array_equal(test(observed, mapped), test(observed, permuted))
    size = {"images": 100, "classes": 4}
    assert permanova(observed, mapped, **size) == permanova(observed, permuted, **size)


@pytest.mark.parametrize("counts", [[200, 200], [40, 60, 300], [396, 2, 2], [100] * 4])
def test_permutation_p__rounding_breaks_no_tie(counts):
    # Two values per unit: effects order as whole numbers, sum of k^2 lcm / n over the classes.
    rng = np.random.default_rng(3)
    label = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images, size = label.size, 199
    active = [1, 2, 3, 5, 10, 30, 39, 41, 80, 150, 200, 300, 399]
    on = np.array([rng.permutation(images) < k for k in active])
    responses = np.where(on, np.float32(0.3), np.float32(-0.17))
    got = permuted_effects(responses, label, len(counts), permutations=size, seed=1)
    share = math.lcm(*counts) // np.array(counts)
    orders = [permuted_positions(images, seed=1, index=b) for b in range(size)]
    for unit, values in enumerate(on):
        exact = [
            int((np.bincount(lab[values], minlength=len(counts)) ** 2 * share).sum())
            for lab in [label, *(label[o] for o in orders)]
        ]
        reached = sum(e >= exact[0] for e in exact[1:])
        p = permutation_p(got.observed[[unit]], got.permuted[[unit]])
        assert p[0] == pytest.approx((1 + reached) / (1 + size), rel=1e-12)


def test_permutation_p__null_units_fall_below_a_level_as_often_as_it_says():
    rng = np.random.default_rng(4)
    got = null_effects(rng, units=400, images=60, classes=3, size=199)
    p = permutation_p(got.observed, got.permuted)
    for level in (0.05, 0.2, 0.5):
        low, high = stats.binom.ppf([0.001, 0.999], 400, level)
        assert low <= (p <= level).sum() <= high


def test_max_t__families_without_effects_are_rarely_rejected():
    rng = np.random.default_rng(5)
    rejected = 0
    for family in range(60):
        got = null_effects(
            rng, units=20, images=40, classes=4, size=99, seed=family, shared=family % 3
        )
        rejected += max_t_p(got.observed, got.permuted).min() <= 0.05
    assert rejected <= stats.binom.ppf(0.999, 60, 0.05)


def test_max_t__strong_effects_are_found_beside_many_without():
    rng = np.random.default_rng(6)
    label = np.arange(100) % 4
    responses = rng.standard_normal((200, 100)).astype(np.float32)
    responses[:10] += 2 * label
    got = permuted_effects(responses, label, 4, permutations=199, seed=0)
    p = max_t_p(got.observed, got.permuted)
    np.testing.assert_allclose(p[:10], 1 / 200)
    assert p[10:].min() > 0.05


@pytest.fixture(scope="module")
def layer():
    rng = np.random.default_rng(8)
    label = rng.permutation(np.repeat([0, 1, 2, 4], [5, 12, 20, 23]))
    responses = rng.standard_normal((12, label.size)) + 0.05 * label
    responses[3] = 1e4 + 0.1 * responses[3]
    responses[5] = np.maximum(responses[5], 0)
    return responses.astype(np.float32), label


def standardised(responses):
    values = responses.astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    return (values / values.std(axis=1, keepdims=True)).T


def f_of_distances(squared, label):
    """Pseudo F from all squared distances, as in Anderson (2001), equation 4."""
    images, classes = label.size, np.unique(label)
    total = squared.sum() / 2 / images
    within = sum(
        squared[np.ix_(label == c, label == c)].sum() / 2 / (label == c).sum() for c in classes
    )
    return (total - within) / (classes.size - 1) / (within / (images - classes.size))


def test_permanova__equals_scikit_bio_and_all_distances(layer):
    responses, label = layer
    size = 199
    # A constant unit adds no distance.
    both = np.concatenate((responses, np.full((1, label.size), 0.1, np.float32)))
    got = permanova(
        *permuted_effects(both, label, 5, permutations=size, seed=2), images=60, classes=4
    )
    distance = pdist(standardised(responses))
    expected = skbio_permanova(
        DistanceMatrix(squareform(distance)), label.astype(str), permutations=9
    )
    np.testing.assert_allclose(got.pseudo_f, expected["test statistic"], rtol=1e-6)
    squared = squareform(distance) ** 2
    reached = sum(
        f_of_distances(squared, label[permuted_positions(60, seed=2, index=b)]) >= got.pseudo_f
        for b in range(size)
    )
    assert 0 < reached < size
    assert got.p == pytest.approx((1 + reached) / (1 + size), rel=1e-12)
    ratio = got.pseudo_f * 3 / 56
    np.testing.assert_allclose(got.r2, ratio / (1 + ratio), rtol=1e-9)


def test_permanova__does_not_depend_on_the_rows_per_step(layer):
    rng = np.random.default_rng(9)
    observed, permuted = rng.random(2500) / 10, (rng.random((2500, 9)) / 10).astype(np.float32)
    got = permanova(observed, permuted, images=50, classes=3)
    assert got.r2 == pytest.approx(observed.mean(), rel=1e-12)
    reached = (permuted.astype(np.float64).mean(axis=0) >= observed.mean()).sum()
    assert got.p == (1 + reached) / 10


@pytest.mark.parametrize(
    ("observed", "images", "classes"),
    [([0.0, 0.0], 9, 3), ([], 9, 3), ([0.5], 9, 1), ([0.5], 3, 3)],
    ids=["all constant", "no units", "one class", "an image per class"],
)
def test_permanova__nothing_to_compare_says_nothing(observed, images, classes):
    permuted = np.zeros((len(observed), 4), np.float32)
    assert permanova(np.array(observed), permuted, images=images, classes=classes) == (0, 0, 1)


def test_permanova__classes_that_explain_everything_are_infinite():
    got = permanova(np.ones(2), np.full((2, 9), 0.3, np.float32), images=9, classes=3)
    assert got == (np.inf, 1, 0.1)


@pytest.mark.parametrize("shape", [(3, 4), (4,), (2, 2, 2)])
def test_p_values__shapes_that_do_not_fit_are_an_error(shape):
    permuted = np.zeros(shape, np.float32)
    for test in (permutation_p, max_t_p):
        with pytest.raises(ValueError, match="expected observed of shape"):
            test(np.zeros(2), permuted)
    with pytest.raises(ValueError, match="expected observed of shape"):
        permanova(np.zeros(2), permuted, images=5, classes=2)
