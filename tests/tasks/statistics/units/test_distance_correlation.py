"""Distance correlation against matrices of all distances, in long doubles and in fractions."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from activarium.tasks.statistics.units.distance_correlation import distance_correlation


def doubly_centred(a):
    n = len(a)
    row = a.sum(axis=0) / n
    return a - row - row[:, None] + row.sum() / n


def u_centred(a):
    n = len(a)
    row = a.sum(axis=0)
    centred = a - row / (n - 2) - row[:, None] / (n - 2) + row.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return centred


def direct(x, y, kind):
    """Return distance correlation and bias-corrected square, computed in numbers of a kind."""
    x, y = (np.array([kind(v) for v in each.tolist()]) for each in (x, y))
    distances = [np.abs(v[:, None] - v) for v in (x, y)]
    results = []
    for centre in (doubly_centred, u_centred) if len(x) > 3 else (doubly_centred,):
        a, b = (centre(each) for each in distances)
        square = (a * a).sum() * (b * b).sum()
        product = (a * b).sum()
        # Fractions as large as these are divided before they become a float.
        ratio = float(product * product / square) if square else 0.0
        results.append(np.copysign(np.sqrt(ratio), float(np.sign(product))))
    correlation = np.sqrt(max(results[0], 0.0))
    return correlation, results[1] if len(x) > 3 else 0.0


def assert_direct(responses, target, kind=np.longdouble):
    found = distance_correlation(responses, target)
    expected = np.array([direct(row, target, kind) for row in responses])
    np.testing.assert_allclose(found.correlation**2, expected[:, 0] ** 2, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(found.corrected, expected[:, 1], rtol=1e-9, atol=1e-13)
    return found


@st.composite
def recordings(draw):
    images = draw(st.integers(2, 9))
    value = draw(
        st.sampled_from(
            [
                st.floats(-(2.0**100), 2.0**100, width=32),
                st.integers(-2, 2).map(float),
                st.sampled_from([0.0, -0.0, 1e-45, -1e-45]),
                st.sampled_from([0.0, 1.0, 2.0, 1e30]),
            ]
        )
    )
    responses = draw(hnp.arrays(np.float32, (2, images), elements=value))
    target = draw(hnp.arrays(np.float64, images, elements=st.integers(-4, 4).map(float) | value))
    return responses, target


@pytest.mark.parametrize("images", [3, 4, 5, 6, 20, 131, 300])
@pytest.mark.parametrize("ties", [False, True])
def test_distance_correlation__equals_matrices_of_all_distances(images, ties):
    rng = np.random.default_rng(images)
    target = rng.standard_normal(images)
    responses = rng.standard_normal((8, images)).astype(np.float32)
    responses[1] = np.maximum(responses[1], 0)
    responses[2] = 1e4 + 0.1 * responses[2]
    responses[3] *= 1e30
    responses[4] *= 1e-38
    responses[5] = target**2
    responses[6] = target + 0.3 * responses[6]
    responses[7] = target
    if ties:
        target, responses[:2] = np.round(target), np.round(responses[:2])
    assert_direct(responses, target)


def test_distance_correlation__rounding_does_not_grow_with_the_images():
    rng = np.random.default_rng(6)
    responses, target = rng.standard_normal((1, 1500)).astype(np.float32), rng.standard_normal(1500)
    found = distance_correlation(responses, target)
    correlation, corrected = direct(responses[0], target, np.longdouble)
    np.testing.assert_allclose(found.correlation, correlation, rtol=1e-11)
    np.testing.assert_allclose(found.corrected, corrected, rtol=0, atol=4e-15)


@given(recordings())
@settings(deadline=None, max_examples=60)
def test_distance_correlation__any_values_equal_exact_fractions(recording):
    assert_direct(*recording, kind=Fraction)


def test_distance_correlation__one_huge_value_does_not_swallow_the_rest():
    rng = np.random.default_rng(5)
    responses = rng.standard_normal((3, 14)).astype(np.float32)
    target = responses[0] + 0.1 * rng.standard_normal(14)
    responses[:2, 3] = 1e30, -1e30
    found = assert_direct(responses, target, kind=Fraction)
    assert (found.corrected[:2] != found.corrected[2]).all()
    assert found.corrected[0] > 0.5


def test_distance_correlation__hand_worked_case():
    # x = 0, 1, 3 and y = 0, 2, 1: their doubly centred distances, in thirds and in ninths.
    a = np.array([[-4, 0, 4], [0, -2, 2], [4, 2, -6]]) / 3
    b = np.array([[-10, 8, 2], [8, -10, 2], [2, 2, -4]]) / 9
    # Sums of products 4, of squares 32 / 3 and 40 / 9.
    np.testing.assert_allclose([(a * b).sum(), (a * a).sum(), (b * b).sum()], [4, 32 / 3, 40 / 9])
    found = distance_correlation(np.array([[0, 1, 3]], np.float32), np.array([0.0, 2.0, 1.0]))
    np.testing.assert_allclose(found.correlation, [np.sqrt(4 / np.sqrt(1280 / 27))], rtol=1e-12)


def test_distance_correlation__two_groups_of_two_by_hand():
    # With four images only the middle gap counts, which parts them two and two: the U-centred
    # distances are -2/3 of it within the pairs and 1/3 across. The same pairs give 1, others -1/2.
    responses = np.array([[0, 1, 5, 6], [0, 5, 1, 6]], np.float32)
    found = distance_correlation(responses, np.array([1.0, 2.0, 30.0, 70.0]))
    np.testing.assert_allclose(found.corrected, [1.0, -0.5], rtol=1e-12)
    # One degree of freedom, t = -1 / sqrt(3): P(T > t) = 1/2 + atan(1 / sqrt(3)) / pi = 2/3.
    np.testing.assert_allclose(found.t_p[1], 2 / 3, rtol=1e-12)
    assert found.chi2_p[1] == 1


def test_distance_correlation__balanced_design_is_exactly_zero():
    responses = np.tile(np.array([[0, 0, 1, 1, 7, 7]], np.float32), 50)
    found = distance_correlation(responses, np.tile([0.0, 3.0], 150))
    assert found.correlation.tolist() == [0.0]


@pytest.mark.parametrize("images", [3, 4, 50])
def test_distance_correlation__linear_function_is_one(images):
    target = np.random.default_rng(3).integers(-50, 50, images).astype(float)
    found = distance_correlation(np.stack([target, 5 - 3 * target]).astype(np.float32), target)
    np.testing.assert_allclose(found.correlation, 1.0, rtol=1e-14)
    if images > 3:
        np.testing.assert_allclose(found.corrected, 1.0, rtol=1e-13)


@pytest.mark.parametrize("images", [2, 3, 4, 30])
def test_distance_correlation__constant_unit_or_target_is_zero(images):
    flat = np.full((2, images), 1e4, np.float32)
    flat[1] = np.where(np.arange(images) % 2, 0.0, -0.0)
    steps = np.arange(images, dtype=np.float32)[None]
    for responses, target in ((flat, np.arange(images) + 0.0), (steps, np.full(images, -3.0))):
        found = distance_correlation(responses, target)
        expected = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
        for values, value in zip(found, expected, strict=True):
            assert values.tolist() == [value] * len(responses)


@pytest.mark.parametrize("images", [0, 1])
def test_distance_correlation__fewer_than_two_images_is_zero(images):
    found = distance_correlation(np.zeros((2, images), np.float32), np.zeros(images))
    assert [v.tolist() for v in found] == [[v] * 2 for v in (0.0, 0.0, 1.0, 0.0, 1.0, 0.0)]


def test_distance_correlation__two_images_that_differ_are_one():
    found = distance_correlation(np.array([[1, 4], [2, 2]], np.float32), np.array([5.0, -5.0]))
    assert found.correlation.tolist() == [1.0, 0.0]
    assert found.corrected.tolist() == [0.0, 0.0]
    assert found.t_p.tolist() == found.chi2_p.tolist() == [1.0, 1.0]


def test_distance_correlation__three_images_have_no_test():
    found = distance_correlation(np.array([[1, 4, 2]], np.float32), np.array([5.0, -5.0, 0.0]))
    assert found.correlation[0] > 0.9
    assert [v.tolist() for v in found[1:]] == [[0.0], [1.0], [0.0], [1.0], [0.0]]


def test_distance_correlation__one_image_against_equal_others_has_no_test():
    responses = np.zeros((2, 40), np.float32)
    responses[0, 7] = 0.1
    responses[1, 7] = -1e30
    found = distance_correlation(responses, np.random.default_rng(0).standard_normal(40))
    assert (found.correlation > 0).all()
    for values, value in zip(found[1:], (0.0, 1.0, 0.0, 1.0, 0.0), strict=True):
        assert values.tolist() == [value] * 2


def test_distance_correlation__no_units_is_empty():
    found = distance_correlation(np.empty((0, 9), np.float32), np.arange(9.0))
    assert [v.shape for v in found] == [(0,)] * 6


def test_distance_correlation__p_values_equal_scipy():
    rng = np.random.default_rng(8)
    target = rng.standard_normal(60)
    noise = np.linspace(0.3, 20, 30)[:, None]
    responses = (target + noise * rng.standard_normal((30, 60))).astype(np.float32)
    found = distance_correlation(responses, target)
    degrees = 60 * 57 / 2 - 1
    t = np.sqrt(degrees / (1 - found.corrected**2)) * found.corrected
    assert (found.corrected < 0).any()
    np.testing.assert_allclose(found.t_p, stats.t.sf(t, degrees), rtol=1e-9)
    np.testing.assert_allclose(found.chi2_p, stats.chi2.sf(60 * found.corrected + 1, 1), rtol=1e-9)
    np.testing.assert_allclose(10.0**found.t_log10_p, found.t_p, rtol=1e-12)
    np.testing.assert_allclose(10.0**found.chi2_log10_p, found.chi2_p, rtol=1e-12)


def test_distance_correlation__log10_p_stays_exact_where_p_underflows():
    rng = np.random.default_rng(9)
    target = rng.standard_normal(3000)
    found = distance_correlation(
        (target + 0.2 * rng.standard_normal((1, 3000))).astype("f4"), target
    )
    corrected = found.corrected[0]
    assert found.t_p[0] == found.chi2_p[0] == 0
    with mpmath.workdps(50):
        c = mpmath.mpf(corrected)
        degrees = mpmath.mpf(3000 * 2997 // 2 - 1)
        # The front of the tail of Student's t far out: (1 - c^2)^(d / 2) / (d c B(d / 2, 1 / 2)).
        front = mpmath.log10(1 - c * c) * degrees / 2
        series = mpmath.hyp2f1(0.5, 1, degrees / 2 + 1, 1 - 1 / (c * c))
        tail = mpmath.log10(series / (degrees * c * mpmath.beta(degrees / 2, 0.5)))
        np.testing.assert_allclose(found.t_log10_p, [float(front + tail)], rtol=1e-9)
        chi2 = mpmath.log10(mpmath.erfc(mpmath.sqrt((3000 * c + 1) / 2)))
        np.testing.assert_allclose(found.chi2_log10_p, [float(chi2)], rtol=1e-9)


def test_distance_correlation__chi2_keeps_its_level_and_t_does_not():
    rng = np.random.default_rng(11)
    found = distance_correlation(
        rng.standard_normal((20_000, 50)).astype(np.float32), rng.standard_normal(50)
    )
    assert (found.chi2_p < 0.001).mean() < 0.002
    assert (found.t_p < 0.001).mean() > 0.005


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_distance_correlation__does_not_depend_on_image_order(recording, random):
    responses, target = recording
    order = list(range(target.size))
    random.shuffle(order)
    found = distance_correlation(responses, target)
    shuffled = distance_correlation(np.ascontiguousarray(responses[:, order]), target[order])
    np.testing.assert_allclose(shuffled.correlation**2, found.correlation**2, atol=1e-12)
    np.testing.assert_allclose(shuffled.corrected, found.corrected, atol=1e-12)


def test_distance_correlation__shift_and_scale_of_the_target_change_nothing():
    rng = np.random.default_rng(4)
    responses = rng.standard_normal((5, 100)).astype(np.float32)
    target = rng.integers(-9, 9, 100).astype(float)
    whole = distance_correlation(responses, target)
    for other in (target * 2.0**1000, target * 2.0**-1074, 64 - target, target * 1e307):
        found = distance_correlation(responses, other)
        np.testing.assert_allclose(found.correlation, whole.correlation, rtol=1e-10)
        np.testing.assert_allclose(found.corrected, whole.corrected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_distance_correlation__does_not_depend_on_block_size(rows, monkeypatch):
    rng = np.random.default_rng(rows)
    responses = np.maximum(rng.standard_normal((11, 100)), 0).astype(np.float32)
    target = rng.standard_normal(100)
    whole = distance_correlation(responses, target)
    monkeypatch.setattr("activarium.tasks.statistics.units.spearman._BLOCK_BYTES", 8 * 100 * rows)
    for one, other in zip(whole, distance_correlation(responses, target), strict=True):
        np.testing.assert_array_equal(one, other)


def test_distance_correlation__leaves_its_input_alone_and_takes_views():
    rng = np.random.default_rng(2)
    responses = rng.standard_normal((40, 3)).astype(np.float32)
    target = rng.standard_normal(80)
    before = responses.copy(), target.copy()
    assert_direct(responses.T, target[::2])
    np.testing.assert_array_equal(responses, before[0])
    np.testing.assert_array_equal(target, before[1])


def test_distance_correlation__target_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        distance_correlation(np.zeros((1, 3), np.float32), np.array([0.0, 1.0, np.nan]))
