"""p-values from the moments of permuted labels, against all permutations and many random ones."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from activarium.tasks.statistics.permutation_moments import beta_p, share_variance
from activarium.tasks.statistics.permutations import permuted_effects


def shares(values, label, orders):
    """Return the share of squares between classes under each order of the labels."""
    value = values - values.mean()
    classes = np.unique(label)
    found = []
    for order in orders:
        permuted = label[list(order)]
        sums = [value[permuted == code].sum() ** 2 / (permuted == code).sum() for code in classes]
        found.append(sum(sums) / (value**2).sum())
    return np.array(found)


def fourth_of(values):
    value = values - values.mean()
    return (value**4).sum() / (value**2).sum() ** 2


@pytest.mark.parametrize(
    "label", [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 2, 2]]
)
def test_share_variance__is_that_of_all_permutations(label):
    label = np.array(label)
    values = np.random.default_rng(len(label)).exponential(size=len(label))
    found = shares(values, label, permutations(range(len(label))))
    count = np.bincount(label)
    classes, images = len(count), len(label)
    assert found.mean() == pytest.approx((classes - 1) / (images - 1))
    assert share_variance(count, fourth_of(values)) == pytest.approx(found.var(), rel=1e-9)


def test_share_variance__empty_classes_change_nothing():
    full = share_variance(np.array([3, 5, 4]), 0.2)
    assert share_variance(np.array([3, 0, 5, 4, 0]), 0.2) == pytest.approx(full, rel=1e-12)


def test_beta_p__is_the_f_test_where_values_are_normal_and_classes_equal():
    rng = np.random.default_rng(0)
    values, label = rng.normal(size=3_000), np.arange(3_000) % 10
    share = shares(values, label, [range(3_000)])[0]
    expected = stats.f_oneway(*(values[label == code] for code in range(10))).pvalue
    found = beta_p(np.array([share]), np.bincount(label), fourth_of(values))
    assert found.p[0] == pytest.approx(expected, rel=0.01)


def test_beta_p__keeps_its_level_for_a_sparse_unit_and_a_small_class():
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1, 2], [6, 94, 400])
    values = np.zeros(500)
    values[rng.choice(500, 12, replace=False)] = rng.exponential(size=12)
    ranks = stats.rankdata(values).astype(np.float32)[None]
    permuted = permuted_effects(ranks, label, 3, permutations=40_000, seed=2).permuted[0]
    fourth = fourth_of(ranks[0].astype(float))
    p = beta_p(permuted.astype(np.float64), np.bincount(label), fourth).p
    chi2 = stats.chi2.sf(permuted * 499, 2)
    assert (chi2 <= 0.001).mean() > 0.006
    assert (p <= 0.001).mean() < 0.004
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_beta_p__falls_with_the_share_and_stays_exact_far_out():
    found = beta_p(np.linspace(0.02, 0.9, 12), np.array([300, 300, 400]), 2e-3)
    assert (np.diff(found.log10_p) < 0).all()
    assert found.log10_p[-1] < -300
    assert found.p[-1] == 0


@pytest.mark.parametrize(
    ("share", "count", "fourth"),
    [(0.0, [5, 5], 0.0), (0.0, [9], 0.2), (1.0, [1, 1, 1, 1], 0.3), (0.5, [1, 1], 0.5)],
)
def test_beta_p__is_one_where_no_permutation_changes_anything(share, count, fourth):
    found = beta_p(np.array([share]), np.array(count), fourth)
    assert (found.p[0], found.log10_p[0]) == (1, 0)


def test_beta_p__broadcasts_over_units_and_classes():
    count = np.array([[6, 94], [40, 60]])
    found = beta_p(np.full((3, 2), 0.1), count, np.full((3, 1), 0.02))
    assert found.p.shape == (3, 2)
    alone = beta_p(np.array([0.1]), count[1], 0.02)
    np.testing.assert_allclose(found.p[:, 1], alone.p[0], rtol=1e-12)
