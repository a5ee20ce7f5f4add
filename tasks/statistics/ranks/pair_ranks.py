"""Mann-Whitney U of pairs of classes: every unit is sorted once, all pairs are counted from that."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.class_order import by_class, class_codes
from activarium.tasks.statistics.ranks.pair_merging import rank_listed
from activarium.tasks.statistics.ranks.sorted_keys import sorted_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Measured: counting all pairs takes one response as long as so many steps of a merge ...
_STEPS_PER_RESPONSE = 1.5
# ... and one step more for so many classes.
_CLASSES_PER_STEP = 15.0


class PairRanks(NamedTuple):
    """Which pairs of classes were compared, and how their responses rank against each other."""

    pair: NDArray[np.int64]
    """Codes a < b of the two classes, shape (pair, 2)."""
    u: NDArray[np.float64]
    """Pairs of images in which class a responds more than class b, ties one half, shape
    (unit, pair)."""
    tie_sum: NDArray[np.float64]
    """Sum of t^3 - t over groups of t equal responses of the two classes, shape (unit, pair)."""


def all_pairs(n_classes: int) -> NDArray[np.int64]:
    """Return every pair a < b of class codes in ascending order, shape (pair, 2)."""
    return np.stack(np.triu_indices(n_classes, 1), axis=1).astype(np.int64)


@njit(nogil=True, cache=True)
def _add_group(
    present: NDArray[np.int64],
    tied: NDArray[np.int64],
    below: NDArray[np.int64],
    twice_u: NDArray[np.int64],
    ties: NDArray[np.float64],
) -> None:
    """Count one group of equal responses: tied[c] images of each class c in `present`.

    `below` holds twice the images of each class that respond less. `tied` is zero again after.
    """
    for c in present:
        below[c] += tied[c]
    for m in range(present.size):
        a = present[m]
        # What is tied was added once, so it counts one half.
        for c in range(below.size):
            twice_u[a, c] += tied[a] * below[c]
        s = np.float64(tied[a])
        ties[a, a] += s * s * s - s
        for n in range(m):
            b = present[n]
            t = np.float64(tied[b])
            # (s + t)^3 - (s + t) without what either class adds by itself.
            ties[min(a, b), max(a, b)] += 3.0 * s * t * (s + t)
    for c in present:
        below[c] += tied[c]
        tied[c] = 0


@njit(nogil=True, cache=True)
def _tally(
    group: NDArray[np.unsignedinteger],
    class_mask: int,
    present: NDArray[np.int64],
    tied: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Count the classes of a group in `tied`; return which classes there are."""
    size = 0
    for m in range(group.size):
        c = np.int64(group[m]) & class_mask
        if tied[c] == 0:
            present[size] = c
            size += 1
        tied[c] += 1
    return present[:size]


@njit(nogil=True, cache=True)
def _count_pairs(
    ordered: NDArray[np.unsignedinteger],
    class_bits: int,
    scratch: NDArray[np.int64],
    twice_u: NDArray[np.int64],
    ties: NDArray[np.float64],
) -> None:
    """Add to twice_u[a, b] twice U, and to the upper triangle of `ties` the parts of tie sums.

    The tie sum of a pair is ties[a, a] + ties[b, b] + ties[a, b]. `scratch` holds rows as long as
    there are classes: for `present`, for `tied`, and `below`.
    """
    present, tied, below = scratch[0], scratch[1], scratch[2]
    class_mask = (1 << class_bits) - 1
    i = 0
    while i < ordered.size:
        key = np.int64(ordered[i]) >> class_bits
        stop = i + 1
        while stop < ordered.size and np.int64(ordered[stop]) >> class_bits == key:
            stop += 1
        if stop - i > 2:
            group = _tally(ordered[i:stop], class_mask, present, tied)
            _add_group(group, tied, below, twice_u, ties)
        else:
            # Written out here: a call for each response would cost more than its row.
            for m in range(i, stop):
                c = np.int64(ordered[m]) & class_mask
                for b in range(below.size):
                    twice_u[c, b] += below[b]
                below[c] += 2
            if stop - i == 2:
                # The first went as if it were lower than the second; they are tied.
                a, c = np.int64(ordered[i]) & class_mask, np.int64(ordered[i + 1]) & class_mask
                twice_u[c, a] -= 1
                twice_u[a, c] += 1
                ties[min(a, c), max(a, c)] += 6.0
        i = stop


