"""How a unit's response differs between classes: tests and effect sizes from moments and ranks.

Arguments have the same names everywhere: `rank_sum` (unit, class) and `tie_sum` (unit,) from
`rank_units`, `moments` from `class_moments`, and `count` (class,), the images per class, the same
for all units. A class without images and a unit that never changes give defined results, stated in
each function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.merged_moments import rest_moments
from activarium.tasks.statistics.negative_responses import negative_shift
from activarium.tasks.statistics.ratio import ratio
from activarium.tasks.statistics.tail_probabilities import (
    chi2_log10_sf,
    f_log10_sf,
    normal_two_sided_log10_p,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]


class PValue(NamedTuple):
    """p-values and their decimal logarithms, which stay exact where `p` underflows to 0."""

    p: NDArray[np.float64]
    log10_p: NDArray[np.float64]


class KruskalWallis(NamedTuple):
    """Kruskal-Wallis test of every unit, each of shape (unit,)."""

    h: NDArray[np.float64]
    p: NDArray[np.float64]
    log10_p: NDArray[np.float64]
    epsilon2: NDArray[np.float64]


class Anova(NamedTuple):
    """One-way analysis of variance of every unit, each of shape (unit,)."""

    f: NDArray[np.float64]
    p: NDArray[np.float64]
    log10_p: NDArray[np.float64]
    eta2: NDArray[np.float64]


class PreferredClasses(NamedTuple):
    """Codes of the classes of the largest and second largest mean, each of shape (unit,)."""

    preferred: NDArray[np.int64]
    runner_up: NDArray[np.int64]


def mann_whitney_u(rank_sum: Array, count: Codes) -> Array:
    """Return U of each class against the rest: pairs in which the class responds more.

    Ties count one half. 0 for an empty class or one that holds all images.

    Parameters
    ----------
    rank_sum
        Sum of midranks, shape (unit, class).
    count
        Images per class, shape (class,).

    Returns
    -------
    U, shape (unit, class), in [0, n (N - n)].

    References
    ----------
    Mann and Whitney (1947), On a test of whether one of two random variables is stochastically
    larger than the other.
    """
    u: Array = rank_sum - count * (count + 1) / 2.0
    return u


def auroc(rank_sum: Array, count: Codes) -> Array:
    """Return the area under the ROC curve of each class against the rest, U / (n (N - n)).

    0.5 for constant units, and for a class that is empty or holds all images.

    Parameters
    ----------
    rank_sum
        Sum of midranks, shape (unit, class).
    count
        Images per class, shape (class,).

    Returns
    -------
    Area, shape (unit, class), in [0, 1].

    References
    ----------
    Hanley and McNeil (1982), The meaning and use of the area under a ROC curve.
    """
    pairs = (count * (count.sum() - count)).astype(np.float64)
    return ratio(mann_whitney_u(rank_sum, count), pairs, otherwise=0.5)


def mann_whitney_p(u: Array, count: Codes, tie_sum: Array) -> PValue:
    """Return the two-sided p-value of U: normal, corrected for ties and continuity.

    1 for constant units, and for a class that is empty or holds all images.

    Parameters
    ----------
    u
        U of each class against the rest, shape (unit, class).
    count
        Images per class, shape (class,).
    tie_sum
        Sum of t^3 - t over groups of t equal responses, shape (unit,).

    Returns
    -------
    p and log10 p, shape (unit, class).

    References
    ----------
    Mann and Whitney (1947); the same as `scipy.stats.mannwhitneyu(method="asymptotic")`.
    """
    images = float(count.sum())
    pairs = count * (images - count)
    cube = images * images * images - images
    tied = (cube - tie_sum)[:, None] / max(images * (images - 1.0), 1.0)
    sd = np.sqrt(pairs / 12.0 * tied)
    # Below half a step the continuity correction would pass the centre, where p is 1.
    distance = np.maximum(np.abs(u - pairs / 2.0) - 0.5, 0.0)
    log10_p = normal_two_sided_log10_p(ratio(distance, sd, otherwise=0.0))
    return PValue(10.0**log10_p, log10_p)


def kruskal_wallis(rank_sum: Array, count: Codes, tie_sum: Array) -> KruskalWallis:
    """Return the Kruskal-Wallis test of every unit over the classes that have images.

    Constant units, and fewer than two classes with images, give H = 0, p = 1, epsilon2 = 0.

    Parameters
    ----------
    rank_sum
        Sum of midranks, shape (unit, class).
    count
        Images per class, shape (class,).
    tie_sum
        Sum of t^3 - t over groups of t equal responses, shape (unit,).

    Returns
    -------
    H corrected for ties, p, log10 p and epsilon squared in [0, 1], each of shape (unit,).

    References
    ----------
    Kruskal and Wallis (1952), Use of ranks in one-criterion variance analysis;
    Kelley (1935), An unbiased correlation ratio measure, for epsilon squared as in Tomczak and
    Tomczak (2014), H / ((N^2 - 1) / (N + 1)).
    """
    filled = count > 0
    n = count[filled].astype(np.float64)
    images = n.sum()
    # Centred mean ranks: the textbook's sum of squares minus 3 (N + 1) cancels where H is small.
    centred = np.compress(filled, rank_sum, axis=1) / n - (images + 1.0) / 2.0
    cube = images * images * images - images
    between = 12.0 * (images - 1.0) * (centred**2 * n).sum(axis=1)
    h = ratio(between, cube - tie_sum, otherwise=0.0)
    if n.size < 2:
        h = np.zeros_like(h)
    log10_p = chi2_log10_sf(h, max(n.size - 1, 1))
    return KruskalWallis(h, 10.0**log10_p, log10_p, np.minimum(h / max(images - 1.0, 1.0), 1.0))


def anova(moments: ClassMoments) -> Anova:
    """Return the one-way analysis of variance of every unit over the classes that have images.

    Constant units, fewer than two classes with images, and no more images than classes give
    F = 0, p = 1, eta2 = 0. Different means without variance within classes give F = inf, p = 0,
    log10 p = -inf, eta2 = 1.

    Returns
    -------
    F, p, log10 p and eta squared in [0, 1], each of shape (unit,).

    References
    ----------
    Fisher (1925), Statistical methods for research workers, chapter 7.
    """
    classes = int((moments.count > 0).sum())
    between_df, within_df = classes - 1, moments.images - classes
    if between_df < 1 or within_df < 1:
        zero = np.zeros(moments.low.shape)
        return Anova(zero, zero + 1.0, zero.copy(), zero.copy())
    between = np.where(moments.is_constant, 0.0, moments.between_m2)
    within = moments.within_m2
    f = ratio(between / between_df, within / within_df, otherwise=np.inf)
    f = np.where(moments.is_constant, 0.0, f)
    eta2 = ratio(between, between + within, otherwise=0.0)
    log10_p = f_log10_sf(f, between_df, within_df)
    return Anova(f, 10.0**log10_p, log10_p, eta2)


def preferred_classes(mean: Array, count: Codes) -> PreferredClasses:
    """Return the classes that a unit responds to most and second most.

    Equal means go to the lower code. -1 stands for undefined: both where the means of several
    classes are all equal, as in constant units, or no class has images; the runner-up where
    fewer than two classes have images.

    Parameters
    ----------
    mean
        Mean response, shape (unit, class), finite where a class has images.
    count
        Images per class, shape (class,).

    Returns
    -------
    Codes of the preferred class and of the runner-up, each of shape (unit,).
    """
    code = np.flatnonzero(count > 0)
    undefined = np.full(mean.shape[0], -1, np.int64)
    if code.size == 0:
        return PreferredClasses(undefined, undefined.copy())
    filled = mean[:, code]
    # The two largest alone: to sort all classes takes ten times as long where there are many.
    first = filled.argmax(axis=1)
    if code.size == 1:
        return PreferredClasses(code[first], undefined)
    level = filled.max(axis=1) == filled.min(axis=1)
    np.put_along_axis(filled, first[:, None], -np.inf, axis=1)
    second = filled.argmax(axis=1)
    return PreferredClasses(np.where(level, -1, code[first]), np.where(level, -1, code[second]))


def class_z(mean: Array) -> Array:
    """Return each class mean as a z-score across the unit's class means.

    Their offsets from any one number have the same scores: `ClassMoments.offset` keeps the digits
    of means that differ little.

    The standard deviation is the population's. 0 where all class means are equal; NaN for
    classes without images, whose mean is NaN.

    Parameters
    ----------
    mean
        Mean response, shape (unit, class); NaN for a class without images.

    Returns
    -------
    z-scores, shape (unit, class).
    """
    z = np.full(mean.shape, np.nan)
    _standardise(mean, z)
    return z


@njit(nogil=True, cache=True)
def _standardise(mean: Array, z: Array) -> None:
    """Fill the z-scores of each unit's class means, but for those that are NaN."""
    for unit in range(mean.shape[0]):
        code = np.flatnonzero(~np.isnan(mean[unit]))
        if code.size == 0:
            continue
        # Differences from one class first, so that equal means give exact zeros.
        centred = mean[unit][code] - mean[unit, code[0]]
        # Twice, as the first sum rounds: small scores keep their digits.
        centred -= centred.sum() / code.size
        centred -= centred.sum() / code.size
        sd = np.sqrt((centred**2).sum() / code.size)
        if sd > 0.0:
            centred /= sd
        else:
            centred[:] = 0.0
        z[unit][code] = centred


