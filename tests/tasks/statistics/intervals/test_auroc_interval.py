"""Intervals of the AUROC against their formula, their coverage, and their ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.intervals.auroc_interval import auroc_interval
from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.units.preference import auroc

from .slow_intervals import slow_auroc


def interval(responses, count, level=0.95):
    """Return areas and intervals of responses (unit, image) of the classes in order."""
    label = np.repeat(np.arange(len(count)), count)
    ranks = rank_units(np.atleast_2d(responses).astype(np.float32), label, len(count))
    area = auroc(ranks.rank_sum, np.array(count))
    return area, auroc_interval(area, ranks, np.array(count), level=level)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.6])
def test_auroc_interval__equals_its_formula(level, zeros):
    rng = np.random.default_rng(1)
    count = [40, 55, 90]
    responses = np.maximum(np.round(rng.standard_normal((6, 185)), 1), stats.norm.ppf(zeros))
    responses[:, :40] += 0.7
    responses = responses.astype(np.float32)
    _, (low, high) = interval(responses, count, level)
    label = np.repeat(np.arange(3), count)
    for unit, row in enumerate(responses.astype(np.float64)):
        for code in range(3):
            expected = slow_auroc(row[label == code], row[label != code], level)
            np.testing.assert_allclose([low[unit, code], high[unit, code]], expected, rtol=1e-9)


def test_auroc_interval__hand_worked_case():
    # Rest 1 .. 10 and class 5.5 ten times: every image of the class is above five of ten, each of
    # the rest below all or none. Placements vary by 0 and 10 / 9 / 4; expected is 1 / 12.
    area, (low, high) = interval([5.5] * 10 + [*range(1, 11)], [10, 10])
    one, two = 4 / 12 / 13 / 10, (9 * 10 / 36 + 4 / 12) / 13 / 10
    q = stats.t.ppf(0.975, (one + two) ** 2 / ((one**2 + two**2) / 13))
    scale = 4 * q * q * (one + two)
    half = np.sqrt(scale / (1 + scale)) / 2
    assert area[0, 0] == 0.5
    np.testing.assert_allclose([low[0, 0], high[0, 0]], [0.5 - half, 0.5 + half], rtol=1e-9)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("count", [[10, 500], [12, 88], [60, 40]])
def test_auroc_interval__at_the_ends_is_clopper_and_pearsons_for_the_smaller_side(count, level):
    _, (low, high) = interval(-np.arange(sum(count)), count, level)
    all_won = stats.binomtest(min(count), min(count)).proportion_ci(level, "exact")
    np.testing.assert_allclose([low[0, 0], high[0, 0]], [all_won.low, 1], rtol=1e-12)
    np.testing.assert_allclose([low[0, 1], high[0, 1]], [0, 1 - all_won.low], rtol=1e-12)


def test_auroc_interval__few_active_images_empty_class_and_equal_responses_are_undefined():
    rng = np.random.default_rng(2)
    responses = rng.standard_normal((3, 130))
    responses[1, :30] = np.where(np.arange(30) < 21, responses[1].min(), responses[1, :30])
    responses[2] = 4.0
    _, (low, high) = interval(responses, [30, 9, 91, 0])
    expected = [[False, True, False, True], [True, True, False, True], [True] * 4]
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == expected


@given(
    st.lists(st.integers(-4, 40), min_size=10, max_size=30),
    st.lists(st.integers(-4, 40), min_size=10, max_size=30),
)
@settings(deadline=None, max_examples=60)
def test_auroc_interval__holds_the_area_and_mirrors_with_the_responses(positive, negative):
    count = [len(positive), len(negative)]
    values = np.array([*positive, *negative])
    area, (low, high) = interval(values, count)
    if not np.isnan(low).any():
        assert ((low >= 0) & (low <= area) & (area <= high) & (high <= 1) & (low < high)).all()
    else:
        assert np.isnan(low).all()
    np.testing.assert_allclose(low[0, 0], 1 - high[0, 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(high[0, 0], 1 - low[0, 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("sizes", [(10, 500), (20, 180), (100, 900)])
def test_auroc_interval__covers_the_true_area_where_ten_images_are_active(sizes, shift, zeros):
    rng = np.random.default_rng(3)
    edge = stats.norm.ppf(zeros) if zeros else -np.inf
    trials = 1_200
    responses = rng.standard_normal((trials, sum(sizes)))
    responses[:, : sizes[0]] += shift
    _, (low, high) = interval(np.maximum(responses, edge), sizes)
    grid = np.linspace(-9, 11, 200_001)
    own, rest = (np.diff(stats.norm.cdf(grid, loc)) for loc in (shift, 0.0))
    place = np.cumsum(np.diff(np.maximum(grid[:-1], edge), prepend=-9) > 0)
    own, rest = np.bincount(place, own), np.bincount(place, rest)
    area = own @ (np.cumsum(rest) - rest / 2)
    given = ~np.isnan(low[:, 0])
    # Where intervals are the exception, the images that make them are too.
    if given.mean() > 0.6:
        held = ((low[:, 0] <= area) & (area <= high[:, 0]))[given].mean()
        assert 0.91 < held < 0.995
