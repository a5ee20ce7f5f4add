"""Confidence intervals of the area under the ROC curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from activarium.tasks.statistics.intervals.confidence import (
    Interval,
    few_active,
    score_interval,
    t_quantile,
    t_series,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.ranks.ranking import Ranks

    Array = NDArray[np.float64]

_PRIOR = 4.0
"""Images that the expected variance of a side counts as."""
_PRIOR_SHARE = 1.0 / 3.0
"""Expected variance of a side as a share of that of single pairs: of equal distributions 1/12 of 1/4."""


def auroc_interval(
    auroc: NDArray[np.float64],
    ranks: Ranks,
    count: NDArray[np.int64],
    *,
    level: float = 0.95,
) -> Interval:
    """Return a score interval of the AUROC A of each class against the rest.

    DeLong's variance is that of the placements of either side, s / n + t / m. For few images, or
    where few activate the unit, s and t are poor estimates, and too small most often where A is far
    from 1/2. So each is averaged with the variance that it has where placements are spread evenly,
    a third of that of single pairs, A (1 - A) - P / 4 with the share P of tied pairs, which counts
    as four images; P counts the ties of the smallest response. The variance V changes with A as a
    binomial one: the ends are the areas a with (A - a)^2 = q^2 V a (1 - a) / (A (1 - A)), Wilson's
    interval of A (1 - A) / V images. q is Student's, with the degrees of freedom of Welch and
    Satterthwaite of the two sides. Both ends lie in [0, 1], and the interval of the rest against
    the class is the mirrored one.

    Where the AUROC is exactly 0 or 1 the interval is the bound that Clopper and Pearson give for as
    many successes in as many trials: from ((1 - level) / 2)^(1 / k) to 1, and mirrored for 0, with k
    the images of the smaller side. Match each of them with another image of the other side: these k
    pairs are independent, and each is in order with a probability of the true area A at most.

    NaN where fewer than ten images of the class or of the rest activate the unit (`few_active`):
    there one of 95 % would hold the true area far less often.

    Parameters
    ----------
    auroc
        Area under the ROC curve, shape (unit, class), in [0, 1].
    ranks
        The ranks that it comes from.
    count
        Images per class, shape (class,).
    level
        Confidence level, between 0 and 1.

    Returns
    -------
    Ends of the interval, each of shape (unit, class), in [0, 1] or NaN.

    Raises
    ------
    ValueError
        Where `level` is not between 0 and 1.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more correlated
    receiver operating characteristic curves; Wilson (1927), Probable inference, the law of
    succession, and statistical inference; Newcombe (2006), Confidence intervals for an effect size
    measure based on the Mann-Whitney statistic, part 2, for variances at the ends; Clopper and
    Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial.
    """
    series = t_series(level)
    smaller = np.minimum(count, count.sum() - count)
    bound = ((1.0 - level) / 2.0) ** (1.0 / np.maximum(smaller, 1))
    low, high = np.full((2, *auroc.shape), np.nan)
    few = few_active(ranks.lowest, count)
    sides = (ranks.class_variance, ranks.rest_variance, ranks.lowest)
    _fill_ends(auroc, sides, count, few, bound, series, low, high)
    return Interval(low, high)


@njit(nogil=True, cache=True)
def _fill_ends(  # noqa: PLR0913, PLR0917 - areas of all units, and the results
    auroc: Array,
    sides: tuple[Array, Array, NDArray[np.int32]],
    count: NDArray[np.int64],
    few: NDArray[np.bool_],
    bound: Array,
    series: Array,
    low: Array,
    high: Array,
) -> None:
    """Fill the ends where they are defined."""
    own, others, lowest = sides
    images = count.sum()
    for unit in range(auroc.shape[0]):
        at_lowest = lowest[unit].sum()
        for code in range(count.size):
            area, n, m = auroc[unit, code], count[code], images - count[code]
            if few[unit, code]:
                continue
            if area == 1.0:
                low[unit, code], high[unit, code] = bound[code], 1.0
            elif area == 0.0:
                low[unit, code], high[unit, code] = 0.0, 1.0 - bound[code]
            else:
                ties = lowest[unit, code] / n * ((at_lowest - lowest[unit, code]) / m)
                expected = _PRIOR_SHARE * max(area * (1.0 - area) - ties / 4.0, 0.0)
                one = _variance_of_mean(own[unit, code], n, expected)
                two = _variance_of_mean(others[unit, code], m, expected)
                degrees = (one + two) ** 2 / (
                    one**2 / (n - 1.0 + _PRIOR) + two**2 / (m - 1.0 + _PRIOR)
                )
                q = t_quantile(series, degrees)
                low[unit, code], high[unit, code] = score_interval(area, one + two, q)


@njit(nogil=True, cache=True)
def _variance_of_mean(variance: float, images: int, expected: float) -> float:
    """Return the variance of the mean of one side's placements, averaged with the expected one."""
    pooled = ((images - 1.0) * variance + _PRIOR * expected) / (images - 1.0 + _PRIOR)
    return pooled / images
