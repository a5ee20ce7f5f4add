"""Intervals of the AUROC against their formulas, their coverage, and their ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.intervals.auroc_interval import delong_interval

COUNT = np.array([12, 30, 58])


def area_and_variance(positive, negative):
    """Return AUROC and DeLong's variance of one class against the rest, pair by pair."""
    above = positive[:, None] - negative[None, :]
    won = (above > 0) + 0.5 * (above == 0)
    by_positive, by_negative = won.mean(axis=1), won.mean(axis=0)
    variance = by_positive.var(ddof=1) / positive.size + by_negative.var(ddof=1) / negative.size
    return won.mean(), variance


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_delong_interval__is_normal_on_the_scale_of_the_logit(level):
    area = np.array([[0.5, 0.9, 0.01], [0.999, 0.3, 0.75]])
    variance = np.array([[0.01, 0.002, 1e-5], [1e-6, 0.02, 1e-12]])
    got = delong_interval(area, variance, COUNT, level=level)
    sd = np.sqrt(variance) / (area * (1 - area))
    ends = stats.norm.interval(level, np.log(area / (1 - area)), sd)
    for one, end in zip(got, ends, strict=True):
        np.testing.assert_allclose(one, np.exp(end) / (1 + np.exp(end)), rtol=1e-9)


def test_delong_interval__hand_worked_case():
    # Logit of 0.8 is ln 4; sd 0.16 / (0.8 x 0.2) = 1: 4 e^z / (1 + 4 e^z).
    low, high = delong_interval(np.array([[0.8, 0.2]]), np.full((1, 2), 0.16**2), np.array([5, 9]))
    odds = 4 * np.exp(1.959963984540054 * np.array([-1, 1]))
    np.testing.assert_allclose([low[0, 0], high[0, 0]], odds / (1 + odds), rtol=1e-12)
    np.testing.assert_allclose([high[0, 1], low[0, 1]], 1 / (1 + odds), rtol=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("count", [[1, 1], [1, 500], [12, 88], [60, 40]])
def test_delong_interval__at_the_ends_is_clopper_and_pearsons_for_the_smaller_side(count, level):
    area, variance = np.array([[1.0, 0.0]]), np.array([[0.0, np.nan]])
    low, high = delong_interval(area, variance, np.array(count), level=level)
    all_won = stats.binomtest(min(count), min(count)).proportion_ci(level, "exact")
    np.testing.assert_allclose([low[0, 0], high[0, 0]], [all_won.low, 1], rtol=1e-12)
    np.testing.assert_allclose([low[0, 1], high[0, 1]], [0, 1 - all_won.low], rtol=1e-12)


def test_delong_interval__undefined_variance_empty_class_and_equal_responses_are_undefined():
    area = np.array([[0.5, 0.7, 0.5, 0.5]])
    variance = np.array([[0.0, np.nan, 0.01, 0.01]])
    low, high = delong_interval(area, variance, np.array([10, 10, 0, 3]))
    assert np.isnan(low[0]).tolist() == [True, True, True, False]
    assert np.isnan(high[0]).tolist() == [True, True, True, False]


@pytest.mark.parametrize("area", [0.0, 0.5, 1.0])
def test_delong_interval__class_with_all_images_and_no_images_are_undefined(area):
    values = np.array([[area, area]])
    for count in ([7, 0], [0, 0]):
        low, high = delong_interval(values, np.zeros((1, 2)), np.array(count))
        assert np.isnan(low).all()
        assert np.isnan(high).all()


@given(
    st.lists(st.integers(-4, 4), min_size=2, max_size=12),
    st.lists(st.integers(-4, 4), min_size=2, max_size=12),
)
@settings(deadline=None, max_examples=60)
def test_delong_interval__holds_the_area_and_mirrors_with_the_responses(positive, negative):
    positive, negative = np.array(positive), np.array(negative)
    count = np.array([positive.size, negative.size])
    area, variance = area_and_variance(positive, negative)
    pair = np.array([[area, 1 - area]])
    low, high = delong_interval(pair, np.full((1, 2), variance), count)
    tied = np.ptp(np.concatenate([positive, negative])) == 0
    assert np.isnan(low).tolist() == [[tied, tied]]
    if not tied:
        assert ((low >= 0) & (low <= pair + 1e-12) & (pair <= high + 1e-12) & (high <= 1)).all()
        assert (high > low).all()
        np.testing.assert_allclose(low[0, 0], 1 - high[0, 1], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(high[0, 0], 1 - low[0, 1], rtol=1e-9, atol=1e-12)


def coverage(area, sizes, trials=1500):
    """Return the share of normal samples whose interval holds the true area, and of areas of 1."""
    rng = np.random.default_rng(0)
    distance = np.sqrt(2) * stats.norm.ppf(area)
    held = np.empty(trials, bool)
    complete = np.empty(trials, bool)
    for trial in range(trials):
        positive, negative = (rng.standard_normal(size) for size in sizes)
        found, variance = area_and_variance(positive + distance, negative)
        pair = np.array([[found, 1 - found]])
        low, high = delong_interval(pair, np.full((1, 2), variance), np.array(sizes))
        held[trial] = low[0, 0] <= area <= high[0, 0]
        complete[trial] = found == 1
    return held.mean(), complete.mean()


@pytest.mark.parametrize("area", [0.5, 0.76, 0.95])
@pytest.mark.parametrize("sizes", [(15, 60), (50, 50)])
def test_delong_interval__covers_the_true_area(area, sizes):
    held, _ = coverage(area, sizes)
    # Four standard errors of a share of 0.95 are 0.023.
    assert held > 0.927


@pytest.mark.parametrize("sizes", [(5, 20), (10, 10), (3, 100)])
def test_delong_interval__covers_an_area_at_which_complete_separation_is_common(sizes):
    held, complete = coverage(0.985, sizes)
    assert complete > 0.25
    assert held > 0.95
