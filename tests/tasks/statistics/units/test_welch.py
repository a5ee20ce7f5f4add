"""Welch's test against SciPy and statsmodels, by hand, and where variances vanish."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from activarium.tasks.statistics.merged_moments import combine_moments
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.preference import anova
from activarium.tasks.statistics.units.welch import welch_f

from ..moment_examples import (
    CLASSES,
    groups,
    moments_of,
    recording,
    recordings,
    relabelled,
    reordered,
    rounded_constant,
    unitless,
)

VARYING = [0, 1, 2, 3, 4, 5, 6, 8]


def fields(result):
    return [float(values[0]) for values in result]


@pytest.mark.parametrize("unit", VARYING)
def test_welch_f__equals_scipy_and_statsmodels(unit):
    responses, label = recording()
    got = welch_f(class_moments(responses, label, CLASSES))
    parts = groups(unitless(responses[unit]), label, least=2)
    expected = stats.f_oneway(*parts, equal_var=False)
    np.testing.assert_allclose(got.f[unit], expected.statistic, rtol=1e-9)
    np.testing.assert_allclose(got.p[unit], expected.pvalue, rtol=1e-9)
    expected = anova_oneway(parts, use_var="unequal")
    np.testing.assert_allclose(got.f[unit], expected.statistic, rtol=1e-9)
    np.testing.assert_allclose(got.p[unit], expected.pvalue, rtol=1e-9)
    np.testing.assert_allclose(got.df_within[unit], expected.df_denom, rtol=1e-9)


def test_welch_f__hand_worked_case():
    # Means 2 and 7, variances 2 and 8, so squared errors 1 and 4: F = 25 / 5 on 25 / (1 + 16).
    got = welch_f(moments_of([1, 3, 5, 9], [0, 0, 1, 1]))
    np.testing.assert_allclose(got.f, [5], rtol=1e-14)
    np.testing.assert_allclose(got.df_within, [25 / 17], rtol=1e-14)
    np.testing.assert_allclose(got.log10_p, np.log10(got.p), rtol=1e-12)


def test_welch_f__of_two_classes_is_the_square_of_welchs_t():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(0, s, n).astype(np.float32) for s, n in ((1, 9), (5, 30)))
    got = welch_f(moments_of([*first, *second], [0] * 9 + [1] * 30))
    parts = first.astype(np.float64), second.astype(np.float64)
    expected = stats.ttest_ind(*parts, equal_var=False)
    np.testing.assert_allclose(got.f, [expected.statistic**2], rtol=1e-9)
    np.testing.assert_allclose(got.df_within, [expected.df], rtol=1e-9)
    np.testing.assert_allclose(got.p, [expected.pvalue], rtol=1e-9)


def test_welch_f__log10_p_holds_where_p_underflows():
    rng = np.random.default_rng(0)
    label = np.arange(6000) % 3
    values = label + 0.02 * (1 + label) * rng.standard_normal(6000)
    got = welch_f(moments_of(values, label))
    assert got.p[0] == 0
    with mpmath.workdps(50):
        f, df = mpmath.mpf(got.f[0]), mpmath.mpf(got.df_within[0])
        tail = mpmath.betainc(df / 2, 1, 0, df / (df + 2 * f), regularized=True)
        np.testing.assert_allclose(got.log10_p, [float(mpmath.log10(tail))], rtol=1e-9)


def exact_f(values, label):
    """Return F in rational arithmetic."""
    parts = [[Fraction(float(v)) for v in part] for part in groups(values, label)]
    n = [len(part) for part in parts]
    mean = [sum(part) / len(part) for part in parts]
    var = [sum((v - m) ** 2 for v in p) / (len(p) - 1) for p, m in zip(parts, mean, strict=True)]
    weight = [k / v for k, v in zip(n, var, strict=True)]
    centre = sum(w * m for w, m in zip(weight, mean, strict=True)) / sum(weight)
    k = len(parts)
    between = sum(w * (m - centre) ** 2 for w, m in zip(weight, mean, strict=True)) / (k - 1)
    spread = sum((1 - w / sum(weight)) ** 2 / (m - 1) for w, m in zip(weight, n, strict=True))
    return float(between / (1 + Fraction(2 * (k - 2), k * k - 1) * spread))


@pytest.mark.parametrize("scale", [1e-15, 1e-10, 1.0, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_welch_f__equals_exact_arithmetic(scale, offset):
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1, 2], [5, 8, 11])
    values = (offset + rng.standard_normal(24)).astype(np.float32)
    values[label == 1] = (scale * rng.standard_normal(8)).astype(np.float32)
    got = welch_f(moments_of(values, label))
    np.testing.assert_allclose(got.f, [exact_f(values, label)], rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
@pytest.mark.parametrize("images", [2, 3, 1001])
def test_welch_f__constant_unit_is_not_significant(value, images):
    got = welch_f(moments_of([value] * images, np.arange(images) % 3))
    assert fields(got) == pytest.approx([0, np.nan, 1, 0], abs=0, nan_ok=True)


def test_welch_f__rounding_in_moments_of_a_constant_unit_is_no_difference():
    assert fields(welch_f(rounded_constant())) == pytest.approx(
        [0, np.nan, 1, 0], abs=0, nan_ok=True
    )


@pytest.mark.parametrize("label", [[1, 1, 1], [0, 1, 2], [0, 0, 1]])
def test_welch_f__fewer_than_two_classes_of_two_images_say_nothing(label):
    got = welch_f(moments_of([1, 2, 5], label))
    assert fields(got) == pytest.approx([0, np.nan, 1, 0], abs=0, nan_ok=True)


def test_welch_f__no_images_say_nothing():
    got = welch_f(class_moments(np.empty((2, 0), np.float32), np.empty(0, np.int64), 3))
    np.testing.assert_array_equal(got.f, 0)
    np.testing.assert_array_equal(got.p, 1)


@pytest.mark.parametrize("still", [0.0, -0.0, 0.1, 1e-45, 1e30])
def test_welch_f__some_class_without_variance_is_undefined(still):
    got = welch_f(moments_of([still, still, still, 1, 2, 3, 5], [0, 0, 0, 1, 1, 2, 2]))
    assert all(np.isnan(values[0]) for values in got)


def test_welch_f__different_means_without_any_variance_are_infinite():
    got = welch_f(moments_of([0, 0, 0.1, 0.1, 0.1], [0, 0, 1, 1, 1]))
    assert fields(got) == pytest.approx([np.inf, np.nan, 0, -np.inf], abs=0, nan_ok=True)


def test_welch_f__equal_means_without_any_variance_are_not_significant():
    # The lone image of class 2 differs, so that the unit is not constant.
    got = welch_f(moments_of([0.1, 0.1, 0.1, 0.1, 0.1, 7], [0, 0, 1, 1, 1, 2]))
    assert fields(got) == pytest.approx([0, np.nan, 1, 0], abs=0, nan_ok=True)


def test_welch_f__classes_of_one_image_and_none_are_left_out():
    some = welch_f(moments_of([1, 3, 5, 9, 40], [0, 0, 2, 2, 4]))
    alone = welch_f(moments_of([1, 3, 5, 9], [0, 0, 1, 1], 2))
    for one, other in zip(some, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_welch_f__keeps_its_level_where_variances_differ_and_anova_does_not():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [10, 40, 80])
    responses = rng.standard_normal((2000, label.size)) * np.array([4, 2, 1])[label]
    moments = class_moments(responses.astype(np.float32), label, 3)
    # Four standard errors of a share of 0.05 are 0.02.
    assert abs((welch_f(moments).p <= 0.05).mean() - 0.05) < 0.02
    assert (anova(moments).p <= 0.05).mean() > 0.15


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_welch_f__does_not_depend_on_image_order(sample, random):
    whole = welch_f(class_moments(*sample, CLASSES))
    assert_same(whole, welch_f(reordered(*sample, random)))


@given(recordings(), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=40)
def test_welch_f__does_not_depend_on_class_names(sample, names):
    whole = welch_f(class_moments(*sample, CLASSES))
    assert_same(whole, welch_f(relabelled(*sample, names)))


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_welch_f__is_a_test_or_undefined_for_any_recording(sample):
    got = welch_f(class_moments(*sample, CLASSES))
    undefined = np.isnan(got.f)
    np.testing.assert_array_equal(undefined, np.isnan(got.p))
    assert (got.f[~undefined] >= 0).all()
    assert ((got.p[~undefined] >= 0) & (got.p[~undefined] <= 1)).all()


@pytest.mark.parametrize("block", [1, 2, 4])
def test_welch_f__does_not_depend_on_block_size(block):
    responses, label = recording()
    whole = welch_f(class_moments(responses, label, CLASSES))
    for start in range(0, len(responses), block):
        part = welch_f(class_moments(responses[start : start + block], label, CLASSES))
        for one, other in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, other[start : start + block])


@pytest.mark.parametrize("cut", [1, 100, 101, 610])
def test_welch_f__merged_from_image_blocks_equals_the_whole(cut):
    responses, label = recording()
    halves = (slice(None, cut), slice(cut, None))
    first, second = (class_moments(responses[:, h], label[h], CLASSES) for h in halves)
    whole = welch_f(class_moments(responses, label, CLASSES))
    np.testing.assert_allclose(welch_f(combine_moments(first, second)).f, whole.f, rtol=1e-8)
