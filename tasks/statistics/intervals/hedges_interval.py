"""Confidence intervals of the standardised difference of each class from the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.intervals.confidence import Interval, two_sided_z
from activarium.tasks.statistics.units.preference import hedges_g

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments


def hedges_g_interval(moments: ClassMoments, *, level: float = 0.95) -> Interval:
    """Return a confidence interval of Hedges' g of each class against the rest.

    g -+ z sd, normal, with the large-sample variance (n + m) / (n m) + g^2 / (2 (n + m)) of n
    images of the class and m of the rest, and the g corrected for bias; the interval that
    metafor's `escalc(measure="SMD", vtype="LS")` leads to. It takes the responses for normal with
    equal variances, and is narrow for classes of few images. NaN where g is 0 by rule or
    infinite: for constant units, for a class that is empty or holds all images, for fewer than
    four images, and where neither side has variance.

    Parameters
    ----------
    moments
        Moments per unit and class.
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
    Hedges and Olkin (1985), Statistical methods for meta-analysis, chapter 5, equation 8.
    """
    return interval_of_g(hedges_g(moments), moments, level=level)


def interval_of_g(
    g: NDArray[np.float64], moments: ClassMoments, *, level: float = 0.95
) -> Interval:
    """Return `hedges_g_interval` where `hedges_g` of the moments, shape (unit, class), is known."""
    z = two_sided_z(level)
    count = moments.count.astype(np.float64)
    rest = moments.images - count
    # 1/n + 1/m; where one of them is 0 the interval is NaN.
    sampling = np.sqrt(1.0 / np.maximum(count, 1.0) + 1.0 / np.maximum(rest, 1.0))
    # As a hypotenuse, which does not overflow where g is very large.
    half = np.hypot(sampling, g / np.sqrt(2.0 * max(moments.images, 1)))
    half *= z
    half[~np.isfinite(g)] = np.nan
    half[:, (count == 0) | (rest == 0)] = np.nan
    half[moments.is_constant | (moments.images < 4)] = np.nan
    return Interval(g - half, g + half)
