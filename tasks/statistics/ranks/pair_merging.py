"""Mann-Whitney U of listed pairs of classes: merge the sorted responses of the two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def _split_by_class(  # noqa: PLR0913, PLR0917 - a sorted unit, and what to fill
    ordered: NDArray[np.unsignedinteger],
    class_bits: int,
    lowest: NDArray[np.int64],
    ends: NDArray[np.int64],
    key: NDArray[np.uint32],
    below: NDArray[np.int64],
) -> None:
    """Write the distinct keys of each class c in ascending order from key[ends[0, c]] on.

    Beside each in `below` is the number of images of the class under that key. Behind the last,
    at ends[1, c], which is set, is the number of all its images. `lowest` holds the images of each
    class at the smallest key, 0, that `ordered` lacks.
    """
    base, stop = ends[0], ends[1]
    class_mask = (1 << class_bits) - 1
    seen = lowest.copy()
    for c in range(lowest.size):
        stop[c] = base[c] + int(lowest[c] > 0)
        key[base[c]] = 0
        below[base[c]] = 0
    for i in range(ordered.size):
        c = int(ordered[i]) & class_mask
        x = np.uint32(int(ordered[i]) >> class_bits)
        last = stop[c] - 1
        if last < base[c] or key[last] != x:
            key[last + 1] = x
            below[last + 1] = seen[c]
            stop[c] += 1
        seen[c] += 1
    for c in range(lowest.size):
        below[stop[c]] = seen[c]


@njit(nogil=True, cache=True)
def _own_ties(below: NDArray[np.int64]) -> float:
    total = 0.0
    for i in range(below.size - 1):
        t = np.float64(below[i + 1] - below[i])
        total += t * t * t - t
    return total


@njit(nogil=True, cache=True)
def _merge(
    key: NDArray[np.uint32],
    below: NDArray[np.int64],
    first: tuple[int, int],
    second: tuple[int, int],
) -> tuple[int, float]:
    """Return twice U of the first class over the second, and the tie sum that only both make.

    A class is given as the range of its keys.
    """
    a, a_stop = first
    b, b_stop = second
    twice = 0
    shared = 0.0
    while a < a_stop and b < b_stop:
        x, y = key[a], key[b]
        # Steps instead of branches, which no processor could predict.
        step_a, step_b = int(x <= y), int(y <= x)
        if step_a & step_b:
            s = np.float64(below[a + 1] - below[a])
            t = np.float64(below[b + 1] - below[b])
            shared += 3.0 * s * t * (s + t)
        # Twice what is below, and once what is tied.
        twice += step_a * (below[a + 1] - below[a]) * (below[b] + below[b + step_b])
        a += step_a
        b += step_b
    return twice + 2 * (below[a_stop] - below[a]) * below[b_stop], shared


@njit(nogil=True, cache=True)
def rank_listed(  # noqa: PLR0913, PLR0917 - a group of sorted units, and the results
    packed: NDArray[np.unsignedinteger],
    size: NDArray[np.int64],
    class_bits: int,
    at_lowest: NDArray[np.int64],
    pair: NDArray[np.int64],
    u: NDArray[np.float64],
    tie_sum: NDArray[np.float64],
) -> None:
    """Fill `u` and `tie_sum`, shape (unit, pair), one pair after the other.

    Parameters
    ----------
    packed, size, class_bits, at_lowest
        Sorted units, as in `SortedGroup`.
    pair
        Two class codes each, shape (pair, 2).
    u, tie_sum
        Where the results go.
    """
    images, classes = packed.shape[1], at_lowest.shape[1]
    # One place more than a class has images, for the number of all of them.
    ends = np.empty((2, classes), np.int64)
    key = np.empty(images + 2 * classes, np.uint32)
    below = np.empty(images + 2 * classes, np.int64)
    own = np.empty(classes)
    for unit in range(size.size):
        ordered, lowest = packed[unit, : size[unit]], at_lowest[unit]
        _reserve(ordered, class_bits, ends[0])
        _split_by_class(ordered, class_bits, lowest, ends, key, below)
        for c in range(classes):
            own[c] = _own_ties(below[ends[0, c] : ends[1, c] + 1])
        for p in range(len(pair)):
            a, b = pair[p, 0], pair[p, 1]
            first, second = (ends[0, a], ends[1, a]), (ends[0, b], ends[1, b])
            twice, shared = _merge(key, below, first, second)
            u[unit, p] = 0.5 * twice
            tie_sum[unit, p] = own[a] + own[b] + shared


@njit(nogil=True, cache=True)
def _reserve(
    ordered: NDArray[np.unsignedinteger],
    class_bits: int,
    base: NDArray[np.int64],
) -> None:
    """Fill `base` with where each class begins: two places more than it can have keys."""
    base[:] = 0
    class_mask = (1 << class_bits) - 1
    for i in range(ordered.size):
        base[np.int64(ordered[i]) & class_mask] += 1
    first = 0
    for c in range(base.size):
        size = base[c] + 2
        base[c] = first
        first += size
