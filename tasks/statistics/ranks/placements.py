"""Where each image of a class stands among the images of the others: one pass over sorted keys.

The placement of an image is the number of images of other classes that respond less, ties counting
one half. Sums of placements are Mann and Whitney's U; sums of their squares are DeLong's variance.
Everything is counted in whole numbers, placements doubled, so no digit depends on the order of the
images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def place_images(  # noqa: PLR0913, PLR0917 - one walk; the arrays that it fills
    packed: NDArray[np.unsignedinteger],
    class_bits: int,
    start: NDArray[np.int64],
    at_lowest: NDArray[np.int64],
    edges: NDArray[np.int64],
    half_bits: int,
    place: NDArray[np.int32],
    tied_squares: NDArray[np.int64],
    below_edge: NDArray[np.int64],
) -> float:
    """Note the place of every image above the lowest, and which classes lie below some ranks.

    Parameters
    ----------
    packed
        Sorted keys with classes, of the images above the smallest response.
    class_bits, start, at_lowest
        As `response_keys.pack` has them.
    edges
        Ascending ranks, counted from 0, shape (edge,).
    half_bits
        Lowest bits of a class that are no part of its code: 1 where halves are packed, or 0.
    place
        Filled with twice the place of each image, shape (image,), class after class and ascending
        in each: the images below it, half of those of other classes that equal it, and those of
        its own class before it. Left as they are: the images of `at_lowest`, first of their class.
    tied_squares
        Filled with the sum over groups of q t^2, for t images of the class and q of others, shape
        (class,): what squares of placements owe to ties.
    below_edge
        Filled with the images of each class in groups of equal responses that begin below each
        edge, shape (edge, class).

    Returns
    -------
    float
        Sum of t^3 - t over groups of t equal responses.
    """
    lowest, size = at_lowest.sum(), packed.size
    class_mask = (1 << class_bits) - 1
    following = start[:-1].astype(np.uint64)
    tied = np.zeros(start.size - 1, np.int64)
    for code in range(start.size - 1):
        own = at_lowest[code]
        following[code] = np.uint64(start[code] + own)
        tied_squares[code] = (lowest - own) * own * own
    ties: float = float(lowest) ** 3 - lowest
    edge, i = 0, 0
    while True:
        # Groups begin in order, so all that is placed by now began below an edge just passed.
        while edge < edges.size and edges[edge] <= lowest + i:
            for code in range(start.size - 1):
                below_edge[edge, code] = np.int64(following[code]) - start[code]
            edge += 1
        if i == size:
            return ties
        stop = min(size, edges[edge] - lowest) if edge < edges.size else size
        i, group = _place_singles(packed, i, stop, class_bits, half_bits, lowest, following, place)
        if group == 1:
            continue
        codes = (packed[i : i + group].astype(np.int64) & class_mask) >> half_bits
        for code in codes:
            tied[code] += 1
        for code in codes:
            _place_group(code, lowest + i, group, tied, following, place, tied_squares)
        ties += float(group) ** 3 - group
        i += group


@njit(nogil=True, cache=True)
def _place_singles(  # noqa: PLR0913, PLR0917 - a stretch of the sorted images
    packed: NDArray[np.unsignedinteger],
    first: int,
    stop: int,
    class_bits: int,
    half_bits: int,
    lowest: int,
    following: NDArray[np.uint64],
    place: NDArray[np.int32],
) -> tuple[int, int]:
    """Place images from `first` on, up to `stop` or a group of equals; return where, and its size."""
    # Unsigned, as a signed index costs a comparison with zero.
    one = packed.dtype.type(1)
    step = one << packed.dtype.type(class_bits)
    class_mask = step - one
    shift = packed.dtype.type(half_bits)
    size = packed.size
    i = first
    while i < stop:
        value = packed[np.uint64(i)]
        if i + 1 < size and packed[np.uint64(i + 1)] ^ value < step:
            break
        code = (value & class_mask) >> shift
        slot = following[code]
        place[slot] = np.int32(2 * (lowest + i))
        following[code] = slot + np.uint64(1)
        i += 1
    if i == stop:
        return i, 1
    end = i + 1
    while end < size and packed[end] ^ packed[i] < step:
        end += 1
    return i, end - i


@njit(nogil=True, cache=True)
def _place_group(  # noqa: PLR0913, PLR0917 - one class of a group of equal responses
    code: int,
    below: int,
    group: int,
    tied: NDArray[np.int64],
    following: NDArray[np.uint64],
    place: NDArray[np.int32],
    tied_squares: NDArray[np.int64],
) -> None:
    """Place a class's images in a group of equal responses, once: `tied` of the class becomes 0."""
    own, first = tied[code], np.int64(following[code])
    for k in range(own):
        place[first + k] = 2 * (below + k) + group - own
    following[code] = np.uint64(first + own)
    tied_squares[code] += (group - own) * own * own
    tied[code] = 0


@njit(nogil=True, cache=True)
def sum_placements(
    place: NDArray[np.int32],
    start: NDArray[np.int64],
    at_lowest: NDArray[np.int64],
    tied_squares: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> None:
    """Fill `sums` with what U and DeLong's variance are made of, shape (class, 3).

    Doubled placements v of the class's images among the others, and doubled placements w of the
    others among the class's: the sum of v, of v^2, and of w^2. All are whole; beyond 64 bits they
    wrap around, and the variances made of them do not.
    """
    images, lowest = start[-1], at_lowest.sum()
    for code in range(start.size - 1):
        count, tied = start[code + 1] - start[code], at_lowest[code]
        others = images - count
        # All images at the lowest response tie with the same others.
        v = lowest - tied
        total, squares = tied * v, tied * v * v
        other_squares = (2 * others - v) * 2 * tied * tied - tied_squares[code]
        own = place[start[code] : start[code + 1]]
        for k in range(tied, count):
            v = np.int64(own[k]) - 2 * k
            total += v
            squares += v * v
            # An image lifts the square of every other above it from (2k)^2 to (2k + 2)^2.
            other_squares += (2 * others - v) * (4 * k + 2)
        sums[code, 0], sums[code, 1], sums[code, 2] = total, squares, other_squares
