"""Class-preference statistics against SciPy and scikit-learn, by hand, and at their edges."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.feature_selection import f_classif
from sklearn.metrics import roc_auc_score

from activarium.tasks.statistics.merged_moments import combine_moments
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.units.preference import (
    anova,
    auroc,
    class_z,
    hedges_g,
    kruskal_wallis,
    lifetime_sparseness,
    mann_whitney_p,
    mann_whitney_u,
    preferred_classes,
)
from activarium.tasks.statistics.units.selectivity import general_index

CLASSES = 5
EMPTY = 3


def statistics(responses, label, n_classes=CLASSES):
    """Every statistic by name, for comparing two ways to the same numbers."""
    rank_sum, tie_sum = rank_units(responses, label, n_classes)[:2]
    moments = class_moments(responses, label, n_classes)
    u = mann_whitney_u(rank_sum, moments.count)
    return {
        "u": u,
        "auroc": auroc(rank_sum, moments.count),
        "mann_whitney": mann_whitney_p(u, moments.count, tie_sum),
        "kruskal": kruskal_wallis(rank_sum, moments.count, tie_sum),
        "anova": anova(moments),
        "selectivity": general_index(moments),
        "z": class_z(moments.mean),
        "g": hedges_g(moments),
        "sparseness": lifetime_sparseness(moments),
        "preferred": preferred_classes(moments.mean, moments.count),
    }


def row(values):
    return np.array([values], np.float32)


@pytest.fixture(scope="module")
def recording():
    """Ties, offsets, extreme sizes; class 3 is empty and class 4 has one image."""
    rng = np.random.default_rng(7)
    images = 611
    label = rng.choice([0, 1, 2], images, p=[0.2, 0.5, 0.3])
    label[100] = 4
    noise = rng.standard_normal((9, images))
    noise[1] = np.maximum(noise[1] + 0.5 * (label == 1), 0)
    noise[2] = np.round(noise[2]) + label
    noise[3] = 1e4 + 0.1 * noise[3] + 0.02 * label
    noise[4] *= 1e30
    noise[5] *= 1e-43
    noise[6] = 100.0 * label + noise[6]
    noise[7] = label == 2
    noise[8] = np.maximum(noise[8] - 3, 0)
    return noise.astype(np.float32), label


@pytest.fixture(scope="module")
def result(recording):
    return statistics(*recording)


def sides(values, label, code):
    # SciPy computes its p-values in the type of the responses.
    exact = values.astype(np.float64)
    return exact[label == code], exact[label != code]


def groups(values, label):
    return [values[label == c].astype(np.float64) for c in np.unique(label)]


def test_auroc__equals_scikit_learn(recording, result):
    for unit, values in enumerate(recording[0]):
        for c in set(recording[1].tolist()):
            expected = roc_auc_score(recording[1] == c, values)
            np.testing.assert_allclose(result["auroc"][unit, c], expected, rtol=1e-9)


def test_mann_whitney__equals_scipy(recording, result):
    responses, label = recording
    for unit, values in enumerate(responses):
        for c in set(label.tolist()):
            expected = stats.mannwhitneyu(*sides(values, label, c), method="asymptotic")
            np.testing.assert_array_equal(result["u"][unit, c], expected.statistic)
            np.testing.assert_allclose(
                result["mann_whitney"].p[unit, c], expected.pvalue, rtol=1e-9
            )


def test_kruskal_wallis__equals_scipy(recording, result):
    responses, label = recording
    for unit, values in enumerate(responses):
        expected = stats.kruskal(*groups(values, label))
        np.testing.assert_allclose(result["kruskal"].h[unit], expected.statistic, rtol=1e-9)
        np.testing.assert_allclose(result["kruskal"].p[unit], expected.pvalue, rtol=1e-9)
    epsilon2 = result["kruskal"].h / ((label.size**2 - 1) / (label.size + 1))
    np.testing.assert_allclose(result["kruskal"].epsilon2, epsilon2, rtol=1e-12)


def test_anova__equals_scipy_and_scikit_learn(recording, result):
    responses, label = recording
    finite = [unit for unit in range(len(responses)) if unit != 7]
    # scikit-learn subtracts squares of sums: only units around zero keep their digits there.
    centred = [0, 1, 2, 6]
    f, p = f_classif(responses[centred].T.astype(np.float64), label)
    np.testing.assert_allclose(result["anova"].f[centred], f, rtol=1e-9)
    np.testing.assert_allclose(result["anova"].p[centred], p, rtol=1e-9)
    for unit in finite:
        # F has no unit, and SciPy works in the range of a double around one.
        values = responses[unit].astype(np.float64) / np.abs(responses[unit]).max()
        expected = stats.f_oneway(*groups(values - values.mean(), label))
        np.testing.assert_allclose(result["anova"].f[unit], expected.statistic, rtol=1e-9)
        np.testing.assert_allclose(result["anova"].p[unit], expected.pvalue, rtol=1e-9)


def test_hedges_g__equals_its_definition(recording, result):
    responses, label = recording
    for unit in (0, 1, 2, 3, 6, 8):
        for c in set(label.tolist()):
            values = responses[unit].astype(np.float64)
            one, rest = values[label == c], values[label != c]
            squares = ((one - one.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
            df = label.size - 2
            g = (one.mean() - rest.mean()) / np.sqrt(squares / df) * (1 - 3 / (4 * df - 1))
            np.testing.assert_allclose(result["g"][unit, c], g, rtol=1e-9)


def test_class_z__equals_scipy_zscore(recording, result):
    moments = class_moments(*recording, CLASSES)
    filled = [0, 1, 2, 4]
    expected = stats.zscore(moments.mean[:, filled], axis=1)
    np.testing.assert_allclose(result["z"][:, filled], expected, rtol=1e-9, atol=1e-12)
    assert np.isnan(result["z"][:, EMPTY]).all()


def test_class_z__small_scores_among_many_classes_keep_their_digits():
    mean = np.random.default_rng(8).normal(size=(3, 1_000))
    for unit, got in zip(mean, class_z(mean), strict=True):
        exact = [Fraction(value) for value in unit.tolist()]
        centred = [value - sum(exact) / len(exact) for value in exact]
        sd = np.sqrt(float(sum(value**2 for value in centred) / len(centred)))
        assert np.abs(got).min() < 2e-3
        np.testing.assert_allclose(got, [float(value) / sd for value in centred], rtol=1e-11)


def test_lifetime_sparseness__equals_its_definition(recording, result):
    responses = recording[0].astype(np.float64)
    r = responses - np.minimum(responses.min(axis=1, keepdims=True), 0)
    activity = r.mean(axis=1) ** 2 / (r**2).mean(axis=1)
    expected = (1 - activity) / (1 - 1 / r.shape[1])
    away = [0, 1, 2, 4, 5, 6, 7, 8]  # unit 3 cancels in the textbook's formula
    np.testing.assert_allclose(result["sparseness"][away], expected[away], rtol=1e-9)
    exact = responses[3].var(ddof=1) / (responses[3] ** 2).mean()
    np.testing.assert_allclose(result["sparseness"][3], exact, rtol=1e-9)


def test_statistics__hand_worked_case():
    # Class 0: 1, 3; class 1: 5, 7; class 2: 3, 5. Ranks 1, 2.5; 4.5, 6; 2.5, 4.5.
    responses, label = row([1, 3, 5, 7, 3, 5]), np.array([0, 0, 1, 1, 2, 2])
    got = statistics(responses, label, 3)
    np.testing.assert_allclose(got["u"], [[0.5, 7.5, 4.0]])
    np.testing.assert_allclose(got["auroc"], [[0.0625, 0.9375, 0.5]])
    # Means 2, 6, 4 about 4: between 16 on 2, within 6 on 3 degrees of freedom.
    np.testing.assert_allclose(got["anova"].f, [4.0])
    np.testing.assert_allclose(got["anova"].eta2, [16 / 22])
    # Mean ranks 1.75, 5.25, 3.5: H = 12/42 x 12.25 / (1 - 12/210).
    np.testing.assert_allclose(got["kruskal"].h, [3.5 / (1 - 12 / 210)])
    np.testing.assert_allclose(got["kruskal"].p, [np.exp(-got["kruskal"].h[0] / 2)])
    np.testing.assert_allclose(got["selectivity"], [(6 - 3) / (6 + 3)])
    np.testing.assert_allclose(got["z"], [[-np.sqrt(1.5), np.sqrt(1.5), 0]])
    assert [codes.tolist() for codes in got["preferred"]] == [[1], [2]]
    # Class 1: 6 - 3; squares 2 + 8 on 4 degrees of freedom; correction 1 - 3/15.
    np.testing.assert_allclose(got["g"][0, 1], 3 / np.sqrt(2.5) * 0.8)
    # Sum 24, squares 118: 1 - (24/6)^2 / (118/6), over 1 - 1/6.
    np.testing.assert_allclose(got["sparseness"], [(1 - 16 / (118 / 6)) * 6 / 5])


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
@pytest.mark.parametrize("images", [2, 3, 1001])
def test_statistics__constant_unit_is_defined(value, images):
    got = statistics(row([value] * images), np.arange(images) % 3)
    filled = np.unique(np.arange(images) % 3)
    np.testing.assert_array_equal(got["auroc"], 0.5)
    np.testing.assert_array_equal(got["mann_whitney"].p, 1)
    np.testing.assert_array_equal(got["mann_whitney"].log10_p, 0)
    assert [float(v[0]) for v in got["kruskal"]] == [0, 1, 0, 0]
    assert [float(v[0]) for v in got["anova"]] == [0, 1, 0, 0]
    np.testing.assert_array_equal(got["selectivity"], 0)
    np.testing.assert_array_equal(got["g"], 0)
    np.testing.assert_array_equal(got["sparseness"], 0)
    np.testing.assert_array_equal(got["z"][:, filled], 0)
    assert [codes.tolist() for codes in got["preferred"]] == [[-1], [-1]]


def test_statistics__one_class_says_nothing():
    got = statistics(row([1, 2, 5]), np.ones(3, np.int64), 3)
    np.testing.assert_array_equal(got["auroc"], 0.5)
    np.testing.assert_array_equal(got["mann_whitney"].p, 1)
    assert [float(v[0]) for v in got["kruskal"]] == [0, 1, 0, 0]
    assert [float(v[0]) for v in got["anova"]] == [0, 1, 0, 0]
    np.testing.assert_array_equal(got["selectivity"], 0)
    np.testing.assert_array_equal(got["g"], 0)
    np.testing.assert_array_equal(got["z"], [[np.nan, 0, np.nan]])
    assert [codes.tolist() for codes in got["preferred"]] == [[1], [-1]]


def test_statistics__no_images_say_nothing():
    got = statistics(np.empty((2, 0), np.float32), np.empty(0, np.int64))
    np.testing.assert_array_equal(got["auroc"], 0.5)
    np.testing.assert_array_equal(got["kruskal"].p, 1)
    np.testing.assert_array_equal(got["anova"].p, 1)
    assert np.isnan(got["z"]).all()
    assert [codes.tolist() for codes in got["preferred"]] == [[-1, -1], [-1, -1]]
    np.testing.assert_array_equal(got["sparseness"], 0)


def test_statistics__two_images_of_two_classes():
    got = statistics(row([1, 3]), np.array([0, 1]), 2)
    np.testing.assert_array_equal(got["auroc"], [[0, 1]])
    expected = stats.mannwhitneyu([3], [1], method="asymptotic").pvalue
    np.testing.assert_allclose(got["mann_whitney"].p, [[expected, expected]], rtol=1e-12)
    assert [float(v[0]) for v in got["anova"]] == [0, 1, 0, 0]
    np.testing.assert_allclose(got["kruskal"].h, [1])
    np.testing.assert_array_equal(got["g"], 0)
    np.testing.assert_allclose(got["selectivity"], [0.5])


def test_anova__no_variance_within_classes_is_infinite():
    got = statistics(row([1, 1, 2, 2, 2]), np.array([0, 0, 1, 1, 2]), 3)
    assert [float(v[0]) for v in got["anova"]] == [np.inf, 0, -np.inf, 1]
    assert np.isfinite(got["g"][0, [1, 2]]).all()
    assert got["g"][0, 0] == -np.inf


def test_anova__small_noise_on_a_large_mean_equals_exact_arithmetic():
    rng = np.random.default_rng(0)
    responses = (1e4 + 0.1 * rng.standard_normal((4, 3000))).astype(np.float32)
    label = rng.integers(0, CLASSES, 3000)
    f = anova(class_moments(responses, label, CLASSES)).f
    for unit in range(4):
        exact = [g - 10000.0 for g in groups(responses[unit], label)]  # exact in a double
        np.testing.assert_allclose(f[unit], stats.f_oneway(*exact).statistic, rtol=1e-9)


def test_tests__beyond_a_double_have_p_zero_and_a_finite_logarithm():
    rng = np.random.default_rng(0)
    label = np.arange(20000) % 2
    responses = (label + 0.01 * rng.standard_normal((1, 20000))).astype(np.float32)
    got = statistics(responses, label, 2)
    for test, low in (("anova", -4e4), ("kruskal", -4e3), ("mann_whitney", -4e3)):
        assert np.all(got[test].p == 0)
        assert np.all((got[test].log10_p < -1000) & (got[test].log10_p > 2 * low))


def test_lifetime_sparseness__one_image_alone_is_one():
    responses = np.zeros((1, 100), np.float32)
    responses[0, 17] = 3
    moments = class_moments(responses, np.arange(100) % CLASSES, CLASSES)
    np.testing.assert_allclose(lifetime_sparseness(moments), [1], rtol=1e-12)


def test_preferred_classes__ties_go_to_the_lower_code():
    mean = np.array([[1.0, 5, 5, 0], [2, 1, 2, 2], [0, 0, 0, 9]])
    got = preferred_classes(mean, np.array([3, 3, 3, 1]))
    assert [codes.tolist() for codes in got] == [[1, 0, 3], [2, 2, 0]]


@given(st.data(), st.integers(2, 9))
@settings(deadline=None, max_examples=100)
def test_preferred_classes__are_the_first_of_a_stable_sort(data, classes):
    few = st.sampled_from([-1e30, -2.0, -1e-300, -0.0, 0.0, 1.0, 1e30])
    mean = data.draw(hnp.arrays(np.float64, (3, classes), elements=few))
    count = data.draw(hnp.arrays(np.int64, classes, elements=st.integers(0, 2)))
    mean[:, count == 0] = np.nan
    before = mean.copy()
    got = preferred_classes(mean, count)
    code = np.flatnonzero(count)
    for unit, values in enumerate(mean[:, code]):
        order = code[np.argsort(-values, kind="stable")].tolist()
        if code.size > 1 and np.unique(values).size == 1:
            order = []
        expected = [*order, -1, -1][:2]
        assert [got.preferred[unit], got.runner_up[unit]] == expected
    np.testing.assert_array_equal(mean, before)


def test_preferred_classes__empty_classes_are_passed_over():
    mean = np.array([[np.nan, -5, np.nan, -6]])
    got = preferred_classes(mean, np.array([0, 3, 0, 1]))
    assert [codes.tolist() for codes in got] == [[1], [3]]


@st.composite
def recordings(draw):
    images = draw(st.integers(2, 40))
    value = draw(
        st.sampled_from([st.integers(-3, 3).map(float), st.integers(0, 5000).map(lambda v: v / 8)])
    )
    responses = draw(hnp.arrays(np.float32, (3, images), elements=value))
    label = draw(hnp.arrays(np.int64, images, elements=st.integers(0, CLASSES - 1)))
    return responses, label


def assert_same(one, other, names=None):
    """`names[c]` is what class c of `one` is called in `other`."""
    for key, values in one.items():
        if key == "preferred" and names is not None:
            continue  # equal means go to the lower code, which another name changes
        pairs = zip(values, other[key], strict=True) if isinstance(values, tuple) else [
            (values, other[key])
        ]  # fmt: skip
        for left, right in pairs:
            by_class = names is not None and left.ndim == 2
            again = right[:, names] if by_class else right
            np.testing.assert_allclose(left, again, rtol=1e-9, atol=1e-12)


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_statistics__do_not_depend_on_image_order(recording, random):
    responses, label = recording
    order = list(range(label.size))
    random.shuffle(order)
    assert_same(statistics(responses, label), statistics(responses[:, order], label[order]))


@given(recordings(), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=40)
def test_statistics__follow_a_relabelling_of_classes(recording, names):
    responses, label = recording
    names = np.array(names)
    assert_same(statistics(responses, label), statistics(responses, names[label]), names)


@given(recordings())
@settings(deadline=None, max_examples=60)
def test_statistics__stay_in_range_for_any_recording(recording):
    got = statistics(*recording)
    shares = ["auroc", "selectivity", "sparseness"]
    unit_range = [got[key] for key in shares]
    unit_range += [got["mann_whitney"].p, got["kruskal"].p, got["anova"].p]
    unit_range += [got["kruskal"].epsilon2, got["anova"].eta2]
    for values in unit_range:
        assert np.all((values >= 0) & (values <= 1))
    assert not np.isnan(got["g"]).any()
    assert (got["kruskal"].h >= 0).all()
    assert (got["anova"].f >= 0).all()


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_rank_tests__equal_scipy_for_any_ties(recording):
    responses, label = recording
    got = statistics(responses, label)
    for unit, values in enumerate(responses):
        if np.unique(label).size < 2 or np.ptp(values) == 0:
            continue
        expected = stats.kruskal(*groups(values, label))
        np.testing.assert_allclose(
            got["kruskal"].h[unit], expected.statistic, rtol=1e-9, atol=1e-11
        )
        np.testing.assert_allclose(got["kruskal"].p[unit], expected.pvalue, rtol=1e-9)
        for c in np.unique(label):
            expected = stats.mannwhitneyu(*sides(values, label, c), method="asymptotic")
            np.testing.assert_allclose(got["mann_whitney"].p[unit, c], expected.pvalue, rtol=1e-9)


@pytest.mark.parametrize("block", [1, 2, 4])
def test_statistics__do_not_depend_on_block_size(recording, result, block):
    responses, label = recording
    for start in range(0, len(responses), block):
        part = statistics(responses[start : start + block], label)
        for key, values in result.items():
            pairs = zip(values, part[key], strict=True) if isinstance(values, tuple) else [
                (values, part[key])
            ]  # fmt: skip
            for whole, piece in pairs:
                np.testing.assert_array_equal(piece, whole[start : start + block])


@pytest.mark.parametrize("cut", [1, 100, 101, 610])
def test_moment_statistics__merged_from_image_blocks_equal_the_whole(recording, result, cut):
    responses, label = recording
    halves = (slice(None, cut), slice(cut, None))
    first, second = (class_moments(responses[:, h], label[h], CLASSES) for h in halves)
    merged = combine_moments(first, second)
    np.testing.assert_allclose(anova(merged).f, result["anova"].f, rtol=1e-8)
    np.testing.assert_allclose(hedges_g(merged), result["g"], rtol=1e-8)
    np.testing.assert_allclose(lifetime_sparseness(merged), result["sparseness"], rtol=1e-9)
