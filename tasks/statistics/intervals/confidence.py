"""What confidence intervals have in common."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from numpy.polynomial.chebyshev import Chebyshev
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FEWEST_ACTIVE = 10
"""Active images that both sides of a comparison need for an interval that holds its level."""
_LEAST_DEGREES = 8.0
"""Degrees of freedom from which on `t_quantile` is exact; ten images on each side leave more."""
_TERMS = 24


class Interval(NamedTuple):
    """Ends of confidence intervals, both of one shape; both NaN where undefined."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def two_sided_z(level: float) -> float:
    """Return the z that a standard normal variable exceeds in size with probability 1 - level.

    Raises
    ------
    ValueError
        Where `level` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        msg = f"expected a level between 0 and 1, such as 0.95, got {level!r}"
        raise ValueError(msg)
    return float(-special.ndtri((1.0 - level) / 2.0))


@lru_cache(maxsize=8)
def t_series(level: float) -> Array:
    """Return the Chebyshev series from which `t_quantile` takes two-sided quantiles of one level.

    In 1 / df, in which the quantile is smooth: SciPy's function takes a microsecond for each value,
    more than all else about an interval.
    """
    two_sided_z(level)
    tail = (1.0 + level) / 2.0

    def quantile(inverse: Array) -> Array:
        return np.asarray(special.stdtrit(1.0 / inverse, tail))

    series = Chebyshev.interpolate(quantile, _TERMS, domain=[0.0, 1.0 / _LEAST_DEGREES])
    # Of a common level a dozen terms are left.
    return np.asarray(series.trim(tol=1e-11).coef, np.float64)


@njit(nogil=True, cache=True)
def t_quantile(series: Array, degrees: float) -> float:
    """Return the t that Student's t exceeds in size with probability 1 - level.

    Parameters
    ----------
    series
        `t_series` of the level.
    degrees
        Degrees of freedom, 8 or more.
    """
    # Clenshaw's recurrence at 1 / degrees, moved to -1 .. 1.
    x = 2.0 * _LEAST_DEGREES / degrees - 1.0
    one = two = 0.0
    for k in range(series.size - 1, 0, -1):
        one, two = series[k] + 2.0 * x * one - two, one
    quantile: float = series[0] + x * one - two
    return quantile


@njit(nogil=True, cache=True)
def score_interval(value: float, variance: float, q: float) -> tuple[float, float]:
    """Return the values that lie q standard deviations, each its own, from one inside (0, 1).

    The variance changes with the value as a binomial one: Wilson's interval of value (1 - value) /
    variance images.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    scale = q * q * variance / (value * (1.0 - value))
    middle = (value + scale / 2.0) / (1.0 + scale)
    half = np.sqrt(q * q * variance + scale * scale / 4.0) / (1.0 + scale)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def few_active(lowest: NDArray[np.integer], count: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where a class or the rest has fewer than ten images that a unit is active for.

    A unit is active for an image where it responds more than at least; where a single image has the
    smallest response, for that one too. So after a ReLU the zeros are not active, and of dense
    responses all are.

    Parameters
    ----------
    lowest
        Images of each class at the unit's smallest response, shape (unit, class).
    count
        Images per class, shape (class,).

    Returns
    -------
    Shape (unit, class).
    """
    alone = lowest.sum(axis=1, keepdims=True) == 1
    active = count - np.where(alone, 0, lowest)
    found: NDArray[np.bool_] = (
        np.minimum(active, active.sum(axis=1, keepdims=True) - active) < FEWEST_ACTIVE
    )
    return found
