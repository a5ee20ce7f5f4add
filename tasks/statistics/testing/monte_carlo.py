"""Whether one network lies apart from draws of the same kind, by where it ranks among them.

Nothing is assumed of how the layers of a network depend on each other: each draw is a whole network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.ratio import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_TIE = 1e-9
"""Values that differ by no more, or by no more standard deviations, count as equal."""


def monte_carlo_p(own: Array, draws: Array) -> Array:
    """Return the one-sided Monte-Carlo p of each layer, (1 + draws that reach it) / (R + 1).

    Parameters
    ----------
    own
        The network's measure of each layer, shape (layer,); NaN where there is none.
    draws
        The same of R draws, shape (draw, layer).

    Returns
    -------
    p, shape (layer,), in [1 / (R + 1), 1]; NaN where the network or a draw has no measure.

    References
    ----------
    Barnard (1963), in the discussion of Bartlett, The spectral analysis of point processes; Phipson
    and Smyth (2010), Permutation p-values should never be zero, equation 2.
    """
    unknown = np.isnan(own) | np.isnan(draws).any(axis=0)
    with np.errstate(invalid="ignore"):
        reached = (draws >= own - _TIE).sum(axis=0)
    return np.where(unknown, np.nan, (1.0 + reached) / (len(draws) + 1.0))


def monte_carlo_max_p(own: Array, draws: Array) -> Array:
    """Return the p of each layer by the largest deviation over all layers, per network.

    Each layer is standardised by the mean and sd of all R + 1 networks, so that the network itself
    and the draws are treated alike: where all are drawn alike, some p is at most a in no more than a
    share a of the cases, however the layers depend on each other.

    Parameters
    ----------
    own, draws
        As in `monte_carlo_p`.

    Returns
    -------
    Family-wise p over the layers that have one, shape (layer,).

    References
    ----------
    Westfall and Young (1993), Resampling-based multiple testing, section 2.3 (single step).
    """
    networks = np.vstack([own, draws])
    known = ~np.isnan(networks).any(axis=0)
    if not known.any():
        return np.full(len(own), np.nan)
    table = networks[:, known]
    z = ratio(table - table.mean(axis=0), table.std(axis=0), otherwise=0.0)
    largest = z.max(axis=1)
    found = np.full(len(own), np.nan)
    found[known] = (largest[:, None] >= z[0] - _TIE).mean(axis=0)
    return found


def apart_p(own: float, draws: Array) -> float:
    """Return the two-sided p of a value: the share of all R + 1 that lie as far from their mean.

    Parameters
    ----------
    own
        The network's value.
    draws
        Values of R draws, shape (draw,).

    Returns
    -------
    p in [1 / (R + 1), 1]; NaN where a value is.
    """
    values = np.append(draws, own)
    far = np.abs(values - values.mean())
    return float((far >= far[-1] - _TIE).mean()) if not np.isnan(values).any() else float("nan")
