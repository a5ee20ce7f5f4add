"""Counting activations on the CPU: one pass over the bits of the values, compiled by numba."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba import njit

from activarium.schemas.density import LOWEST, NEAR_ZERO, STEPS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHIFT = 23 - STEPS.bit_length() + 1
_FIRST = (127 + LOWEST) * STEPS
_INFINITE = 0x7F800000


@njit(cache=True, nogil=True)
def count_values(
    bits: NDArray[np.int32], classes: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Add the values of each image to the counts of its class.

    Parameters
    ----------
    bits
        Bits of float32 values (image, value).
    classes
        Class code per image; images below 0 are not counted.
    counts
        (class, bin), added to.
    """
    for image in range(bits.shape[0]):
        code = classes[image]
        if code < 0:
            continue
        row, own = bits[image], counts[code]
        for place in range(row.size):
            value = row[place]
            magnitude = value & 0x7FFFFFFF
            if magnitude > _INFINITE:
                continue
            rank = min(max((magnitude >> _SHIFT) - (_FIRST - 1), 0), NEAR_ZERO)
            own[NEAR_ZERO - rank if value < 0 else NEAR_ZERO + rank] += 1
