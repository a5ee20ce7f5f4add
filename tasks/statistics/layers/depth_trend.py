"""Whether a measure rises or falls with the depth of layers: one value, or many, per layer."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt, log10, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from scipy.stats import rankdata

from activarium.tasks.statistics.tail_probabilities import f_log10_sf, normal_two_sided_log10_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_EXACT = 9
"""Layers up to which all orders are counted."""


class SpearmanTrend(NamedTuple):
    """Rank correlation of a measure with depth."""

    rho: float
    """Spearman's rank correlation; NaN where undefined."""
    p: float
    """Two-sided p-value; 1 where undefined."""
    log10_p: float
    """log10 of `p`, exact where `p` underflows to 0."""
    layers: int
    """Layers that have a value."""


class JonckheereTerpstra(NamedTuple):
    """Test of a trend over ordered groups."""

    j: float
    """Pairs of values of two groups of which the later group's is larger; ties count one half."""
    z: float
    """J less its mean over its standard deviation; above 0 where values rise."""
    p: float
    """Two-sided p-value."""
    log10_p: float
    """log10 of `p`, exact where `p` underflows to 0."""


def spearman_trend(depth: NDArray[np.number], value: NDArray[np.floating]) -> SpearmanTrend:
    """Return the rank correlation of a measure of layers with their depth.

    Layers whose value is NaN are left out. Of up to 9 layers p is exact: the share of all orders
    of the values whose correlation is at least as large in size. Of more it comes from Student's
    t with two degrees of freedom fewer than layers, 0 at a correlation of 1 or -1. With fewer than
    three layers, or where all depths or all values are equal, the correlation is undefined: NaN,
    with p 1.

    Parameters
    ----------
    depth
        Depth of each layer, shape (layer,).
    value
        Measure of each layer, shape (layer,); NaN where it has none.

    Returns
    -------
    Correlation, p-value, its log10 and the number of layers that count.

    Raises
    ------
    ValueError
        Where there is not one depth per value, or a depth is NaN.

    References
    ----------
    Spearman (1904), The proof and measurement of association between two things;
    Kendall and Gibbons (1990), Rank correlation methods, sections 4.13 and 4.14.
    """
    if value.ndim != 1 or depth.shape != value.shape or np.isnan(depth).any():
        msg = (
            "expected one depth and one value per layer, "
            f"got depths of shape {depth.shape} and values of shape {value.shape}"
        )
        raise ValueError(msg)
    kept = ~np.isnan(value)
    layers = int(kept.sum())
    x, y = _doubled_ranks(depth[kept]), _doubled_ranks(value[kept])
    # Whole numbers, so correlations that are equal compare as equal.
    product, size = int(x @ y), int(x @ x) * int(y @ y)
    if layers < 3 or size == 0:
        return SpearmanTrend(float("nan"), 1.0, 0.0, layers)
    rho = product / sqrt(size)
    if layers <= _EXACT:
        p = _exact_p(x, y, product, size)
        return SpearmanTrend(rho, p, log10(p), layers)
    rest = size - product * product
    t2 = float(Fraction((layers - 2) * product * product, rest)) if rest else float("inf")
    log10_p = float(f_log10_sf(t2, 1, layers - 2))
    return SpearmanTrend(rho, 10.0**log10_p, log10_p, layers)


def _doubled_ranks(value: NDArray[np.number]) -> NDArray[np.int64]:
    """Return twice the midranks less their mean: whole numbers that add up to 0."""
    doubled: NDArray[np.int64] = (2.0 * rankdata(value)).astype(np.int64) - (value.size + 1)
    return doubled


def _exact_p(x: NDArray[np.int64], y: NDArray[np.int64], product: int, size: int) -> float:
    """Return the share of orders of y whose product with x is at least as large in size.

    `ways[used, sum]` counts the orders of the values in the bit set `used` over the first
    positions by the sum of their products.
    """
    layers, reach = x.size, isqrt(size)
    # Every partial sum is within +- reach by the Cauchy-Schwarz inequality.
    ways = np.zeros((1 << layers, 2 * reach + 1), np.int64)
    ways[0, reach] = 1
    for used in range((1 << layers) - 1):
        position = used.bit_count()
        for i in range(layers):
            if not used >> i & 1:
                ways[used | 1 << i] += np.roll(ways[used], int(x[position] * y[i]))
    total = ways[-1]
    as_large = np.abs(np.arange(-reach, reach + 1)) >= abs(product)
    return int(total[as_large].sum()) / int(total.sum())


