"""Spearman's rank correlation of every unit with a number per image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.tail_probabilities import f_log10_sf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MOST_IMAGES = 3_000_000
"""Above it the sums of products of ranks, up to images^3 / 3, would pass 64 bits."""

_BLOCK_BYTES = 2**22
_SIGN = np.int32(-(2**31))
_WORD = np.uint64(32)


class Spearman(NamedTuple):
    """Rank correlation of every unit with the target, each of shape (unit,)."""

    rho: NDArray[np.float64]
    p: NDArray[np.float64]
    log10_p: NDArray[np.float64]


def check_target(responses: NDArray[np.float32], target: NDArray[np.float64]) -> None:
    """Raise ValueError unless there is one finite number per image of a float32 matrix.

    Parameters
    ----------
    responses
        Responses, shape (unit, image), float32.
    target
        A number per image, shape (image,).
    """
    if responses.ndim != 2 or responses.dtype != np.float32:
        msg = (
            "expected float32 responses of shape (unit, image), "
            f"got {responses.dtype} of shape {responses.shape}"
        )
        raise ValueError(msg)
    if target.shape != responses.shape[1:] or target.dtype != np.float64:
        msg = (
            f"expected one float64 number for each of {responses.shape[1]} images, "
            f"got {target.dtype} of shape {target.shape}"
        )
        raise ValueError(msg)
    if not np.isfinite(target).all():
        msg = "the target must be finite; drop the images without a number first"
        raise ValueError(msg)
    if target.size > MOST_IMAGES:
        msg = f"expected at most {MOST_IMAGES:,} images, got {target.size:,}"
        raise ValueError(msg)


def sorted_words(
    responses: NDArray[np.float32], tag: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
    """Yield blocks of units and their responses in ascending order, each beside its image's tag.

    A word holds a response in its upper half, as an unsigned integer of the same order (-0.0 as
    +0.0), and the tag in its lower half.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32.
    tag
        A number from 0 to 2^32 - 1 per image, shape (image,).
    """
    units, images = responses.shape
    rows = max(_BLOCK_BYTES // max(8 * images, 1), 1)
    low = tag.astype(np.uint64)
    for start in range(0, units, rows):
        block = slice(start, min(start + rows, units))
        bits = np.ascontiguousarray(responses[block]).view(np.int32)
        bits = np.where(bits == _SIGN, np.int32(0), bits)
        # Flip the sign bit of positive and all bits of negative floats: order as unsigned integers.
        key = (bits ^ ((bits >> np.int32(31)) | _SIGN)).view(np.uint32)
        words = (key.astype(np.uint64) << _WORD) | low
        words.sort(axis=1)
        yield block, words


def centred_ranks(target: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return twice the midrank less its mean, an integer from 1 - image to image - 1.

    Parameters
    ----------
    target
        Finite numbers, shape (image,).
    """
    _, place, count = np.unique(target, return_inverse=True, return_counts=True)
    below = np.cumsum(count) - count
    ranks: NDArray[np.int64] = (2 * below + count - target.size)[place]
    return ranks


@njit(nogil=True, cache=True)
def _products(
    words: NDArray[np.uint64], products: NDArray[np.int64], squares: NDArray[np.int64]
) -> None:
    """Sum the products of both doubled, centred ranks, and the squares of the unit's."""
    units, images = words.shape
    for unit in range(units):
        product, square = np.int64(0), np.int64(0)
        i = 0
        while i < images:
            key = words[unit, i] >> _WORD
            tags = np.int64(0)
            stop = i
            while stop < images and (words[unit, stop] >> _WORD) == key:
                tags += np.int64(words[unit, stop] & np.uint64(0xFFFFFFFF)) - images
                stop += 1
            rank = i + stop - images
            product += rank * tags
            square += rank * rank * (stop - i)
            i = stop
        products[unit], squares[unit] = product, square


def spearman(responses: NDArray[np.float32], target: NDArray[np.float64]) -> Spearman:
    """Return Spearman's rank correlation of each unit with the target, with midranks for ties.

    The ranks and their sums are integers, so the order of the images changes nothing, and rho is
    exactly 1 or -1 where the order agrees or is reversed. p is two-sided, from Student's t with
    N - 2 degrees of freedom. A constant unit, a constant target and fewer than three images give
    rho = 0, p = 1. |rho| = 1 gives p = 0, log10 p = -inf.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32; at most `MOST_IMAGES` images.
    target
        A finite number per image, shape (image,), float64.

    Returns
    -------
    rho in [-1, 1], p and log10 p, each of shape (unit,).

    Raises
    ------
    ValueError
        Where shapes or types do not fit, the target is not finite, or there are too many images.

    References
    ----------
    Spearman (1904), The proof and measurement of association between two things; the same as
    `scipy.stats.spearmanr`.
    """
    check_target(responses, target)
    units, images = responses.shape
    products, squares = np.zeros(units, np.int64), np.zeros(units, np.int64)
    ranks = centred_ranks(target)
    # Shifted by the number of images the ranks are tags that are not negative.
    for block, words in sorted_words(responses, ranks + images):
        _products(words, products[block], squares[block])
    return _correlation(products, squares, int((ranks**2).sum()), images)


def _correlation(
    products: NDArray[np.int64], squares: NDArray[np.int64], target_squares: int, images: int
) -> Spearman:
    """Return rho and p from the sums over centred ranks, in integers of any size."""
    rho, f = np.zeros(products.shape), np.zeros(products.shape)
    degrees = images - 2
    if degrees < 1:
        return Spearman(rho, rho + 1.0, f)
    for unit, (product, square) in enumerate(zip(products.tolist(), squares.tolist(), strict=True)):
        whole = square * target_squares
        if whole:
            # Exact before the division: 1 - rho^2 keeps its digits where rho is close to 1.
            unexplained = whole - product * product
            rho[unit] = np.copysign(np.sqrt(product * product / whole), product)
            f[unit] = degrees * product * product / unexplained if unexplained else np.inf
    log10_p = f_log10_sf(f, 1, degrees)
    return Spearman(rho + 0.0, 10.0**log10_p, log10_p)
