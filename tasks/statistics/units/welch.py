"""Welch's test of equal class means where the classes' variances may differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from activarium.tasks.statistics.ratio import ratio
from activarium.tasks.statistics.tail_probabilities import f_log10_sf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments

    Array = NDArray[np.float64]


class WelchF(NamedTuple):
    """Welch's one-way test of every unit, each of shape (unit,)."""

    f: NDArray[np.float64]
    df_within: NDArray[np.float64]
    p: NDArray[np.float64]
    log10_p: NDArray[np.float64]


def welch_f(moments: ClassMoments) -> WelchF:
    """Return Welch's test of every unit over the classes that have at least two images.

    Classes are weighted by n / variance, so that unlike in the analysis of variance a class of
    few images and large variance does not pass for a difference of means. The weight of a class
    without variance is infinite, and by rule:

    - F = 0, p = 1 for constant units, for fewer than two classes with at least two images, and
      where no class has variance and the means are equal;
    - F = inf, p = 0, log10 p = -inf where no class has variance and the means differ;
    - F, p and log10 p are NaN where some classes have variance and others have none, such as a
      unit behind a ReLU that is 0 on all images of a class. Neither the limit of a vanishing
      variance, which takes the mean of that class for known without error, nor the test without
      that class would be a test of the classes' means at its level.

    The degrees of freedom are NaN wherever F comes from one of these rules.

    Returns
    -------
    F, the degrees of freedom within classes, p and log10 p, each of shape (unit,). Those between
    classes are the number of classes with at least two images, less one.

    References
    ----------
    Welch (1951), On the comparison of several mean values: an alternative approach.
    """
    used = moments.count > 1
    classes = int(used.sum())
    n = moments.count[used].astype(np.float64)
    mean, residue = (np.compress(used, each, axis=1) for each in (moments.mean, moments.residue))
    variance = np.compress(used, moments.m2, axis=1) / (n - 1.0)
    f, df_within = np.zeros((2, *moments.low.shape))
    df_within[:] = np.nan
    if classes > 1:
        # Moments of equal float32 responses are exact: without variance it is 0, not small.
        regular = (variance > 0).all(axis=1)
        f[~regular] = _without_variance(mean[~regular], variance[~regular])
        f[regular], df_within[regular] = _weighted_f(
            n, mean[regular], residue[regular], variance[regular]
        )
        # Also where the moments, made in another way, hold the rounding of equal responses.
        f[moments.is_constant], df_within[moments.is_constant] = 0.0, np.nan
    degrees = np.where(np.isnan(df_within), 1.0, df_within)  # not used where F is 0, inf or NaN
    log10_p = f_log10_sf(f, max(classes - 1, 1), degrees)
    return WelchF(f, df_within, 10.0**log10_p, log10_p)


def _without_variance(mean: Array, variance: Array) -> Array:
    """Return F, shape (unit,), of units with a class without variance: 0, inf or NaN."""
    level = mean.max(axis=1) == mean.min(axis=1)
    return np.where((variance > 0).any(axis=1), np.nan, np.where(level, 0.0, np.inf))


def _weighted_f(n: Array, mean: Array, residue: Array, variance: Array) -> tuple[Array, Array]:
    """Return F and the degrees of freedom within, shape (unit,), of variances above 0."""
    classes = n.size
    weight = n / variance
    total = weight.sum(axis=1, keepdims=True)
    # Differences from the class of the largest weight: its own, weighted most, is not cancelled.
    heaviest = weight.argmax(axis=1)[:, None]
    offset = mean - np.take_along_axis(mean, heaviest, axis=1)
    offset += residue - np.take_along_axis(residue, heaviest, axis=1)
    offset -= (weight * offset).sum(axis=1, keepdims=True) / total
    between = (weight * offset**2).sum(axis=1) / (classes - 1)
    spread = ((1.0 - weight / total) ** 2 / (n - 1.0)).sum(axis=1)
    f = ratio(between, 1.0 + 2.0 * (classes - 2) / (classes**2 - 1) * spread, otherwise=np.nan)
    return f, ratio(classes**2 - 1.0, 3.0 * spread, otherwise=np.nan)