def jonckheere_terpstra(groups: Sequence[NDArray[np.floating]]) -> JonckheereTerpstra:
    """Return the test of a rising or falling trend over groups in their order.

    The normal approximation with the variance corrected for ties, without a correction for
    continuity. NaN among the values is left out. Fewer than two groups with values, or values that
    are all equal, give z = 0 and p = 1. Time grows as n log n with the number of values.

    Parameters
    ----------
    groups
        Values of each group, shape (value,), in the order of the trend.

    Returns
    -------
    J, z, two-sided p and log10 p.

    Raises
    ------
    ValueError
        Where a group is not one-dimensional.

    References
    ----------
    Jonckheere (1954), A distribution-free k-sample test against ordered alternatives;
    Hollander, Wolfe and Chicken (2013), Nonparametric statistical methods, equation 6.19.
    """
    if any(group.ndim != 1 for group in groups):
        shapes = [group.shape for group in groups]
        msg = f"expected groups of shape (value,), got shapes {shapes}"
        raise ValueError(msg)
    kept = [np.asarray(group, np.float64)[~np.isnan(group)] for group in groups]
    size = [group.size for group in kept]
    pooled = np.concatenate([np.empty(0), *kept])
    distinct, rank, ties = np.unique(pooled, return_inverse=True, return_counts=True)
    start = np.concatenate(([0], np.cumsum(size))).astype(np.int64)
    j = _twice_j(rank.astype(np.int64), start, distinct.size) / 2.0
    mean = Fraction(pooled.size**2 - sum(n**2 for n in size), 4)
    variance = _tied_variance(size, [int(t) for t in ties[ties > 1]])
    if variance == 0:
        return JonckheereTerpstra(j, 0.0, 1.0, 0.0)
    z = float(Fraction(j) - mean) / sqrt(variance)
    log10_p = float(normal_two_sided_log10_p(z))
    return JonckheereTerpstra(j, z, 10.0**log10_p, log10_p)


@njit(nogil=True, cache=True)
def _twice_j(rank: NDArray[np.int64], start: NDArray[np.int64], distinct: int) -> int:
    """Return twice J; group g holds the values of ranks rank[start[g] : start[g + 1]].

    A Fenwick tree counts the values of earlier groups below a rank.
    """
    tree = np.zeros(distinct + 1, np.int64)
    equal = np.zeros(distinct, np.int64)
    twice = 0
    for group in range(start.size - 1):
        for i in range(start[group], start[group + 1]):
            node = rank[i]
            twice += equal[node]
            while node > 0:
                twice += 2 * tree[node]
                node -= node & -node
        for i in range(start[group], start[group + 1]):
            node = rank[i] + 1
            equal[rank[i]] += 1
            while node <= distinct:
                tree[node] += 1
                node += node & -node
    return twice


def _tied_variance(size: list[int], ties: list[int]) -> Fraction:
    """Return the variance of J for groups of these sizes and these numbers of equal values.

    As an exact fraction: where all values are equal its terms cancel to 0.
    """
    n = sum(size)

    def falling(counts: list[int], *, terms: int) -> int:
        return sum(c * (c - 1) * (c - 2 if terms == 3 else 1) for c in counts)

    def spread(counts: list[int]) -> int:
        return sum(c * (c - 1) * (2 * c + 5) for c in counts)

    variance = Fraction(spread([n]) - spread(size) - spread(ties), 72)
    if n > 1:
        pairs = falling(size, terms=2) * falling(ties, terms=2)
        variance += Fraction(pairs, 8 * n * (n - 1))
    if n > 2:
        triples = falling(size, terms=3) * falling(ties, terms=3)
        variance += Fraction(triples, 36 * n * (n - 1) * (n - 2))
    return variance
