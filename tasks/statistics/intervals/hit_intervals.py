"""Intervals of shares of images: those that a probe gets right, and neighbours of one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.intervals.confidence import score_interval, two_sided_z

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]


_LARGEST = 0.9
"""Share of the images that a class may hold for an interval of the purity."""


def accuracy_interval(
    right: NDArray[np.bool_], *, folds: int, group: Codes | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Return a score interval of a cross-validated accuracy.

    For what as many other images of the same classes would give on average. The variance of the
    hits, p (1 - p) / N, leaves out that each image trains the classifiers of other images; there is
    no unbiased estimate of what that adds. As large a share of it is added as images are tested
    for one that is trained on, 1 / (folds - 1), the part of Nadeau and Bengio's correction that
    does not multiply by the folds.

    Parameters
    ----------
    right
        Whether each image's class was predicted, shape (image,).
    folds
        Number of folds.
    group
        Group of each image, shape (image,): hits of one group are counted together.
    level
        Confidence level, between 0 and 1.

    Returns
    -------
    The ends, in [0, 1]; NaN without images.

    References
    ----------
    Nadeau and Bengio (2003), Inference for the generalization error; Bengio and Grandvalet (2004), No
    unbiased estimator of the variance of k-fold cross-validation.
    """
    if not right.size:
        return np.nan, np.nan
    deviation = right - right.mean()
    variance = _clustered(deviation, group) / right.size**2 * folds / (folds - 1.0)
    return _score(float(right.mean()), variance, right.size, level)


def purity_interval(
    label: Codes,
    near: Codes,
    queries: Codes,
    *,
    group: Codes | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return a score interval of the class purity of nearest neighbours.

    For what as many other images of the same classes would give on average. An image counts twice:
    by its own neighbours, and as a neighbour of others. Without it, its query goes and the next
    neighbour takes its place among those of others: the jackknife, exactly, within each class.
    Where neighbours do not follow classes its variance is twice the true one, so what pairs of
    images alone add, (1[same class] - purity)^2 (a_ij + a_ji)^2 with the shares a that i and j have
    in each other's purity, is taken off once, but no more than half.

    NaN where a class has fewer than twice as many images as neighbours are looked at, which are
    nearly used up then, and where one class holds more than nine tenths of the images: there the
    intervals would be too narrow.

    Parameters
    ----------
    label
        Class of each image, shape (image,).
    near
        One neighbour more than the purity looks at, the nearest first, shape (query, k + 1).
    queries
        Images whose neighbours they are, shape (query,).
    group
        Group of each image, shape (image,), whose images count together.
    level
        Confidence level, between 0 and 1.

    Returns
    -------
    The ends, in [0, 1], or NaN.

    References
    ----------
    Efron and Stein (1981), The jackknife estimate of variance.
    """
    images, k = len(label), near.shape[1] - 1
    sizes = np.bincount(label)
    if sizes[sizes > 0].min() < 2 * k or sizes.max() > _LARGEST * images:
        return np.nan, np.nan
    same = (label[near] == label[queries, None]).astype(np.float64)
    own = same[:, :k].mean(axis=1)
    purity = float(own.mean())
    change = np.zeros(images)
    np.add.at(change, near[:, :k], (same[:, k:] - same[:, :k]) / k)
    change[queries] += purity - own
    change -= (np.bincount(label, change) / np.maximum(sizes, 1))[label]
    variance = _clustered(change, group) / len(queries) ** 2
    pairs = _pair_variance(near[:, :k], queries, (same[:, :k] - purity) ** 2, images)
    variance -= min(pairs, variance / 2.0)
    return _score(purity, variance, len(queries), level)


def _pair_variance(near: Codes, queries: Codes, squares: Array, images: int) -> float:
    """Return the variance of a purity that pairs of neighbours alone make."""
    edge = (queries[:, None] * images + near).ravel()
    back = (near * images + queries[:, None]).ravel()
    shared = 1.0 + np.isin(back, edge)
    return float((squares.ravel() * shared).sum()) / near.size**2


def _clustered(deviation: Array, group: Codes | None) -> float:
    """Return the variance of a sum of deviations, those of one group taken together."""
    member = (
        np.arange(len(deviation)) if group is None else np.unique(group, return_inverse=True)[1]
    )
    sums = np.bincount(member, deviation)
    return float((sums**2).sum()) * len(sums) / max(len(sums) - 1, 1)


def _score(value: float, variance: float, images: int, level: float) -> tuple[float, float]:
    """Return the score interval; of a share of 0 or 1, that of so many images."""
    z = two_sided_z(level)
    if variance > 0.0 and 0.0 < value < 1.0:
        return score_interval(value, variance, z)
    edge = z * z / (images + z * z)
    return (0.0, edge) if value < 0.5 else (1.0 - edge, 1.0)
