"""Quantiles of intervals, and where too few images are active for one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from activarium.tasks.statistics.intervals.confidence import (
    few_active,
    t_quantile,
    t_series,
    two_sided_z,
)


def test_two_sided_z__equals_scipy():
    for level in (0.01, 0.5, 0.95, 1 - 1e-6):
        np.testing.assert_allclose(two_sided_z(level), stats.norm.interval(level)[1], rtol=1e-9)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, float("nan")])
def test_two_sided_z__other_levels_are_refused(level):
    with pytest.raises(ValueError, match=r"expected a level between 0 and 1, such as 0\.95, got"):
        two_sided_z(level)


@pytest.mark.parametrize("level", [0.01, 0.5, 0.95, 0.999, 1 - 1e-6])
def test_t_quantile__equals_scipy(level):
    series = t_series(level)
    for degrees in (8.0, 9.3, 13, 40.5, 1_000, 1e7):
        expected = stats.t.interval(level, degrees)[1]
        assert t_quantile(series, degrees) == pytest.approx(expected, rel=1e-9)


def test_few_active__counts_both_sides_above_the_smallest_response():
    count = np.array([30, 40, 30])
    lowest = np.array([[0, 1, 0], [20, 0, 0], [21, 0, 0], [5, 35, 20], [30, 31, 30]])
    expected = [
        [False, False, False],
        [False, False, False],
        [True, False, False],
        [False, True, False],
        [True, True, True],
    ]
    assert few_active(lowest, count).tolist() == expected


def test_few_active__small_classes_and_large_ones_are_the_same_comparison():
    found = few_active(np.array([[0, 1]]), np.array([9, 500]))
    assert found.tolist() == [[True, True]]
