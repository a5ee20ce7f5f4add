"""Units of a layer that copy one another: groups of high correlation, each with a leader."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDING = 1e-12
"""Correlations closer than this are equal: the copy of a unit has 1, give or take rounding."""


class RedundancyGroups(NamedTuple):
    """The group of every unit, each of shape (unit,)."""

    group: NDArray[np.int64]
    """Channel of the group's leader; a leader's own."""
    copies: NDArray[np.int64]
    """Channel of the leader that the unit copies; -1 for leaders."""
    copies_r: NDArray[np.float64]
    """Signed Pearson correlation with that leader; NaN for leaders."""


def redundancy_groups(
    covariance: NDArray[np.float64], *, threshold: float = 0.95
) -> RedundancyGroups:
    """Return groups of units whose correlation with their group's leader is high.

    In the order of channels, a unit joins the earlier leader of the largest absolute correlation
    (of equal ones, to 1e-12, the lowest channel) if that reaches the threshold; otherwise it leads
    a group of its own. Every member thus resembles its leader, and a leader could stand for its
    group. Connected components of the same graph promise no such thing: in a chain each unit
    resembles the next, but the ends may share nothing. The price is that the leader depends on
    the order of channels.

    A constant unit, which has no correlation, leads a group of its own. Over two images every two
    varying units have correlation 1 or -1, so all copy the first.

    Parameters
    ----------
    covariance
        Covariance of the units over all images, shape (unit, unit).
    threshold
        Smallest absolute correlation that makes a copy, above 0, at most 1.

    Returns
    -------
    Group, copied leader and correlation of every unit.

    Raises
    ------
    ValueError
        Where the covariance is not a finite square matrix, or the threshold is out of range.

    References
    ----------
    Hartigan (1975), Clustering algorithms, chapter 3: the quick partition (leader) algorithm,
    here with the nearest leader.
    """
    _check(covariance, threshold)
    units = len(covariance)
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    group = np.arange(units)
    copies = np.full(units, -1, np.int64)
    copies_r = np.full(units, np.nan)
    leaders = np.empty(units, np.int64)
    found = 0
    for unit in np.flatnonzero(sd > 0):
        known = leaders[:found]
        r = covariance[unit, known] / (sd[unit] * sd[known])
        size = np.minimum(np.abs(r), 1.0)
        largest = size.max(initial=0.0)
        if found and largest >= threshold - _ROUNDING:
            nearest = int(np.argmax(size >= largest - _ROUNDING))
            group[unit] = copies[unit] = known[nearest]
            copies_r[unit] = np.copysign(size[nearest], r[nearest])
        else:
            leaders[found] = unit
            found += 1
    return RedundancyGroups(group, copies, copies_r)


def _check(covariance: NDArray[np.float64], threshold: float) -> None:
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        msg = f"expected a covariance of shape (unit, unit), got shape {covariance.shape}"
        raise ValueError(msg)
    if not np.isfinite(covariance).all():
        raise ValueError("expected a finite covariance, got NaN or infinity")
    if not 0 < threshold <= 1:
        msg = f"expected a threshold above 0 and at most 1, got {threshold!r}"
        raise ValueError(msg)
