"""Tail probabilities against mpmath, from one to 1e-100000 and beyond."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.tail_probabilities import (
    chi2_log10_sf,
    f_log10_sf,
    normal_two_sided_log10_p,
)


@pytest.fixture(autouse=True)
def precision():
    # Enough digits to tell p = 1 - 1e-300 from one.
    with mpmath.workdps(400):
        yield


def exact_chi2(x, df):
    p = mpmath.gammainc(mpmath.mpf(df) / 2, mpmath.mpf(x) / 2, mpmath.inf, regularized=True)
    return float(mpmath.log10(p))


def exact_f(f, dfn, dfd):
    f, n, d = mpmath.mpf(f), mpmath.mpf(dfn), mpmath.mpf(dfd)
    a, b, y = d / 2, n / 2, d / (d + n * f)
    front = a * mpmath.log(y) + b * mpmath.log(1 - y) - mpmath.log(a)
    beta = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
    series = mpmath.log(mpmath.hyp2f1(a + b, 1, a + 1, y))
    return float((front - beta + series) / mpmath.log(10))


def exact_normal(z):
    return float(mpmath.log10(mpmath.erfc(mpmath.mpf(z) / mpmath.sqrt(2))))


@pytest.mark.parametrize("df", [1, 2, 3, 9, 99, 999])
def test_chi2__equals_mpmath_from_one_to_1e_100000(df):
    x = np.array([1e-6, 0.01, 0.3, 1, 5, 0.9 * df, df, 1.1 * df, 40, 800, 1290, 1300, 4e3, 470e3])
    np.testing.assert_allclose(chi2_log10_sf(x, df), [exact_chi2(v, df) for v in x], rtol=1e-9)


@pytest.mark.parametrize("dfn", [1, 2, 9, 99])
@pytest.mark.parametrize("dfd", [1, 2, 5, 90, 990, 9990])
def test_f__equals_mpmath_from_one_to_1e_100000(dfn, dfd):
    f = np.array([0.1, 0.5, 0.95, 1, 1.1, 2, 5, 17, 1e2, 1e4, 1e8, 1e16, 1e23, 1e80])
    expected = [exact_f(v, dfn, dfd) for v in f]
    np.testing.assert_allclose(f_log10_sf(f, dfn, dfd), expected, rtol=1e-9)


def test_normal__equals_mpmath_from_one_to_1e_100000():
    z = np.array([1e-12, 1e-3, 0.1, 0.7, 0.71, 1, 2, 5, 8, 20, 37, 38, 39, 100, 680])
    expected = [exact_normal(v) for v in z]
    np.testing.assert_allclose(normal_two_sided_log10_p(z), expected, rtol=1e-9)
    np.testing.assert_array_equal(normal_two_sided_log10_p(-z), normal_two_sided_log10_p(z))
    assert normal_two_sided_log10_p(680) < -1e5


def test_f__many_degrees_of_freedom_equal_mpmath():
    # 1,000 classes and 50,000 images, within and beyond the range of a double.
    f = np.array([1.05, 1.5, 3.0, 10.0])
    expected = [exact_f(v, 999, 49000) for v in f]
    np.testing.assert_allclose(f_log10_sf(f, 999, 49000), expected, rtol=1e-9)


def test_tails__hand_worked_cases():
    # chi2 with two degrees of freedom is exponential; F(f, 2, 2) = 1 / (1 + f); 1.96 sd is 5 %.
    np.testing.assert_allclose(chi2_log10_sf(2e5, 2), -1e5 / np.log(10), rtol=1e-12)
    np.testing.assert_allclose(f_log10_sf([1, 9, 99], 2, 2), [np.log10(0.5), -1, -2], rtol=1e-12)
    np.testing.assert_allclose(
        normal_two_sided_log10_p(1.959963984540054), np.log10(0.05), rtol=1e-12
    )


def test_tails__equal_scipy_where_it_does_not_underflow():
    x = np.array([0.2, 3.0, 50.0, 400.0])
    np.testing.assert_allclose(chi2_log10_sf(x, 7), np.log10(stats.chi2.sf(x, 7)), rtol=1e-9)
    np.testing.assert_allclose(f_log10_sf(x, 4, 30), np.log10(stats.f.sf(x, 4, 30)), rtol=1e-9)
    z = np.array([0.3, 2.0, 30.0])
    expected = np.log10(2 * stats.norm.sf(z))
    np.testing.assert_allclose(normal_two_sided_log10_p(z), expected, rtol=1e-9)


def test_tails__ends_follow_their_rule():
    ends = np.array([0.0, -0.0, -1.0, np.inf, np.nan])
    expected = [0, 0, 0, -np.inf, np.nan]
    np.testing.assert_array_equal(chi2_log10_sf(ends, 3), expected)
    np.testing.assert_array_equal(f_log10_sf(ends, 3, 10), expected)
    two_sided = normal_two_sided_log10_p(np.array([0.0, -0.0, -np.inf, np.inf, np.nan]))
    np.testing.assert_array_equal(two_sided, [0, 0, -np.inf, -np.inf, np.nan])
    assert not np.signbit(chi2_log10_sf(np.array([0.0, 1e-300]), 999)).any()


def test_tails__largest_numbers_stay_finite():
    for tail in (
        chi2_log10_sf(1e308, 9),
        f_log10_sf(1e308, 9, 990),
        normal_two_sided_log10_p(1e100),
    ):
        assert np.isfinite(tail)
        assert tail < -1e4


def test_tails__broadcast_and_take_scalars():
    assert chi2_log10_sf(1.0, 1).shape == ()
    assert chi2_log10_sf(np.ones((2, 1)), np.array([1, 2, 3])).shape == (2, 3)
    assert f_log10_sf(np.ones((2, 1)), np.array([1, 2, 3]), 5).shape == (2, 3)
    assert normal_two_sided_log10_p(np.empty((0, 3))).shape == (0, 3)
    assert f_log10_sf(np.empty(0), 2, 5).shape == (0,)


@given(st.integers(1, 200), st.integers(1, 20000), st.floats(0.01, 1e4), st.floats(1.001, 3))
@settings(deadline=None, max_examples=60)
def test_tails__fall_as_the_statistic_grows(dfn, dfd, statistic, factor):
    both = np.array([statistic, statistic * factor])
    for tail in (chi2_log10_sf(both, dfn), f_log10_sf(both, dfn, dfd)):
        assert tail[1] <= tail[0] <= 0


@pytest.mark.parametrize("df", [0, -1, np.nan])
def test_tails__degrees_of_freedom_must_be_positive(df):
    with pytest.raises(ValueError, match="df must be above 0"):
        chi2_log10_sf(1.0, df)
    with pytest.raises(ValueError, match="dfn must be above 0"):
        f_log10_sf(1.0, df, 3)
    with pytest.raises(ValueError, match="dfd must be above 0"):
        f_log10_sf(1.0, 3, df)
