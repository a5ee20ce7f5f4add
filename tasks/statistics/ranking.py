"""Rank sums per class: one radix ranking of each unit, shared by every rank test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from activarium.tasks.statistics.moments import class_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIGIT_BITS = 11
_PASSES = 3
_SIGN = np.int32(-(2**31))
_WORD = np.uint64(32)
_LOW_WORD = np.uint64(0xFFFFFFFF)


@njit(nogil=True, cache=True)
def _pack(
    bits: NDArray[np.int32],
    code: NDArray[np.int64],
    packed: NDArray[np.uint64],
    lowest: NDArray[np.int64],
) -> tuple[int, int]:
    """Fill `packed` with (key - smallest key) << 32 | class, without the smallest responses.

    Those are only counted per class, in `lowest`: they share one rank, and after a ReLU they are
    the zeros, half of all images. Return the number packed and the width of their keys in bits.
    """
    images = bits.size
    low = np.int64(2**32)
    high = np.int64(-1)
    for i in range(images):
        v = bits[i]
        # -0.0 equals +0.0 and must share its rank.
        v = np.int32(0) if v == _SIGN else v
        # Flip the sign bit of positive and all bits of negative floats: order as unsigned integers.
        key = np.int64(np.uint32(v ^ ((v >> np.int32(31)) | _SIGN)))
        low = min(low, key)
        high = max(high, key)
        packed[i] = np.uint64(key)
    smallest = np.uint64(low)
    size = 0
    lowest[:] = 0
    for i in range(images):
        offset = packed[i] - smallest
        above = int(offset != np.uint64(0))
        packed[size] = (offset << _WORD) | np.uint64(code[i])
        size += above
        lowest[code[i]] += 1 - above
    width = 0
    while (high - low) >> width > 0:
        width += 1
    return size, width


@njit(nogil=True, cache=True)
def _count_digits(
    packed: NDArray[np.uint64], passes: int, digit: int, histogram: NDArray[np.int32]
) -> None:
    mask = np.uint64((1 << digit) - 1)
    step = np.uint64(digit)
    for p in range(passes):
        histogram[p, : 1 << digit] = 0
    for i in range(packed.size):
        rest = packed[i] >> _WORD
        for p in range(passes):
            histogram[p, rest & mask] += np.int32(1)
            rest >>= step


@njit(nogil=True, cache=True)
def _sort(
    packed: NDArray[np.uint64],
    spare: NDArray[np.uint64],
    histogram: NDArray[np.int32],
    width: int,
) -> NDArray[np.uint64]:
    """Sort by key, least significant digit first; return the buffer that holds the result."""
    if width == 0:
        return packed
    # As few passes as the range of this unit's keys needs, of equal width.
    passes = (width + _DIGIT_BITS - 1) // _DIGIT_BITS
    digit = (width + passes - 1) // passes
    mask = np.uint64((1 << digit) - 1)
    _count_digits(packed, passes, digit, histogram)
    for p in range(passes):
        position = np.int32(0)
        for m in range(1 << digit):
            count = histogram[p, m]
            histogram[p, m] = position
            position += count
        shift = np.uint64(32 + p * digit)
        for i in range(packed.size):
            x = packed[i]
            d = (x >> shift) & mask
            o = histogram[p, d]
            histogram[p, d] = o + np.int32(1)
            spare[o] = x
        packed, spare = spare, packed
    return packed


@njit(nogil=True, cache=True)
def _midranks(
    ordered: NDArray[np.uint64], lowest: NDArray[np.int64], twice: NDArray[np.int64]
) -> float:
    """Fill `twice` with twice the rank sums; return the sum of t^3 - t over groups of ties."""
    below = lowest.sum()
    # Twice a midrank is an integer, so the sums are exact.
    for c in range(lowest.size):
        twice[c] = lowest[c] * (below + 1)
    t = np.float64(below)
    ties = t * t * t - t
    i = 0
    while i < ordered.size:
        key = ordered[i] >> _WORD
        stop = i + 1
        while stop < ordered.size and (ordered[stop] >> _WORD) == key:
            stop += 1
        if stop - i > 1:
            t = np.float64(stop - i)
            ties += t * t * t - t
        for m in range(i, stop):
            twice[ordered[m] & _LOW_WORD] += 2 * below + i + stop + 1
        i = stop
    return ties


@njit(nogil=True, cache=True)
def _rank_units(
    bits: NDArray[np.int32],
    code: NDArray[np.int64],
    rank_sum: NDArray[np.float64],
    tie_sum: NDArray[np.float64],
) -> None:
    units, images = bits.shape
    packed = np.empty(images, np.uint64)
    spare = np.empty(images, np.uint64)
    histogram = np.empty((_PASSES, 1 << _DIGIT_BITS), np.int32)
    lowest = np.empty(rank_sum.shape[1], np.int64)
    twice = np.empty(rank_sum.shape[1], np.int64)
    for unit in range(units):
        size, width = _pack(bits[unit], code, packed, lowest)
        ordered = _sort(packed[:size], spare[:size], histogram, width)
        tie_sum[unit] = _midranks(ordered, lowest, twice)
        rank_sum[unit] = 0.5 * twice


def rank_sums(
    responses: NDArray[np.float32], label: NDArray[np.integer], n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of midranks of every class and the tie sum of every unit.

    Each unit is ranked once over all images by a radix sort on the bits of its responses; equal
    responses (-0.0 and +0.0 too) share their mean rank. The kernel holds no lock and keeps its
    scratch memory to itself, so threads run it side by side.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32; drop images with NaN first.
    label
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.

    Returns
    -------
    rank_sum
        Sum of the midranks (1 .. image) of the images of each class, shape (unit, class).
    tie_sum
        Sum of t^3 - t over the groups of t equal responses, shape (unit,).

    Raises
    ------
    ValueError
        Where a class code is out of range, or shapes or types do not fit.

    References
    ----------
    Kruskal and Wallis (1952), Use of ranks in one-criterion variance analysis:
    midranks for ties.
    """
    code = class_codes(label, responses, n_classes)
    units, images = responses.shape
    rank_sum = np.zeros((units, n_classes))
    tie_sum = np.zeros(units)
    if images:
        bits = np.ascontiguousarray(responses).view(np.int32)
        _rank_units(bits, code, rank_sum, tie_sum)
    return rank_sum, tie_sum
