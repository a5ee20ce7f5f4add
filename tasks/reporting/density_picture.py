"""Pictures of densities over steps: step on x, activation on y, the logarithm of counts as colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.density import BINS, NEAR_ZERO, bin_edges
from activarium.tasks.reporting.colour_picture import picture_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RAREST = 1e-6
"""Share of a step's activations that the darkest colour stands for."""
SHOWN = 1e-5
"""Bins that hold less of every step are cut off at the ends."""
_EDGES = np.array(bin_edges())


@dataclass(frozen=True)
class DensityPicture:
    """One layer over the steps of one series."""

    address: str
    """The picture as a data address; one pixel per step and bin, the largest bin on top."""
    steps: int
    bins: int
    ticks: tuple[tuple[str, float], ...]
    """Activations to name, and their height as a share from the top."""


def shown_bins(counts: Sequence[NDArray[np.int64]]) -> slice:
    """Return the bins to show of several series side by side.

    Parameters
    ----------
    counts
        Activations of one layer in each series, (step, bin).
    """
    shares = np.concatenate([_shares(each) for each in counts])
    used = np.flatnonzero((shares >= SHOWN).any(axis=0))
    if not len(used):
        return slice(NEAR_ZERO - 1, NEAR_ZERO + 2)
    return slice(max(int(used[0]) - 1, 0), min(int(used[-1]) + 2, BINS))


def density_picture(counts: NDArray[np.int64], bins: slice) -> DensityPicture:
    """Return the picture of one layer.

    Parameters
    ----------
    counts
        Activations, (step, bin).
    bins
        Bins to show.
    """
    share = _shares(counts)[:, bins]
    with np.errstate(divide="ignore"):
        level = 1 - np.log10(share) / np.log10(RAREST)
    address = picture_address(level.T[::-1], (share == 0).T[::-1])
    return DensityPicture(address, len(counts), bins.stop - bins.start, _ticks(bins))


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    found: NDArray[np.float64] = counts / total
    return found


def _ticks(bins: slice) -> tuple[tuple[str, float], ...]:
    """Return zero and powers of ten, as many as there is room for."""
    count = bins.stop - bins.start
    wanted = [("0", 0.0)]
    for power in (2, 1, 0, -1, -2, -3, -4):
        name = f"{10.0**power:g}"
        wanted += [(name, 10.0**power), (f"\u2212{name}", -(10.0**power))]
    found: list[tuple[str, float]] = []
    for name, value in wanted:
        height = 1 - (_place(value) - bins.start) / count
        is_free = all(abs(height - other) > 0.09 for _, other in found)
        if 0 <= height <= 1 and is_free:
            found.append((name, height))
    return tuple(sorted(found, key=lambda tick: tick[1]))


def _place(value: float) -> float:
    """Return where a value lies among the bins, a whole number at each lower edge."""
    if value == 0:
        return NEAR_ZERO + 0.5
    bin_ = int(np.searchsorted(_EDGES, value, side="right")) - 1
    low, high = _EDGES[bin_], _EDGES[bin_ + 1]
    return bin_ + float((value - low) / (high - low))
