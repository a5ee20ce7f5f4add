"""Units sorted side by side: the packed keys of a few at a time, in order of response."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.ranks.response_keys import key_range, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

GROUP = 16
"""Units that are sorted side by side: few enough that their keys stay in the cache."""


class SortedGroup(NamedTuple):
    """Some units whose images are sorted by response; the arrays are used again for the next."""

    units: slice
    """Which units they are."""
    packed: NDArray[np.unsignedinteger]
    """Sorted keys << class_bits | class (with its half, where asked for), shape (unit, image); the first `size` of each are set."""
    size: NDArray[np.int64]
    """Images above the smallest response, or all, shape (unit,)."""
    at_lowest: NDArray[np.int64]
    """Images of each class at the smallest response that `packed` lacks, shape (unit, class)."""
    ranges: NDArray[np.int64]
    """Numbers that make keys of responses, shape (unit, 3); `response_keys.response_of`."""
    class_bits: int
    """Bits of a class."""


def sorted_groups(
    bits: NDArray[np.int32], start: NDArray[np.int64], half: NDArray[np.integer] | None = None
) -> Iterator[SortedGroup]:
    """Sort the images of every unit by response, and yield a few units at a time.

    NumPy sorts: on most processors with vector instructions, in 32 bits where key and class fit.
    Units of one group have keys of one width.

    Parameters
    ----------
    bits
        Bits of the responses, shape (unit, image), the images in order of their class.
    start
        Class c holds the images start[c] to start[c + 1], shape (class + 1,).
    half
        0 or 1 of each image, shape (image,); it then is the lowest of the bits of a class.
    """
    units, images = bits.shape
    code = np.repeat(np.arange(start.size - 1, dtype=np.int32), np.diff(start))
    class_bits = max(int(start.size - 2).bit_length(), 1)
    if half is not None:
        code = 2 * code + half.astype(np.int32)
        class_bits += 1
    narrow, wide = (np.empty((GROUP, images), kind) for kind in (np.uint32, np.uint64))
    at_lowest = np.empty((GROUP, start.size - 1), np.int64)
    size = np.empty(GROUP, np.int64)
    for first in range(0, units, GROUP):
        ranges, key_bits = _ranges(bits[first : first + GROUP])
        is_narrow = key_bits + class_bits <= 32
        for run in _runs_of_equals(is_narrow):
            count = run.stop - run.start
            packed: NDArray[np.unsignedinteger] = narrow if is_narrow[run.start] else wide
            part = slice(first + run.start, first + run.stop)
            _pack_group(bits[part], code, start, class_bits, ranges[run], packed, at_lowest, size)
            for row, filled in zip(packed[:count], size, strict=False):
                row[:filled].sort()
            yield SortedGroup(
                part, packed[:count], size[:count], at_lowest[:count], ranges[run], class_bits
            )


def _runs_of_equals(values: NDArray[np.bool_]) -> list[slice]:
    """Return the ranges of neighbours that are equal."""
    changes = (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()
    return [slice(*ends) for ends in pairwise([0, *changes, values.size])]


@njit(nogil=True, cache=True)
def _ranges(block: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers that make each unit's keys, and how many bits its largest key has."""
    ranges = np.empty((block.shape[0], 3), np.int64)
    key_bits = np.zeros(block.shape[0], np.int64)
    for unit in range(block.shape[0]):
        lowest, negatives, base, largest = key_range(block[unit])
        ranges[unit, 0], ranges[unit, 1], ranges[unit, 2] = lowest, negatives, base
        while int(largest) >> key_bits[unit] > 0:
            key_bits[unit] += 1
    return ranges, key_bits


@njit(nogil=True, cache=True)
def _pack_group(  # noqa: PLR0913, PLR0917 - a group of units and their scratch memory
    block: NDArray[np.int32],
    code: NDArray[np.int32],
    start: NDArray[np.int64],
    class_bits: int,
    ranges: NDArray[np.int64],
    packed: NDArray[np.unsignedinteger],
    at_lowest: NDArray[np.int64],
    size: NDArray[np.int64],
) -> None:
    for unit in range(block.shape[0]):
        keys = (ranges[unit, 0], ranges[unit, 1], ranges[unit, 2])
        size[unit] = pack(block[unit], code, start, class_bits, keys, packed[unit], at_lowest[unit])
