"""Trends over depth against SciPy, exhaustive permutations and a published example."""

from __future__ import annotations

from itertools import combinations, permutations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.layers.depth_trend import jonckheere_terpstra, spearman_trend


def by_pairs(groups):
    """Count J pair by pair."""
    return sum(
        (x < y) + 0.5 * (x == y)
        for first, second in combinations(groups, 2)
        for x in first
        for y in second
    )


def split(values, sizes):
    return np.split(np.asarray(values, float), np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("layers", [10, 11, 60, 300])
@pytest.mark.parametrize("slope", [0.0, 0.03, -0.1])
@pytest.mark.parametrize("step", [0.01, 2.0])
def test_spearman__equals_scipy(layers, slope, step):
    rng = np.random.default_rng(layers)
    depth = np.arange(layers) // 2
    value = np.round((slope * depth + rng.standard_normal(layers)) / step) * step
    found = spearman_trend(depth, value)
    expected = stats.spearmanr(depth, value)
    assert found.rho == pytest.approx(expected.statistic, rel=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.log10_p == pytest.approx(np.log10(expected.pvalue), rel=1e-9)
    assert found.layers == layers


@settings(max_examples=25, deadline=None)
@given(data=st.data(), layers=st.integers(3, 6))
def test_spearman__of_few_layers_counts_all_orders(data, layers):
    values = st.lists(st.integers(0, 4), min_size=layers, max_size=layers)
    depth, value = np.array(data.draw(values)), np.array(data.draw(values), float)
    found = spearman_trend(depth, value)
    x, y = stats.rankdata(depth), stats.rankdata(value)
    x, y = x - x.mean(), y - y.mean()
    if not x.any() or not y.any():
        assert np.isnan(found.rho)
        assert found[1:] == (1.0, 0.0, layers)
        return
    products = np.array([x @ y[list(order)] for order in permutations(range(layers))])
    assert found.p == pytest.approx(np.mean(np.abs(products) >= abs(x @ y) - 1e-9), rel=1e-12)
    assert found.rho == pytest.approx(stats.spearmanr(depth, value).statistic, rel=1e-9)
    assert found.log10_p == pytest.approx(np.log10(found.p), rel=1e-9)


@pytest.mark.parametrize(
    ("value", "rho", "level", "significant"),
    [
        ([1, 2, 3, 4, 8, 9, 6, 7, 5], 0.7, 0.05, True),
        ([1, 2, 3, 4, 8, 9, 7, 6, 5], 0.6833, 0.05, False),
        ([1, 2, 3, 4, 5, 9, 8, 7, 6], 0.8333, 0.01, True),
        ([1, 2, 3, 4, 6, 7, 9, 8, 5], 0.8167, 0.01, False),
    ],
)
def test_spearman__of_nine_layers_turns_at_published_critical_values(
    value, rho, level, significant
):
    # Zar (1972), Significance testing of the Spearman rank correlation coefficient: of nine pairs
    # 0.700 is the smallest coefficient significant at 5 %, two-sided, and 0.833 at 1 %.
    found = spearman_trend(np.arange(9), np.array(value, float))
    assert found.rho == pytest.approx(rho, abs=1e-4)
    assert (found.p <= level) == significant


def test_spearman__by_hand():
    up = np.array([1.0, 2, 3, 4])
    assert spearman_trend(np.arange(4), up)[:2] == (1.0, 2 / 24)
    assert spearman_trend(np.arange(4), -up)[:2] == (-1.0, 2 / 24)
    # One swap: 1 - 6 * 2 / 60, and 4 of 24 orders are as far each way counting the perfect one.
    found = spearman_trend(np.arange(4), np.array([2.0, 1, 3, 4]))
    assert found.rho == pytest.approx(0.8, rel=1e-15)
    assert found.p == pytest.approx(2 * 4 / 24, rel=1e-15)


def test_spearman__perfect_trend_of_many_layers_has_p_zero():
    found = spearman_trend(np.arange(10), np.arange(10.0))
    assert found == (1.0, 0.0, -np.inf, 10)


def test_spearman__p_that_underflows_keeps_its_logarithm():
    value = np.arange(400.0)
    value[[7, 8]] = value[[8, 7]]
    found = spearman_trend(np.arange(400), value)
    n = mpmath.mpf(400)
    with mpmath.workdps(50):
        rho = 1 - 12 / (n**3 - n)
        t2 = (n - 2) * rho**2 / (1 - rho**2)
        tail = mpmath.betainc((n - 2) / 2, 0.5, 0, (n - 2) / (n - 2 + t2), regularized=True)
        expected = float(mpmath.log10(tail))
    assert found.p == 0
    assert found.log10_p == pytest.approx(expected, rel=1e-9)


def test_spearman__layers_without_a_value_are_left_out():
    depth, value = np.arange(14), np.random.default_rng(0).standard_normal(14)
    value[[0, 5]] = np.nan
    kept = np.delete(np.arange(14), [0, 5])
    found = spearman_trend(depth, value)
    assert found == spearman_trend(depth[kept], value[kept])
    assert found.layers == 12


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_spearman__fewer_than_three_layers_is_undefined(layers):
    found = spearman_trend(np.arange(layers), np.arange(float(layers)))
    assert np.isnan(found.rho)
    assert found[1:] == (1.0, 0.0, layers)


@pytest.mark.parametrize("layers", [4, 12])
def test_spearman__constant_value_or_depth_is_undefined(layers):
    level, line = np.full(layers, 0.1), np.arange(float(layers))
    for depth, value in ((line, level), (level, line)):
        found = spearman_trend(depth, value)
        assert np.isnan(found.rho)
        assert found[1:] == (1.0, 0.0, layers)


def test_spearman__only_ranks_matter():
    depth = np.arange(8)
    value = np.array([-0.0, 0.0, 1e-45, -1e30, 1e30, 1e4, 1e4 + 1e-3, -np.inf])
    ranks = np.array([3, 3, 4, 2, 7, 5, 6, 1.0])
    assert spearman_trend(depth, value) == spearman_trend(10 * depth, ranks)


def test_spearman__misfits_are_errors():
    with pytest.raises(ValueError, match="one depth and one value per layer"):
        spearman_trend(np.arange(3), np.arange(4.0))
    with pytest.raises(ValueError, match="one depth and one value per layer"):
        spearman_trend(np.array([0, np.nan]), np.arange(2.0))


HUNDAL = [
    [40, 35, 38, 43, 44, 41],
    [38, 40, 47, 44, 40, 42],
    [48, 40, 45, 43, 46, 44],
]


def test_jonckheere__equals_the_published_example():
    # Hollander, Wolfe and Chicken (2013), example 6.2: J 79, mean 54, variance 150.29, J* 2.04,
    # one-sided p 0.0207.
    found = jonckheere_terpstra([np.array(group, float) for group in HUNDAL])
    assert found.j == 79
    assert found.z == pytest.approx(25 / np.sqrt(150.29), rel=1e-4)
    assert found.p / 2 == pytest.approx(0.0207, abs=5e-5)


@settings(max_examples=100, deadline=None)
@given(
    groups=st.lists(st.lists(st.integers(-2, 3), max_size=7), max_size=5),
    seed=st.integers(0, 99),
)
def test_jonckheere__counts_all_pairs_in_any_order_of_values(groups, seed):
    arrays = [np.array(group, float) for group in groups]
    found = jonckheere_terpstra(arrays)
    assert found.j == by_pairs(groups)
    rng = np.random.default_rng(seed)
    assert jonckheere_terpstra([rng.permutation(group) for group in arrays]) == found
    turned = jonckheere_terpstra(arrays[::-1])
    assert turned.z == pytest.approx(-found.z, rel=1e-12)
    assert turned.p == pytest.approx(found.p, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ([1, 2, 3, 4, 5, 6], [2, 1, 3]),
        ([1, 1, 2, 2, 2, 5], [2, 1, 3]),
        ([0, 0, 0, 0, 0, 1, 1], [3, 2, 2]),
        ([3, 1, 1], [1, 1, 1]),
        ([1, 2], [1, 1]),
        ([4, 4, 4, 1, 2, 2], [0, 4, 2]),
    ],
)
def test_jonckheere__mean_and_variance_are_those_of_all_permutations(values, sizes):
    j = np.array([by_pairs(split(order, sizes)) for order in permutations(values)])
    found = jonckheere_terpstra(split(values, sizes))
    assert found.z == pytest.approx((found.j - j.mean()) / j.std(), rel=1e-12, abs=1e-12)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.z)), rel=1e-9)
    assert found.log10_p == pytest.approx(np.log10(found.p), rel=1e-9, abs=1e-15)


