"""How far the classes lie apart in the space of a layer: distances of all pairs of a sample.

Values are compared as they are. Give standardised responses (`layer_moments.standardised`) where
every unit is to count alike; `sample_queries` draws the images where all would be too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE = 32
"""Images whose vectors stay in the processor's cache while others pass by."""
_ROUNDING = 1e-12
"""Distances closer than this share of the largest one are equal."""


class Separation(NamedTuple):
    """How far the classes of a sample lie apart; NaN where undefined."""

    silhouette: float
    """Mean silhouette, from -1 to 1."""
    anosim_r: float
    """ANOSIM's R, from -1 to 1."""


def separation(values: NDArray[np.floating], code: NDArray[np.integer]) -> Separation:
    """Return both measures from one calculation of the distances.

    Time grows with the square of the images; the distances take 4 bytes times that square.

    Parameters
    ----------
    values
        One finite vector per image, shape (image, unit).
    code
        Class code of each image, shape (image,); any integers.

    Raises
    ------
    ValueError
        Where the values are not a finite matrix, or there is not one integer code per image.
    """
    own = _class_numbers(values, code)
    distance = _distances(np.ascontiguousarray(values, np.float64))
    return Separation(_silhouette(distance, own), _anosim_r(distance, own))


def silhouette(values: NDArray[np.floating], code: NDArray[np.integer]) -> float:
    """Return the mean silhouette of the images in their classes, by Euclidean distance.

    Of an image, (b - a) / max(a, b) with the mean distance a to the others of its class and the
    mean distance b to the images of the class that is nearest by that mean. 0 for the only image
    of a class, and where a and b are 0. NaN with fewer than two classes, or where every image is
    its own class.

    Parameters
    ----------
    values
        One finite vector per image, shape (image, unit).
    code
        Class code of each image, shape (image,); any integers.

    Raises
    ------
    ValueError
        Where the values are not a finite matrix, or there is not one integer code per image.

    References
    ----------
    Rousseeuw (1987), Silhouettes: a graphical aid to the interpretation and validation of
    cluster analysis.
    """
    own = _class_numbers(values, code)
    return _silhouette(_distances(np.ascontiguousarray(values, np.float64)), own)


def anosim_r(values: NDArray[np.floating], code: NDArray[np.integer]) -> float:
    """Return ANOSIM's R: how much farther apart images of different classes are, by ranks.

    (mean rank of the distances between classes - mean rank of those within) / (M / 2) over all M
    pairs of images; equal distances share their mean rank, also where rounding alone sets them apart
    (by 1e-12 of the largest distance from one to the next). 1 where all distances between
    classes are larger than all within, about 0 where classes say nothing, 0 where all distances
    are equal. NaN without a pair within a class or without a pair between classes.

    Parameters
    ----------
    values
        One finite vector per image, shape (image, unit).
    code
        Class code of each image, shape (image,); any integers.

    Raises
    ------
    ValueError
        Where the values are not a finite matrix, or there is not one integer code per image.

    References
    ----------
    Clarke (1993), Non-parametric multivariate analyses of changes in community structure.
    """
    own = _class_numbers(values, code)
    return _anosim_r(_distances(np.ascontiguousarray(values, np.float64)), own)


def _class_numbers(values: NDArray[np.floating], code: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the number of each image's class among those that have images, shape (image,)."""
    if values.ndim != 2 or not np.isfinite(values).all():
        msg = f"expected finite values of shape (image, unit), got shape {values.shape}"
        raise ValueError(msg)
    if code.shape != values.shape[:1] or not np.issubdtype(code.dtype, np.integer):
        msg = (
            f"expected one integer class code for each of {len(values)} images, "
            f"got {code.dtype} of shape {code.shape}"
        )
        raise ValueError(msg)
    number: NDArray[np.int64] = np.unique(code, return_inverse=True)[1].astype(np.int64)
    return number


# Sums may be reassociated, which lets the compiler use vector registers. Every pair takes the
# same path, so equal differences give equal distances.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _distances(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean distances of pairs (i, j), i < j, in order: shape (pair,)."""
    images, units = values.shape
    distance = np.empty(images * (images - 1) // 2)
    for tile in range(0, images, _TILE):
        for i in range(min(tile + _TILE, images)):
            # Where the distance from image i to image j stands, less j.
            offset = i * images - i * (i + 1) // 2 - i - 1
            for j in range(max(tile, i + 1), min(tile + _TILE, images)):
                total = 0.0
                for unit in range(units):
                    difference = values[i, unit] - values[j, unit]
                    total += difference * difference
                distance[offset + j] = np.sqrt(total)
    return distance


@njit(nogil=True, cache=True)
def _sums_by_class(
    distance: NDArray[np.float64], own: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Return the sum of distances from each image to each class, shape (image, class)."""
    sums = np.zeros((own.size, classes))
    pair = 0
    for i in range(own.size):
        for j in range(i + 1, own.size):
            sums[i, own[j]] += distance[pair]
            sums[j, own[i]] += distance[pair]
            pair += 1
    return sums


def _silhouette(distance: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    count = np.bincount(own)
    if not 2 <= count.size < own.size:
        return float("nan")
    sums = _sums_by_class(distance, own, count.size)
    image = np.arange(own.size)
    others = count[own] - 1
    inner = sums[image, own] / np.maximum(others, 1)
    sums /= count
    sums[image, own] = np.inf
    outer = sums.min(axis=1)
    larger = np.maximum(inner, outer)
    defined = (others > 0) & (larger > 0)
    return float(np.mean(np.where(defined, outer - inner, 0.0) / np.where(defined, larger, 1.0)))


@njit(nogil=True, cache=True)
def _sum_within(rank: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    """Return the sum over the pairs of images of one class."""
    total = 0.0
    pair = 0
    for i in range(own.size):
        for j in range(i + 1, own.size):
            if own[i] == own[j]:
                total += rank[pair]
            pair += 1
    return total


def _midranks(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of the distances from 1, equal ones (but for rounding) sharing theirs."""
    order = np.argsort(distance)
    ordered = distance[order]
    apart = np.diff(ordered, prepend=ordered[0]) > _ROUNDING * ordered[-1]
    tied = np.cumsum(apart)
    count = np.bincount(tied)
    rank = np.empty(distance.size)
    rank[order] = (np.cumsum(count) - (count - 1) / 2.0)[tied]
    return rank


def _anosim_r(distance: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    count = np.bincount(own)
    within = int((count * (count - 1)).sum()) // 2
    pairs = distance.size
    if within in {0, pairs}:
        return float("nan")
    # Ranks less their mean: the means of both kinds of pairs then follow from one sum.
    total = _sum_within(_midranks(distance) - (pairs + 1) / 2.0, own)
    return float(-total * (1.0 / (pairs - within) + 1.0 / within) / (pairs / 2.0))
