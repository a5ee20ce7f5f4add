"""Confidence intervals of the standardised difference of each class from the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from activarium.tasks.statistics.intervals.confidence import (
    FEWEST_ACTIVE,
    Interval,
    t_quantile,
    t_series,
)
from activarium.tasks.statistics.merged_moments import rest_moments
from activarium.tasks.statistics.shape_moments import rest_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.shape_moments import ShapeMoments

    Array = NDArray[np.float64]


def hedges_g_interval(
    g: NDArray[np.float64],
    moments: ClassMoments,
    shapes: ShapeMoments,
    few: NDArray[np.bool_],
    *,
    level: float = 0.95,
) -> Interval:
    """Return a confidence interval of Hedges' g of each class against the rest, g -+ q sd.

    By the delta method, which supposes neither normal responses nor equal variances. An image of
    the class at a distance d of its mean moves the difference of means over the pooled sd s by
    d / s, and s itself: together by d / s - c (d^2 - v) with c = g (n - 1) / (N - 2) / (2 s^2), the
    class's variance v and g before its correction for bias; likewise, with -d, those of the rest.
    The variance of this over the images of a side is made of the second, third and fourth moments
    about its mean. As few images tell it poorly, one image more counts with variance 1, which is
    that of equal variances without a difference, where that is larger. q is Student's, with the
    degrees of freedom of Welch and Satterthwaite of the two sides.

    NaN where `few` says so, and where g is infinite or 0 by rule. With heavy tails the variance is
    not told by any sample, and no interval of g holds its level.

    Parameters
    ----------
    g
        `hedges_g` of the moments, shape (unit, class).
    moments, shapes
        Moments per unit and class.
    few
        Where too few images activate a unit, shape (unit, class): `few_active`.
    level
        Confidence level, between 0 and 1.

    Returns
    -------
    Ends of the interval, each of shape (unit, class).

    Raises
    ------
    ValueError
        Where `level` is not between 0 and 1.

    References
    ----------
    Hedges (1981), Distribution theory for Glass's estimator of effect size and related estimators;
    Bonett (2008), Confidence intervals for standardized linear contrasts of means, for unequal
    variances; van der Vaart (1998), Asymptotic statistics, chapter 3, for the delta method.
    """
    series = t_series(level)
    half = np.full(g.shape, np.nan)
    known = np.isfinite(g) & ~few & ~moments.is_constant[:, None]
    known &= np.minimum(moments.count, moments.images - moments.count) >= FEWEST_ACTIVE
    _, _, rest_m2 = rest_moments(moments)
    rest = rest_shapes(moments, shapes)
    _fill_half(g, known, moments.count, (moments.m2, *shapes), (rest_m2, *rest), series, half)
    return Interval(g - half, g + half)


@njit(nogil=True, cache=True)
def _fill_half(  # noqa: PLR0913, PLR0917 - moments of both sides, and the result
    g: Array,
    known: NDArray[np.bool_],
    count: NDArray[np.int64],
    own: tuple[Array, Array, Array],
    rest: tuple[Array, Array, Array],
    series: Array,
    half: Array,
) -> None:
    """Fill half the length of the intervals where they are defined."""
    images = count.sum()
    correction = 1.0 - 3.0 / (4.0 * (images - 2.0) - 1.0)
    for unit in range(g.shape[0]):
        for code in range(count.size):
            if not known[unit, code]:
                continue
            n, m = float(count[code]), float(images - count[code])
            pooled = np.sqrt((own[0][unit, code] + rest[0][unit, code]) / (images - 2.0))
            if pooled <= 0.0:
                continue
            sums = (own[0][unit, code], own[1][unit, code], own[2][unit, code])
            others = (rest[0][unit, code], rest[1][unit, code], rest[2][unit, code])
            shift = g[unit, code] / correction / (2.0 * (images - 2.0))
            one = _variance_of_mean(sums, n, pooled, shift)
            two = _variance_of_mean(others, m, pooled, -shift)
            degrees = (one + two) ** 2 / (one * one / n + two * two / m)
            half[unit, code] = t_quantile(series, degrees) * np.sqrt(one + two)


@njit(nogil=True, cache=True)
def _variance_of_mean(
    sums: tuple[float, float, float], images: float, pooled: float, shift: float
) -> float:
    """Return the variance that one side's images give to g; `pooled` is the sd."""
    scale = 1.0 / pooled
    variance = sums[0] / (images - 1.0) * scale * scale
    # One factor at a time: powers of the sd of tiny responses would leave the range of numbers.
    skewness = sums[1] / images * scale * scale * scale
    fourth = sums[2] / images * scale * scale * scale * scale
    weight = shift * (images - 1.0)
    spread = weight * weight * max(fourth - variance * variance, 0.0)
    found = max(variance - 2.0 * weight * skewness + spread, 0.0)
    return ((images - 1.0) * found + max(found, 1.0)) / (images * images)
