"""Units of two layers compared, counted by what they are worth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from activarium.tasks.statistics.layers.depth_trend import jonckheere_terpstra
from activarium.tasks.statistics.layers.layer_comparison import exceeds_p, rises_z

RNG = np.random.default_rng(0)
OWN, OTHER = RNG.normal(0.4, 1, 40), RNG.normal(size=50)


def test_exceeds_p__independent_units_are_mann_whitneys_test():
    found = exceeds_p(OWN, OTHER, own_size=40, other_size=50)
    expected = stats.mannwhitneyu(
        OWN, OTHER, alternative="greater", method="asymptotic", use_continuity=False
    )
    assert found == pytest.approx(expected.pvalue, rel=1e-9)


def test_exceeds_p__copies_of_units_count_once():
    alone = exceeds_p(OWN, OTHER, own_size=40, other_size=50)
    copied = exceeds_p(np.tile(OWN, 7), np.tile(OTHER, 3), own_size=40, other_size=50)
    assert copied == pytest.approx(alone, rel=1e-9)


def test_exceeds_p__sizes_are_from_one_to_the_number_of_units():
    found = exceeds_p(OWN, OTHER, own_size=1e9, other_size=1e9)
    assert found == exceeds_p(OWN, OTHER, own_size=40, other_size=50)
    least = exceeds_p(OWN, OTHER, own_size=float("nan"), other_size=0.2)
    assert least == exceeds_p(OWN, OTHER, own_size=1, other_size=1)


def test_exceeds_p__is_one_sided():
    up, down = (
        exceeds_p(first, second, own_size=9, other_size=9)
        for first, second in ((OWN, OTHER), (OTHER, OWN))
    )
    assert up + down == pytest.approx(1)
    assert up < 0.5


def test_exceeds_p__equal_values_are_one_and_unknown_ones_unknown():
    same = np.full(4, 0.2)
    assert exceeds_p(same, same, own_size=2, other_size=2) == 1
    assert np.isnan(exceeds_p(np.array([np.nan]), same, own_size=1, other_size=2))


def test_rises_z__independent_units_are_jonckheeres_test():
    groups = [RNG.normal(0.2 * depth, 1, size) for depth, size in enumerate((9, 30, 14, 21))]
    found = rises_z(groups, [len(group) for group in groups])
    assert found == pytest.approx(jonckheere_terpstra(groups).z, rel=1e-9)
    assert rises_z(groups[::-1], [99] * 4) == pytest.approx(-found)


def test_rises_z__copies_of_units_count_once():
    groups = [OTHER, OWN, OWN + 0.1]
    copied = [np.tile(group, times) for group, times in zip(groups, (4, 1, 9), strict=True)]
    sizes = [len(group) for group in groups]
    assert rises_z(copied, sizes) == pytest.approx(rises_z(groups, sizes))


def test_rises_z__nothing_to_compare_is_zero():
    assert rises_z([OWN], [40]) == 0
    assert rises_z([np.ones(3), np.ones(5)], [3, 5]) == 0
