"""Rows of the table `layer_changes`: each layer of each checkpoint beside the others of a series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from activarium.schemas.density import NEAR_ZERO
from activarium.tasks.series.health import Vitals, layer_health

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ENDS = 2
"""Bins in use at either end of a density that count as its ends."""


@dataclass(frozen=True)
class Checkpoint:
    """What the tables say of one recording of a series."""

    recording: str
    step: int
    layers: pd.DataFrame
    """The table `layers`, by depth."""
    units: pd.DataFrame
    """Columns of `units` that are needed, by layer and channel."""
    density: pd.DataFrame
    """Activations by layer and bin; empty where none were recorded."""
    cka_to_last: dict[str, float]
    """CKA of a layer with the same of the last checkpoint, where compared."""


UNIT_COLUMNS = (
    "layer",
    "channel",
    "response_mean",
    "response_sd",
    "is_dead",
    "active_fraction",
    "preferred_class",
)
"""Columns of the table `units` that a checkpoint holds."""
_SAME = ("layer", "depth", "units", "dead_fraction", "selective_fraction", "selectivity_mean")


def layer_changes(checkpoints: Sequence[Checkpoint], series: str) -> list[dict[str, Any]]:
    """Return the columns of `layer_changes` for each checkpoint, in their order.

    Parameters
    ----------
    checkpoints
        Checkpoints of one series with the same layers, in order of their steps.
    series
        Name of the series.

    Raises
    ------
    ValueError
        Where the units of the checkpoints differ.
    """
    first, last = checkpoints[0], checkpoints[-1]
    for each in checkpoints:
        if not each.units[["layer", "channel"]].equals(first.units[["layer", "channel"]]):
            msg = f"expected the units of {first.recording} in {each.recording}"
            raise ValueError(msg)
    start = _vitals(first)
    found = []
    for place, now in enumerate(checkpoints):
        before = checkpoints[place - 1] if place else None
        found.append(_columns(now, before, last, start, series))
    return found


def _columns(
    now: Checkpoint, before: Checkpoint | None, last: Checkpoint, start: pd.DataFrame, series: str
) -> dict[str, Any]:
    vitals, names = _vitals(now), now.layers["layer"].tolist()
    ordered = vitals.loc[names]
    health = [layer_health(_of(vitals.loc[name]), _of(start.loc[name])) for name in names]
    nan = np.full(len(names), np.nan)
    return {
        **{name: now.layers[name].to_numpy() for name in (*_SAME, "eta2_mean")},
        "series": [series] * len(names),
        "step": np.full(len(names), now.step),
        **{
            name: ordered[name].to_numpy()
            for name in (
                "response_mean", "response_sd", "image_sd", "active_fraction",
                "near_zero_fraction", "extreme_fraction",
            )
        },
        "class_kept": _kept(now, last, names),
        "class_kept_since": nan if before is None else _kept(now, before, names),
        "cka_to_last": np.array([now.cka_to_last.get(name, np.nan) for name in names]),
        "health": [each for each, _ in health],
        "health_reason": [reason for _, reason in health],
    }  # fmt: skip


def _kept(one: Checkpoint, other: Checkpoint, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of each layer's units that prefer the same class at both checkpoints."""
    ours, theirs = one.units["preferred_class"], other.units["preferred_class"]
    same = (ours == theirs).astype(float).where(ours.notna() & theirs.notna())
    by_layer = same.groupby(one.units["layer"], sort=False).mean()
    return np.asarray(by_layer.loc[list(names)], np.float64)


def _vitals(checkpoint: Checkpoint) -> pd.DataFrame:
    """Return sizes and spreads by layer."""
    units = checkpoint.units
    grouped = units.groupby("layer", sort=False)
    mean = grouped["response_mean"].mean()
    image_variance = (units["response_sd"] ** 2).groupby(units["layer"], sort=False).mean()
    # Of units and images together: within the units, and between their means.
    between = grouped["response_mean"].var(ddof=0)
    found = pd.DataFrame(
        {
            "response_mean": mean,
            "response_sd": np.sqrt(image_variance + between),
            "image_sd": np.sqrt(image_variance),
            "active_fraction": grouped["active_fraction"].mean(),
            "dead_fraction": grouped["is_dead"].mean(),
        }
    )
    # Of a single image there is no spread over images; its units have a size.
    spread = np.sqrt(image_variance.fillna(0.0) + between)
    found["size"] = np.hypot(spread, mean)
    return found.join(_density_shares(checkpoint.density))


def _density_shares(density: pd.DataFrame) -> pd.DataFrame:
    """Return by layer the shares of activations around zero, and at the ends of their range."""
    rows = {name: _shares(part) for name, part in density.groupby("layer", sort=False)}
    columns = ["near_zero_fraction", "extreme_fraction"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)


def _shares(part: pd.DataFrame) -> tuple[float, float]:
    total = part["activations"].sum()
    near_zero = part["bin"] == NEAR_ZERO
    others = part[~near_zero].sort_values("bin")
    bins = others["bin"].to_numpy()
    if not len(bins):
        return 1.0, 0.0
    is_end = (bins < bins[0] + ENDS) | (bins > bins[-1] - ENDS)
    # Fewer bins than both ends take are no range that they could be the ends of.
    ends = others["activations"].to_numpy()[is_end].sum() if np.ptp(bins) >= 2 * ENDS else 0
    return float(part.loc[near_zero, "activations"].sum() / total), float(ends / total)


def _of(row: pd.Series) -> Vitals:
    return Vitals(row["dead_fraction"], row["size"], row["image_sd"], row["extreme_fraction"])