@njit(nogil=True, cache=True)
def _rank_all(  # noqa: PLR0913, PLR0917 - a group of sorted units, and the results
    packed: NDArray[np.unsignedinteger],
    size: NDArray[np.int64],
    class_bits: int,
    at_lowest: NDArray[np.int64],
    pair: NDArray[np.int64],
    u: NDArray[np.float64],
    tie_sum: NDArray[np.float64],
) -> None:
    """Count all pairs of classes; fill `u` and `tie_sum` of those in `pair`, shape (unit, pair)."""
    classes = at_lowest.shape[1]
    scratch = np.zeros((3, classes), np.int64)
    twice_u = np.empty((classes, classes), np.int64)
    ties = np.empty((classes, classes))
    for unit in range(size.size):
        twice_u[:] = 0
        ties[:] = 0.0
        scratch[:] = 0
        scratch[1] = at_lowest[unit]
        _add_group(np.flatnonzero(at_lowest[unit]), scratch[1], scratch[2], twice_u, ties)
        _count_pairs(packed[unit, : size[unit]], class_bits, scratch, twice_u, ties)
        for p in range(len(pair)):
            a, b = pair[p, 0], pair[p, 1]
            u[unit, p] = 0.5 * twice_u[a, b]
            tie_sum[unit, p] = ties[a, a] + ties[b, b] + ties[a, b]


def _checked_pairs(pairs: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        msg = f"expected integer pairs of shape (pair, 2), got {pairs.dtype} of {pairs.shape}"
        raise ValueError(msg)
    wrong = (pairs[:, 0] < 0) | (pairs[:, 0] >= pairs[:, 1]) | (pairs[:, 1] >= n_classes)
    if wrong.any():
        at = int(np.argmax(wrong))
        msg = f"a pair must be codes 0 <= a < b < {n_classes}, got {pairs[at].tolist()} at {at}"
        raise ValueError(msg)
    return np.ascontiguousarray(pairs, dtype=np.int64)


def _merging_is_faster(pair: NDArray[np.int64], count: NDArray[np.int64]) -> bool:
    """Return whether merging the pairs one by one takes fewer steps than counting all."""
    images = float(count.sum())
    counting = images * (_STEPS_PER_RESPONSE + count.size / _CLASSES_PER_STEP)
    # Before the merge each response is copied to its class.
    return images + float(count[pair].sum()) < counting


def pair_u(
    responses: NDArray[np.float32],
    label: NDArray[np.integer],
    n_classes: int,
    *,
    pairs: NDArray[np.integer] | None = None,
) -> PairRanks:
    """Return Mann-Whitney's U and the tie sum of pairs of classes in every unit.

    Each unit is sorted once. From there, either one pass counts all pairs together, or the sorted
    responses of the two classes of each pair are merged, whichever is faster for the pairs that
    are asked for; both give the same numbers, which are exact while tie sums stay below 2^53. Equal
    responses (-0.0 and +0.0 too) are ties. A pair with an empty class has U = 0; a constant unit
    has U = n_a n_b / 2. The kernels hold no lock and keep their scratch memory to themselves.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32; drop images with NaN first.
    label
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    pairs
        Codes a < b to compare, shape (pair, 2); all pairs in ascending order where None.

    Raises
    ------
    ValueError
        Where a class code is out of range, a pair is not two codes a < b, or shapes or types do
        not fit.

    References
    ----------
    Mann and Whitney (1947), On a test of whether one of two random variables is stochastically
    larger than the other.
    """
    code = class_codes(label, responses, n_classes)
    pair = all_pairs(n_classes) if pairs is None else _checked_pairs(pairs, n_classes)
    u, tie_sum = (np.zeros((len(responses), len(pair))) for _ in range(2))
    if code.size and len(pair):
        ordered, start = by_class(responses, code, n_classes)
        rank = rank_listed if _merging_is_faster(pair, np.diff(start)) else _rank_all
        for group in sorted_groups(ordered.view(np.int32), start):
            units, packed, size, at_lowest, _, class_bits = group
            rank(packed, size, class_bits, at_lowest, pair, u[units], tie_sum[units])
    return PairRanks(pair, u, tie_sum)
