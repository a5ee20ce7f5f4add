"""p-values of units that answer to few images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.testing.sparse_units import (
    LEAST_OF_CLASSES,
    LEAST_OF_UNITS,
    answers_too_few,
    guard_classes,
    guard_units,
)
from activarium.tasks.statistics.units.preference import (
    kruskal_wallis,
    mann_whitney_p,
    mann_whitney_u,
)

COUNT = np.array([6, 60, 134, 400])
LABEL = np.repeat(np.arange(4), COUNT)


def sparse(units, share, seed=0):
    """Units that answer to a share of the images, whatever their class."""
    rng = np.random.default_rng(seed)
    answers = rng.random((units, LABEL.size)) < share
    return np.where(answers, rng.exponential(size=answers.shape), 0).astype(np.float32)


def test_answers_too_few__counts_expected_images_beside_the_most_frequent_response():
    ranks = rank_units(sparse(1, 0.05), LABEL, 4)
    # Of 400 among 600 images the rest is the smaller side: 200, of which ten are expected.
    assert answers_too_few(ranks.tie_sum, COUNT, least=LEAST_OF_CLASSES).tolist() == [
        [True, True, True, True]
    ]
    half = rank_units(sparse(1, 0.3), LABEL, 4)
    assert answers_too_few(half.tie_sum, COUNT, least=12.0).tolist() == [
        [True, False, False, False]
    ]
    dense = rank_units(sparse(1, 0.9), LABEL, 4)
    assert not answers_too_few(dense.tie_sum, COUNT, least=12.0).any()


def test_answers_too_few__empty_class_is_none():
    ranks = rank_units(sparse(1, 0.01), LABEL, 5)
    assert not answers_too_few(ranks.tie_sum, np.array([*COUNT, 0]), least=12.0)[:, 4].any()


def test_guard_units__takes_the_larger_p_where_it_is_needed_and_known():
    log10_p = np.array([-5.0, -5.0, -1.0, -5.0])
    permutation_p = np.array([0.01, 0.01, 0.001, np.nan])
    found = guard_units(log10_p, permutation_p, np.array([True, False, True, True]))
    np.testing.assert_allclose(found, [-2, -5, -1, -5])


def test_guard_classes__is_fishers_exact_test_where_that_is_larger():
    lowest = np.array([[4, 10]])
    count = np.array([6, 14])
    few = np.array([[True, False]])
    found = guard_classes(np.full((1, 2), -3.0), lowest, count, few)
    sides = [stats.fisher_exact([[2, 4], [4, 10]], side).pvalue for side in ("less", "greater")]
    np.testing.assert_allclose(found, [[np.log10(min(1, 2 * min(sides))), -3]])


def test_guard_classes__keeps_the_level_that_the_normal_tail_loses():
    ranks = rank_units(sparse(4_000, 0.02, seed=1), LABEL, 4)
    u = mann_whitney_u(ranks.rank_sum, COUNT)
    plain = mann_whitney_p(u, COUNT, ranks.tie_sum).log10_p
    few = answers_too_few(ranks.tie_sum, COUNT, least=LEAST_OF_CLASSES)
    guarded = guard_classes(plain, ranks.joint[:, 0], COUNT, few)
    assert (plain[:, 0] <= -3).mean() > 0.005
    assert (guarded[:, 0] <= -3).mean() < 0.002
    assert (guarded >= plain).all()


def test_guard_units__keeps_the_level_that_chi_squared_loses():
    rng = np.random.default_rng(3)
    ranks = rank_units(sparse(4_000, 0.02, seed=2), LABEL, 4)
    plain = kruskal_wallis(ranks.rank_sum, COUNT, ranks.tie_sum).log10_p
    by_permutation = rng.integers(1, 1_001, 4_000) / 1_000
    few = answers_too_few(ranks.tie_sum, COUNT, least=LEAST_OF_UNITS).any(axis=1)
    assert (plain <= -3).mean() > 0.003
    assert (guard_units(plain, by_permutation, few) <= -3).mean() < 0.002


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_guards__constant_units_stay_one(value):
    ranks = rank_units(np.full((1, LABEL.size), value, np.float32), LABEL, 4)
    few = answers_too_few(ranks.tie_sum, COUNT, least=LEAST_OF_CLASSES)
    found = guard_classes(np.zeros((1, 4)), ranks.joint[:, 0], COUNT, few)
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("sizes", [(10, 500), (2, 100), (30, 3_000), (60, 60)])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.45, 0.9])
def test_guard_classes__two_classes_are_one_test_digit_by_digit(sizes, share):
    rng = np.random.default_rng(4)
    count, label = np.array(sizes), np.repeat([0, 1], sizes)
    answers = rng.random((200, label.size)) < np.where(label == 0, 3 * share, share)
    responses = np.where(answers, rng.exponential(size=answers.shape), 0).astype(np.float32)
    ranks = rank_units(responses, label, 2)
    p = mann_whitney_p(mann_whitney_u(ranks.rank_sum, count), count, ranks.tie_sum).log10_p
    few = answers_too_few(ranks.tie_sum, count, least=LEAST_OF_CLASSES)
    guarded = guard_classes(p, ranks.joint[:, 0], count, few)
    for one, other in (p.T, few.T, guarded.T):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_guard_classes__the_large_class_of_two_finds_nothing_by_chance(share):
    rng = np.random.default_rng(5)
    count, label = np.array([10, 500]), np.repeat([0, 1], [10, 500])
    answers = rng.random((4_000, label.size)) < share
    responses = np.where(answers, rng.exponential(size=answers.shape), 0).astype(np.float32)
    ranks = rank_units(responses, label, 2)
    p = mann_whitney_p(mann_whitney_u(ranks.rank_sum, count), count, ranks.tie_sum).log10_p
    guarded = guard_classes(
        p, ranks.joint[:, 0], count, answers_too_few(ranks.tie_sum, count, least=LEAST_OF_CLASSES)
    )
    assert (p[:, 1] <= -3).mean() > 0.003
    assert (guarded[:, 1] <= -3).mean() < 0.002
