"""Responses as unsigned integers that sort alike, each with its class in the lowest bits.

A response and its class share one integer, so that one sort of plain numbers orders the images and
tells their classes. The keys of a unit are packed as closely as its range allows: negative and
positive responses each begin where the unit's own do, so 10,000 responses take 28 bits or so and a
class of ten fits beside them into 32, the width that sorts fastest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGNITUDE = 0x7FFFFFFF
"""The bits of a float32 but for its sign, which order positive numbers as integers."""
FEWEST_AT_LOWEST = 16
"""Smallest responses are left out of the sort where they are at least one in so many."""
_SIGN_PLACE = np.int32(31)
_ABOVE, _BELOW = np.int32(MAGNITUDE), np.int32(-MAGNITUDE)
"""Keys beyond those of all numbers."""


@njit(nogil=True, cache=True)
def signed_key(bits: int) -> int:
    """Return the integer of a float32's bits that orders like the number; -0.0 as 0.0."""
    # Without branches, here and below: signs are as good as random, and a wrong guess costs more
    # than all the rest. `sign` is -1 or 0.
    sign = bits >> 63
    return ((bits & MAGNITUDE) ^ sign) - sign


@njit(nogil=True, cache=True)
def _narrow_key(bits: np.int32) -> np.int32:
    """Return `signed_key` in 32 bits, of which twice as many fit into a register as of 64."""
    # Numba widens what it computes of 32 bits; the key itself fits, it has but changed its sign.
    sign = bits >> _SIGN_PLACE
    return np.int32(((bits & _ABOVE) ^ sign) - sign)


@njit(nogil=True, cache=True)
def _key_ends(bits: NDArray[np.int32]) -> tuple[np.int32, np.int32, np.int32, np.int32]:
    """Return the smallest and largest key, the largest negative and the smallest positive one."""
    low, first_positive = _ABOVE, _ABOVE
    high, last_negative = _BELOW, _BELOW
    for i in range(bits.size):
        key = _narrow_key(bits[i])
        low = min(low, key)
        high = max(high, key)
        last_negative = max(last_negative, key if key < 0 else _BELOW)
        first_positive = min(first_positive, key if key > 0 else _ABOVE)
    return low, high, last_negative, first_positive


@njit(nogil=True, cache=True)
def key_range(bits: NDArray[np.int32]) -> tuple[int, int, int, int]:
    """Return `lowest`, `negatives`, `base` and `largest` of one unit.

    `compact_key` of the first three numbers a response from 0, the unit's smallest, to `largest`.
    """
    ends = _key_ends(bits)
    # In 64 bits from here on: between two keys there may be more than 32 hold with a sign.
    low, high = int(np.int64(ends[0])), int(np.int64(ends[1]))
    negatives = int(np.int64(ends[2])) - low + 1 if low < 0 else 0
    base = 0
    if high > 0:
        base = low if low > 0 else int(np.int64(ends[3])) - 1
    return low, negatives, base, compact_key(high, low, negatives, base)


@njit(nogil=True, cache=True)
def compact_key(key: int, lowest: int, negatives: int, base: int) -> int:
    """Return a signed key as its place among the keys that the unit can have, from 0."""
    sign = key >> 63
    above = key - base
    positive = (above & ~(above >> 63)) + negatives
    return positive ^ ((positive ^ (key - lowest)) & sign)


@njit(nogil=True, cache=True)
def response_of(compact: int, lowest: int, negatives: int, base: int) -> float:
    """Return the response of a compact key, as float32."""
    key = compact + lowest
    if compact >= negatives:
        above = compact - negatives
        # Where all are positive the smallest has no place for zero below it.
        key = above + base if above > 0 or lowest > 0 else 0
    bits = np.empty(1, np.int32)
    bits[0] = key if key >= 0 else -key
    magnitude = bits.view(np.float32)[0]
    return float(magnitude if key >= 0 else -magnitude)


@njit(nogil=True, cache=True)
def pack(  # noqa: PLR0913, PLR0917 - what a key is made of
    bits: NDArray[np.int32],
    code: NDArray[np.int32],
    start: NDArray[np.int64],
    class_bits: int,
    keys: tuple[int, int, int],
    packed: NDArray[np.unsignedinteger],
    at_lowest: NDArray[np.int64],
) -> int:
    """Fill `packed` with key << class_bits | class, but for the smallest responses if they are many.

    Those are then only counted per class, in `at_lowest`: they share one rank, and after a ReLU
    they are the zeros, half of all images. Return the number packed.

    Parameters
    ----------
    bits
        Bits of the responses, shape (image,), the images in order of their class.
    code
        Class of each image, shape (image,).
    start
        Class c holds the images start[c] to start[c + 1], shape (class + 1,).
    class_bits
        Bits of a class.
    keys
        `lowest`, `negatives` and `base` of the unit, from `key_range`.
    """
    at_lowest[:] = 0
    if _pack_all(bits, code, class_bits, keys, packed) * FEWEST_AT_LOWEST < bits.size:
        return bits.size
    # Unsigned, as a signed index costs a comparison with zero.
    above = packed.dtype.type(1) << packed.dtype.type(class_bits)
    size = np.uint64(0)
    for c in range(at_lowest.size):
        before = size
        for i in range(np.uint64(start[c]), np.uint64(start[c + 1])):
            value = packed[i]
            packed[size] = value
            size += np.uint64(value >= above)
        at_lowest[c] = start[c + 1] - start[c] - np.int64(size - before)
    return int(size)


@njit(nogil=True, cache=True)
def _pack_all(
    bits: NDArray[np.int32],
    code: NDArray[np.int32],
    class_bits: int,
    keys: tuple[int, int, int],
    packed: NDArray[np.unsignedinteger],
) -> int:
    """Pack all images; return how many have the smallest response."""
    zeros = 0
    for i in range(bits.size):
        key = compact_key(signed_key(bits[i]), keys[0], keys[1], keys[2])
        packed[i] = (key << class_bits) | code[i]
        zeros += key == 0
    return zeros
