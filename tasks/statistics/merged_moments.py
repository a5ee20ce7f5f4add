"""Moments of several sets of images together, and of all images outside each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from activarium.tasks.statistics.moments import ClassMoments

if TYPE_CHECKING:
    from numpy.typing import NDArray


def combine_moments(first: ClassMoments, second: ClassMoments) -> ClassMoments:
    """Return the moments of two disjoint sets of images of the same units and classes.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance:
    the updating formulae of the pairwise algorithm.
    """
    count = first.count + second.count
    share = second.count / np.maximum(count, 1)
    delta = (second.mean - first.mean) + (second.residue - first.residue)
    mean, residue = _two_sum(first.mean, first.residue + delta * share)
    for is_empty, other in ((first.count == 0, second), (second.count == 0, first)):
        mean = np.where(is_empty, other.mean, mean)
        residue = np.where(is_empty, other.residue, residue)
    both = (first.count > 0) & (second.count > 0)
    between = np.where(both, delta**2 * (first.count * share), 0.0)
    return ClassMoments(
        count,
        mean,
        first.m2 + second.m2 + between,
        np.minimum(first.low, second.low),
        np.maximum(first.high, second.high),
        residue,
    )


def _two_sum(
    one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a sum and what rounding took of it (Knuth's two-sum)."""
    total = one + other
    added = total - one
    return total, (one - (total - added)) + (other - added)


@njit(nogil=True, cache=True)
def _merge(
    first: tuple[int, float, float], second: tuple[int, float, float]
) -> tuple[int, float, float]:
    if second[0] == 0:
        return first
    count = first[0] + second[0]
    share = second[0] / count
    delta = second[1] - first[1]
    m2 = first[2] + second[2] + delta * delta * (first[0] * share)
    return count, first[1] + delta * share, m2


@njit(nogil=True, cache=True)
def _fill_rest(
    count: NDArray[np.int64],
    mean: NDArray[np.float64],
    m2: NDArray[np.float64],
    rest_mean: NDArray[np.float64],
    rest_m2: NDArray[np.float64],
) -> None:
    units, classes = mean.shape
    for unit in range(units):
        # What lies before each class, then merged with what lies after it.
        seen = (0, 0.0, 0.0)
        for c in range(classes):
            rest_mean[unit, c], rest_m2[unit, c] = seen[1], seen[2]
            seen = _merge(seen, (count[c], mean[unit, c], m2[unit, c]))
        before = seen[0]
        seen = (0, 0.0, 0.0)
        for c in range(classes - 1, -1, -1):
            before -= count[c]
            rest = _merge((before, rest_mean[unit, c], rest_m2[unit, c]), seen)
            rest_mean[unit, c], rest_m2[unit, c] = rest[1], rest[2]
            seen = _merge(seen, (count[c], mean[unit, c], m2[unit, c]))


def rest_moments(
    moments: ClassMoments,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return count (class,), offset and m2 (unit, class) of all images outside each class.

    The offset is that of their mean, as `ClassMoments.offset`. Merged from the other classes,
    never the total minus the class, which would lose the digits of a small rest beside a large
    class. Where nothing is outside a class the offset is NaN.
    """
    count = moments.images - moments.count
    offset = np.zeros_like(moments.mean)
    m2 = np.zeros_like(moments.m2)
    _fill_rest(moments.count, moments.offset, moments.m2, offset, m2)
    offset[:, count == 0] = np.nan
    return count, offset, m2
