"""Confidence intervals of the area under the ROC curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from activarium.tasks.statistics.intervals.confidence import Interval, two_sided_z

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def delong_interval(
    auroc: NDArray[np.float64],
    variance: NDArray[np.float64],
    count: NDArray[np.int64],
    *,
    level: float = 0.95,
) -> Interval:
    """Return a confidence interval of the AUROC of each class against the rest.

    Where 0 < AUROC < 1, it is normal on the scale of the logit, ln(A / (1 - A)) -+ z sd / (A
    (1 - A)), and taken back: it stays inside (0, 1), where A -+ z sd passes the ends. For sides
    of fewer than about ten images DeLong's variance is a poor estimate and the interval is too
    narrow: one of 95 % holds the true area in 75 to 97 % of normal samples.

    Where the AUROC is exactly 0 or 1, its variance is 0 whatever the number of images, and the
    interval is the bound that Clopper and Pearson give for as many successes in as many trials:
    from ((1 - level) / 2)^(1 / k) to 1, and mirrored for 0, with k the images of the smaller side.
    Match each of them with another image of the other side: these k pairs are independent, and
    each is in order with a probability of the true area A at most. So all pairs are in order
    with a probability of A^k at most, whatever the distributions: the bound is never too narrow.

    NaN for a class that is empty or holds all images, where the variance is NaN, and where it is
    0 though 0 < AUROC < 1, which is so only where all responses are equal.

    Parameters
    ----------
    auroc
        Area under the ROC curve, shape (unit, class), in [0, 1].
    variance
        Its variance by DeLong, shape (unit, class); not looked at where the area is 0 or 1.
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
    receiver operating characteristic curves; Pepe (2003), The statistical evaluation of medical
    tests for classification and prediction, chapter 5, for the logit; Clopper and Pearson (1934),
    The use of confidence or fiducial limits illustrated in the case of the binomial.
    """
    z = two_sided_z(level)
    smaller = np.minimum(count, count.sum() - count)
    # Without images on one side the bound is not used: k = 1 only keeps the power defined.
    bound = ((1.0 - level) / 2.0) ** (1.0 / np.maximum(smaller, 1))
    low, high = np.full((2, *auroc.shape), np.nan)
    _fill_ends(auroc, variance, smaller, bound, z, low, high)
    return Interval(low, high)


@njit(nogil=True, cache=True)
def _fill_ends(  # noqa: PLR0913, PLR0917 - areas of all units, and the results
    auroc: Array,
    variance: Array,
    smaller: NDArray[np.int64],
    bound: Array,
    z: float,
    low: Array,
    high: Array,
) -> None:
    """Fill the ends where they are defined."""
    for unit in range(auroc.shape[0]):
        for code in range(smaller.size):
            area, spread = auroc[unit, code], variance[unit, code]
            if smaller[code] == 0:
                continue
            if area == 1.0:
                low[unit, code], high[unit, code] = bound[code], 1.0
            elif area == 0.0:
                low[unit, code], high[unit, code] = 0.0, 1.0 - bound[code]
            elif spread > 0.0:
                low[unit, code], high[unit, code] = _logit_interval(area, spread, z)


@njit(nogil=True, cache=True)
def _logit_interval(area: float, variance: float, z: float) -> tuple[float, float]:
    """Return the ends for an area inside (0, 1) and a variance above 0."""
    # On the scale of the odds, A / (1 - A): there a step of the logit is a factor.
    odds = area / (1.0 - area)
    factor = np.exp(-z * np.sqrt(variance) / (area * (1.0 - area)))
    return odds * factor / (1.0 + odds * factor), odds / (odds + factor)