def test_jonckheere__of_two_groups_is_mann_whitney():
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 9, 80).astype(float), rng.integers(2, 10, 50).astype(float)
    expected = stats.mannwhitneyu(second, first, method="asymptotic", use_continuity=False)
    found = jonckheere_terpstra([first, second])
    assert found.j == expected.statistic
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_jonckheere__p_that_underflows_keeps_its_logarithm():
    groups = [np.arange(3000.0) + 1e5 * depth for depth in range(3)]
    found = jonckheere_terpstra(groups)
    assert found.j == 3 * 3000**2
    assert found.p == 0
    expected = mpmath.log10(mpmath.erfc(found.z / mpmath.sqrt(2)))
    assert found.log10_p == pytest.approx(float(expected), rel=1e-9)


def test_jonckheere__many_values_equal_sums_of_mann_whitney():
    rng = np.random.default_rng(5)
    groups = [np.round(rng.standard_normal(n) + 0.01 * n, 2) for n in (400, 30, 0, 1, 900)]
    expected = sum(
        stats.mannwhitneyu(second, first).statistic
        for first, second in combinations(groups, 2)
        if first.size and second.size
    )
    assert jonckheere_terpstra(groups).j == expected


@pytest.mark.parametrize(
    "groups", [[], [[]], [[1, 2, 3]], [[], [1, 2], []], [[0.1, 0.1], [0.1]], [[0.0], [-0.0]]]
)
def test_jonckheere__one_group_or_equal_values_have_no_trend(groups):
    found = jonckheere_terpstra([np.array(group, float) for group in groups])
    assert found == (by_pairs(groups), 0.0, 1.0, 0.0)


def test_jonckheere__nan_is_left_out():
    groups = [np.array([1, np.nan, 3]), np.array([2.0, 4]), np.array([np.nan])]
    assert jonckheere_terpstra(groups) == jonckheere_terpstra([groups[0][[0, 2]], groups[1]])


def test_jonckheere__only_the_order_of_values_matters():
    groups = [np.array([-1e30, 1e-45, -0.0]), np.array([0.0, 1e4]), np.array([1e4 + 1e-3, 1e30])]
    ranks = [np.array([0.0, 2, 1]), np.array([1.0, 3]), np.array([4.0, 5])]
    assert jonckheere_terpstra(groups) == jonckheere_terpstra(ranks)


def test_jonckheere__group_of_two_dimensions_is_an_error():
    with pytest.raises(ValueError, match=r"got shapes \[\(2, 1\)\]"):
        jonckheere_terpstra([np.zeros((2, 1))])