def hedges_g(moments: ClassMoments) -> Array:
    """Return the standardised difference of each class from the rest, bias corrected.

    (class mean - rest mean) / pooled sd, times 1 - 3 / (4 (N - 2) - 1). 0 for constant units, for
    a class that is empty or holds all images, and for fewer than four images, where the
    correction is 0 or undefined. Where both sides are constant but differ, infinity with the
    sign of the difference.

    Returns
    -------
    Hedges' g, shape (unit, class).

    References
    ----------
    Hedges (1981), Distribution theory for Glass's estimator of effect size and related
    estimators.
    """
    rest_count, rest_offset, rest_m2 = rest_moments(moments)
    degrees = moments.images - 2
    if degrees < 2:
        return np.zeros(moments.mean.shape)
    difference = moments.offset - rest_offset
    pooled = np.sqrt((moments.m2 + rest_m2) / degrees)
    g = np.zeros(moments.mean.shape)
    np.divide(difference, pooled, out=g, where=pooled > 0)
    g *= 1.0 - 3.0 / (4.0 * degrees - 1.0)
    apart = (pooled == 0) & (difference != 0)
    g[apart] = np.copysign(np.inf, difference[apart])
    g[:, (moments.count == 0) | (rest_count == 0)] = 0.0
    g[moments.is_constant] = 0.0
    return g


def lifetime_sparseness(moments: ClassMoments) -> Array:
    """Return how few of the images a unit answers to.

    (1 - mean(r)^2 / mean(r^2)) / (1 - 1 / N): 0 where it answers to all images alike, 1 where to
    one only. It is made for responses that are not negative: where a unit's smallest response is
    below 0, it is first subtracted from all. 0 for constant units and for one image.

    Returns
    -------
    Sparseness, shape (unit,), in [0, 1].

    References
    ----------
    Vinje and Gallant (2000), Sparse coding and decorrelation in primary visual cortex during
    natural vision.
    """
    images = moments.images
    if images < 2:
        return np.zeros(moments.low.shape)
    mean = moments.overall_mean_above(negative_shift(moments))
    m2 = np.where(moments.is_constant, 0.0, moments.overall_m2)
    # With mean(r^2) = mean^2 + m2 / N the numerator is m2 / N over mean(r^2): no subtraction.
    sparseness = ratio(m2 / (images - 1), mean**2 + m2 / images, otherwise=0.0)
    return np.clip(sparseness, 0.0, 1.0)
