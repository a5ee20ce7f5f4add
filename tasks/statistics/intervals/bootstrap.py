"""Bootstrap interval of a mean over units."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from activarium.tasks.statistics.intervals.confidence import two_sided_z

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_DRAWS = 1 << 18
"""Values drawn at a time, so that memory does not grow with the number of values."""


class MeanInterval(NamedTuple):
    """Ends of the confidence interval of one mean; both NaN where undefined."""

    low: float
    high: float


def bootstrap_mean_interval(
    values: NDArray[np.float64], *, level: float = 0.95, resamples: int = 9_999, seed: int
) -> MeanInterval:
    """Return the bias-corrected and accelerated bootstrap interval of the mean.

    The same values, in any order, and the same seed give the same interval. Equal values give
    that value twice, and fewer than two values NaN.

    Parameters
    ----------
    values
        Finite values, shape (value,).
    level
        Confidence level, between 0 and 1.
    resamples
        How many times values are drawn with replacement.
    seed
        Seed of the draws.

    Returns
    -------
    Ends of the interval, between the smallest and the largest value.

    Raises
    ------
    ValueError
        Where `values` is not one-dimensional, a value is not finite, `level` is not between 0
        and 1, or `resamples` is below 1.

    References
    ----------
    Efron (1987), Better bootstrap confidence intervals; the same as `scipy.stats.bootstrap` with
    method "BCa".
    """
    z = two_sided_z(level)
    if values.ndim != 1 or not np.isfinite(values).all():
        msg = f"expected finite values of shape (value,), got shape {values.shape} or NaN or inf"
        raise ValueError(msg)
    if resamples < 1:
        msg = f"expected 1 resample or more, got {resamples}"
        raise ValueError(msg)
    if values.size < 2:
        return MeanInterval(np.nan, np.nan)
    ordered = np.sort(values.astype(np.float64))
    low, high = float(ordered[0]), float(ordered[-1])
    if low == high:
        return MeanInterval(low, high)
    # Differences from one value first: a large mean costs the deviations no digits.
    deviation = ordered - low
    middle = deviation.mean()
    deviation -= middle
    shifts = _resampled_means(deviation, resamples, seed)
    ends = low + (middle + np.quantile(shifts, _adjusted(deviation, shifts, z)))
    return MeanInterval(*(float(end) for end in np.clip(ends, low, high)))


def _resampled_means(values: Array, resamples: int, seed: int) -> Array:
    """Return the mean of each resample, shape (resample,)."""
    rng = np.random.default_rng(seed)
    rows = max(1, _DRAWS // values.size)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        drawn = rng.integers(values.size, size=(part.size, values.size), dtype=np.int32)
        part[:] = values[drawn].mean(axis=1)
    return means


def _adjusted(deviation: Array, shifts: Array, z: float) -> Array:
    """Return the two shares of resamples below the ends of the interval.

    `deviation` are the values less their mean, `shifts` the resamples' means less it.
    """
    largest = np.abs(deviation).max()
    scaled = deviation / largest
    # The jackknife's acceleration; for a mean it is a sixth of the values' skewness / sqrt(n).
    acceleration = (scaled**3).sum() / (6.0 * (scaled**2).sum() ** 1.5)
    # A resample with the mean of the values counts one half, and rounding must not decide it.
    rounding = 1e-12 * largest
    below = ((shifts < -rounding).sum() + (shifts <= rounding).sum()) / (2.0 * shifts.size)
    # Where all resamples lie on one side the share is moved half a resample inside.
    step = 0.5 / shifts.size
    bias = special.ndtri(np.clip(below, step, 1.0 - step))
    from_bias = bias + np.array([-z, z])
    # Beyond its pole the correction has no meaning: the end is then the outermost resample.
    moved = from_bias / np.maximum(1.0 - acceleration * from_bias, 1e-9)
    return np.asarray(special.ndtr(bias + moved))
