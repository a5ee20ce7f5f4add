"""Measures of pairs of classes against their definitions, by hand, and at their edges."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import cosine
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from activarium.tasks.statistics.layers import class_pairs
from activarium.tasks.statistics.layers.class_pairs import (
    block_pairs,
    class_pair_rows,
    nearest_pairs,
    standardised_centroids,
)
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.ranks.pair_ranks import pair_u

CLASSES = 5
EMPTY, SINGLE = 3, 4
FDR = 0.05
NAMES = (
    "centroid_cosine",
    "centroid_distance",
    "fisher_ratio",
    "best_auroc",
    "best_unit",
    "separating_units",
)


def blocks_of(responses, label, n_classes=CLASSES, size=100, pairs=None):
    found = []
    for start in range(0, len(responses), size):
        part = np.ascontiguousarray(responses[start : start + size])
        moments = class_moments(part, label, n_classes)
        found.append(block_pairs(moments, pair_u(part, label, n_classes, pairs=pairs)))
    return found


def measured(responses, label, n_classes=CLASSES, size=100, pairs=None):
    return class_pair_rows(blocks_of(responses, label, n_classes, size, pairs), fdr=FDR)


def rows_of(found):
    """Measures by the codes of their pair."""
    columns = [getattr(found, name) for name in NAMES]
    return {tuple(pair): [c[i] for c in columns] for i, pair in enumerate(found.pair.tolist())}


def matrix(*rows):
    return np.array(rows, np.float32)


@pytest.fixture(scope="module")
def recording():
    """Ties, offsets, extreme sizes, constant units; class 3 is empty and class 4 has one image."""
    rng = np.random.default_rng(7)
    label = rng.choice([0, 1, 2], 311, p=[0.2, 0.5, 0.3])
    label[100] = SINGLE
    values = rng.standard_normal((40, 311)) + 0.02 * np.arange(40)[:, None] * (label == 1)
    values[1] = np.maximum(values[1] + 0.5 * (label == 1), 0)
    values[2] = np.round(values[2]) + label
    values[3] = 1e4 + 0.1 * values[3] + 0.02 * label
    values[4] *= 1e30
    values[5] *= 1e-43
    values[6] = 0
    values[7] = 0.1
    values[8] = label == SINGLE
    return values.astype(np.float32), label


def exact(responses):
    """Responses in float64, moved and scaled so that squares and sums keep their digits."""
    values = responses.astype(np.float64)
    values -= values[:, :1]
    size = np.abs(values).max(axis=1, keepdims=True)
    return values / np.where(size > 0, size, 1)


def test_class_pairs__centroids_and_fisher_equal_their_definitions(recording):
    responses, label = recording
    values = exact(responses)
    values = values[np.ptp(values, axis=1) > 0]
    z = stats.zscore(values, axis=1, ddof=1)
    found = rows_of(measured(*recording))
    for a, b in combinations([0, 1, 2, SINGLE], 2):
        one, other = z[:, label == a], z[:, label == b]
        m, n = one.mean(axis=1), other.mean(axis=1)
        assert found[a, b][0] == pytest.approx(1 - cosine(m, n), rel=1e-9)
        assert found[a, b][1] == pytest.approx(np.linalg.norm(m - n) / np.sqrt(len(z)), rel=1e-9)
        if b != SINGLE:
            spread = (one.var(axis=1, ddof=1) + other.var(axis=1, ddof=1)).sum()
            assert found[a, b][2] == pytest.approx(((m - n) ** 2).sum() / spread, rel=1e-9)


def test_class_pairs__units_equal_scikit_learn_scipy_and_statsmodels(recording):
    responses, label = recording
    found = rows_of(measured(*recording))
    for a, b in combinations([0, 1, 2, SINGLE], 2):
        either = (label == a) | (label == b)
        area = np.array([roc_auc_score(label[either] == a, unit[either]) for unit in responses])
        area = np.maximum(area, 1 - area)
        assert found[a, b][3] == pytest.approx(area.max(), rel=1e-9)
        assert area[found[a, b][4]] == pytest.approx(area.max(), rel=1e-9)
        p = [
            stats.mannwhitneyu(
                unit[label == a], unit[label == b], method="asymptotic"
            ).pvalue
            if np.ptp(unit[either])
            else 1.0
            for unit in responses.astype(np.float64)
        ]  # fmt: skip
        rejected = multipletests(p, FDR, method="fdr_bh")[0]
        assert found[a, b][5] == rejected.sum()
    assert 0 < found[0, 1][5] < 40


def test_class_pairs__hand_worked_case():
    # Unit 0: 0, 2 | 4, 6 about 3, squares 20; unit 1: 1, 1 | 1, 3 about 1.5, squares 3; unit 2 is
    # constant. Variances of 4 images: 20 / 3 and 1.
    responses = matrix([0, 2, 4, 6], [1, 1, 1, 3], [5, 5, 5, 5])
    found = measured(responses, np.array([0, 0, 1, 1]), 2)
    assert found.pair.tolist() == [[0, 1]]
    np.testing.assert_allclose(found.centroid_cosine, [-1])
    squares = 4**2 / (20 / 3) + 1**2 / 1
    np.testing.assert_allclose(found.centroid_distance, [np.sqrt(squares / 2)])
    within = (2 + 2) / (20 / 3) + (0 + 2) / 1
    np.testing.assert_allclose(found.fisher_ratio, [squares / within])
    assert found.best_auroc.tolist() == [1]
    assert found.best_unit.tolist() == [0]
    assert found.separating_units.tolist() == [0]


def test_class_pairs__related_classes_are_nearer_than_unrelated():
    rng = np.random.default_rng(0)
    label = np.arange(900) % 3
    shared = rng.standard_normal(200)
    patterns = np.stack([shared, shared + 0.3 * rng.standard_normal(200), -shared], axis=1)
    responses = (patterns[:, label] + rng.standard_normal((200, 900))).astype(np.float32)
    found = rows_of(measured(responses, label, 3))
    related, unrelated = found[0, 1], found[0, 2]
    assert related[0] > 0.7
    assert unrelated[0] < -0.7
    for measure in (1, 2, 3, 5):
        assert related[measure] < unrelated[measure]


def test_class_pairs__unseparated_classes_have_almost_no_separating_units():
    rng = np.random.default_rng(0)
    responses = rng.standard_normal((400, 300)).astype(np.float32)
    found = measured(responses, np.arange(300) % 2, 2)
    assert found.separating_units[0] <= 2


def test_class_pairs__pair_with_an_empty_class_is_undefined(recording):
    for pair, row in rows_of(measured(*recording)).items():
        if EMPTY in pair:
            assert np.isnan(row[:3]).all()
            assert row[3:] == [0.5, -1, 0]
        else:
            assert not np.isnan(row[:2] + row[3:]).any()


def test_fisher_ratio__class_of_one_image_is_undefined(recording):
    ratio = {pair: row[2] for pair, row in rows_of(measured(*recording)).items()}
    assert np.isnan([ratio[c, SINGLE] for c in (0, 1, 2)]).all()
    assert ratio[0, 1] > 0


def test_fisher_ratio__no_variance_within_classes_is_infinite():
    # Classes 0 and 1 are constant and equal, 2 is constant and differs.
    found = rows_of(measured(matrix([0.1, 0.1, 0.1, 0.1, 7.3, 7.3]), np.arange(6) // 2, 3))
    assert found[0, 1][1:] == [0, 0, 0.5, -1, 0]
    assert found[0, 1][0] == pytest.approx(1)
    assert found[0, 2][2] == np.inf
    assert found[0, 2][3:5] == [1, 0]


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
def test_class_pairs__layer_of_constant_units_tells_nothing(value):
    found = rows_of(measured(np.full((3, 31), value, np.float32), np.arange(31) % 3, 4))
    for pair, row in found.items():
        if 3 in pair:
            assert np.isnan(row[:3]).all()
        else:
            assert row[:3] == [0, 0, 0]
        assert row[3:] == [0.5, -1, 0]


def test_class_pairs__constant_units_change_no_centroid(recording):
    responses, label = recording
    more = np.insert(responses, [0, 20], np.float32(4), axis=0)
    one, other = measured(responses, label), measured(more, label)
    for name in NAMES[:4]:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_class_pairs__two_images_are_defined():
    found = measured(matrix([1, 3], [2, 2]), np.array([0, 1]), 2)
    np.testing.assert_allclose(found.centroid_cosine, [-1])
    np.testing.assert_allclose(found.centroid_distance, [np.sqrt(2)])
    assert np.isnan(found.fisher_ratio).all()
    assert (found.best_auroc[0], found.best_unit[0], found.separating_units[0]) == (1, 0, 0)


def test_class_pairs__one_class_has_no_pairs():
    found = measured(matrix([1, 3], [2, 2]), np.array([0, 0]), 1)
    assert all(getattr(found, name).shape == (0,) for name in NAMES)


def test_class_pairs__no_units_tell_nothing():
    label = np.array([0, 1, 2])
    moments = class_moments(np.empty((0, 3), np.float32), label, 3)
    ranks = pair_u(np.empty((0, 3), np.float32), label, 3)
    found = class_pair_rows([block_pairs(moments, ranks)], fdr=FDR)
    assert found.best_auroc.tolist() == [0.5] * 3
    assert found.best_unit.tolist() == [-1] * 3
    assert found.separating_units.tolist() == found.centroid_distance.tolist() == [0] * 3


def test_best_unit__first_of_equal_units_in_any_block():
    up, down, flat = [1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]
    responses, label = matrix(flat, down, flat, up, up), np.array([0, 0, 1, 1])
    for size in (1, 2, 3, 5):
        assert measured(responses, label, 2, size).best_unit.tolist() == [1]


@pytest.mark.parametrize("size", [1, 7, 39])
def test_class_pairs__do_not_depend_on_block_size(recording, size):
    whole, parts = measured(*recording), measured(*recording, size=size)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_class_pairs__listed_pairs_equal_those_of_all(recording):
    every = measured(*recording)
    chosen = np.array([4, 1, 8])
    some = measured(*recording, size=16, pairs=every.pair[chosen])
    np.testing.assert_array_equal(some.pair, every.pair[chosen])
    for name in NAMES:
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name)[chosen])


def test_class_pairs__do_not_depend_on_the_step(recording, monkeypatch):
    whole = measured(*recording)
    monkeypatch.setattr(class_pairs, "_VALUES", 120)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(measured(*recording), name), getattr(whole, name))


@st.composite
def recordings(draw):
    images = draw(st.integers(2, 30))
    value = draw(
        st.sampled_from([st.integers(-3, 3).map(float), st.integers(0, 5000).map(lambda v: v / 8)])
    )
    responses = draw(hnp.arrays(np.float32, (4, images), elements=value))
    label = draw(hnp.arrays(np.int64, images, elements=st.integers(0, CLASSES - 1)))
    return responses, label


@given(recordings(), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=60)
def test_class_pairs__follow_a_relabelling_of_classes(recording, names):
    responses, label = recording
    one = rows_of(measured(responses, label))
    other = rows_of(measured(responses, np.array(names)[label]))
    for (a, b), row in one.items():
        same = other[tuple(sorted((names[a], names[b])))]
        np.testing.assert_allclose(row, same, rtol=1e-9, atol=1e-12)


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_class_pairs__do_not_depend_on_image_order(recording, random):
    responses, label = recording
    order = list(range(label.size))
    random.shuffle(order)
    one = rows_of(measured(responses, label))
    other = rows_of(measured(responses[:, order], label[order]))
    for pair, row in one.items():
        np.testing.assert_allclose(row, other[pair], rtol=1e-9, atol=1e-12)


def test_centroid_cosine__class_at_the_overall_mean_is_zero():
    # Class 2 has the images of all others, so that but for rounding its mean is the overall mean.
    values = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    label = np.array([0, 0, 0, 1, 1, 1, 1] + [2] * 7)
    found = rows_of(measured(np.concatenate([values, values], axis=1), label, 3))
    assert found[0, 2][0] == found[1, 2][0] == 0
    assert found[0, 1][0] == pytest.approx(-1)


def test_standardised_centroids__small_noise_on_a_large_mean_keeps_its_digits():
    rng = np.random.default_rng(0)
    responses = (1e4 + 0.1 * rng.standard_normal((4, 3000))).astype(np.float32)
    label = rng.integers(0, 3, 3000)
    z = stats.zscore(responses.astype(float) - 1e4, axis=1, ddof=1)  # exact in a double
    expected = np.stack([z[:, label == c].mean(axis=1) for c in range(3)], axis=1)
    found = standardised_centroids(class_moments(responses, label, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_class_pair_rows__blocks_that_do_not_belong_together_are_an_error(blocks):
    responses, label = matrix([1, 2, 3, 4]), np.array([0, 1, 2, 2])
    one = blocks_of(responses, label, 3)
    others = [[], one + blocks_of(responses, label, 4), one + blocks_of(responses, label % 2, 3)]
    message = ["at least one block", "same pairs", "same images per class"][blocks]
    with pytest.raises(ValueError, match=message):
        class_pair_rows(others[blocks], fdr=FDR)


def test_nearest_pairs__hand_worked_case():
    # On a line: 0 at 0, 1 at 1, 2 at 3, 4 at 10; 3 is empty.
    centroids = np.array([[0.0, 1.0, 3.0, np.nan, 10.0]])
    assert nearest_pairs(centroids, neighbours=1).tolist() == [[0, 1], [1, 2], [2, 4]]
    assert nearest_pairs(centroids, neighbours=2).tolist() == [
        [0, 1],
        [0, 2],
        [1, 2],
        [1, 4],
        [2, 4],
    ]
    every = [list(pair) for pair in combinations([0, 1, 2, 4], 2)]
    assert nearest_pairs(centroids, neighbours=3).tolist() == every
    assert nearest_pairs(centroids).tolist() == every


def test_nearest_pairs__equal_distances_go_to_the_lower_code():
    assert nearest_pairs(np.zeros((2, 4)), neighbours=1).tolist() == [[0, 1], [0, 2], [0, 3]]


@pytest.mark.parametrize("filled", [0, 1])
def test_nearest_pairs__fewer_than_two_classes_have_none(filled):
    centroids = np.full((3, 4), np.nan)
    centroids[:, :filled] = 0.0
    found = nearest_pairs(centroids)
    assert found.shape == (0, 2)
    assert found.dtype == np.int64


def test_nearest_pairs__no_unit_that_varies_counts_as_equal_distances():
    assert nearest_pairs(np.empty((0, 3)), neighbours=1).tolist() == [[0, 1], [0, 2]]


def test_nearest_pairs__no_neighbours_is_an_error():
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        nearest_pairs(np.zeros((1, 3)), neighbours=0)


@given(st.permutations(range(9)), st.integers(1, 9), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_nearest_pairs__are_the_nearest_under_any_names(names, neighbours, seed):
    centroids = np.random.default_rng(seed).standard_normal((6, 9))
    expected = set()
    for a in range(9):
        away = np.linalg.norm(centroids - centroids[:, [a]], axis=0)
        expected |= {frozenset((a, b)) for b in np.argsort(away)[1 : neighbours + 1].tolist()}
    renamed = np.empty_like(centroids)
    renamed[:, names] = centroids
    found = nearest_pairs(renamed, neighbours=neighbours)
    assert {frozenset((names.index(a), names.index(b))) for a, b in found.tolist()} == expected
    assert (found[:, 0] < found[:, 1]).all()
    assert len(found) == len(expected)
