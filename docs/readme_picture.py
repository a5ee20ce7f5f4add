"""Draws the picture of the README from the tables of a run of a ResNet-18 over CIFAR-10's classes.

    python docs/readme_picture.py ATLAS PICTURE.png

The picture of the README itself is docs/images/cifar10.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt

BACKGROUND, TEXT, FAINT = "#14171c", "#e8e6e1", "#8b929c"
COLOURS = {
    "airplane": "#59b4f0", "automobile": "#e5484d", "bird": "#f2d04b", "cat": "#f29a3f",
    "deer": "#a0704a", "dog": "#f0a6c8", "frog": "#9be0d3", "horse": "#3b63d8",
    "ship": "#b07ce8", "truck": "#4fae54",
}  # fmt: skip
SHOWN = ["conv1", "layer1.1", "layer2.1", "layer3.1", "layer4.0", "layer4.1", "fc"]
COLUMNS = 64


def unit_rows(units: pd.DataFrame, layer: str) -> np.ndarray:
    """Return the layer's units as rows of colours: hue by class, strength by explained variance."""
    chosen = units[units["layer"] == layer].copy()
    order = {name: place for place, name in enumerate(COLOURS)}
    chosen["order"] = chosen["preferred_class"].map(order)
    chosen = chosen.sort_values(["order", "eta2"], ascending=[True, False])
    base = np.array([mpl.colors.to_rgb(COLOURS[name]) for name in chosen["preferred_class"]])
    strength = np.clip(chosen["eta2"].to_numpy() / 0.7, 0.06, 1)[:, None]
    dark = np.array(mpl.colors.to_rgb(BACKGROUND))
    colours = strength * base + (1 - strength) * dark
    rows = -(-len(colours) // COLUMNS)
    grid = np.tile(dark, (rows * COLUMNS, 1))
    grid[: len(colours)] = colours
    return grid.reshape(rows, COLUMNS, 3)


def draw_grids(axes: plt.Axes, units: pd.DataFrame, title: str, *, names: bool) -> None:
    """Draw the shown layers' units below one another."""
    axes.set_title(title, color=TEXT, fontsize=11, loc="left")
    top = 0.0
    for layer in SHOWN:
        grid = unit_rows(units, layer)
        height = len(grid)
        axes.imshow(grid, extent=(0, COLUMNS, top + height, top), aspect="auto")
        for row in range(height + 1):
            axes.axhline(top + row, color=BACKGROUND, linewidth=0.8)
        if names:
            axes.text(
                -1.5, top + height / 2, layer, color=TEXT, ha="right", va="center", fontsize=9
            )
        top += height + 0.8
    for column in range(COLUMNS + 1):
        axes.axvline(column, color=BACKGROUND, linewidth=0.8)
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(top, -0.5)
    axes.axis("off")


def draw_depth(axes: plt.Axes, layers: dict[str, pd.DataFrame]) -> None:
    """Draw the explained variance over depth, trained against untrained."""
    for name, colour in (("trained", "#f2b84b"), ("untrained", "#7d8794")):
        rows = layers[name].sort_values("depth")
        share = 100 * rows["eta2_mean"]
        axes.plot(rows["depth"], share, color=colour, marker="o", markersize=3, linewidth=2)
        axes.annotate(
            name, (rows["depth"].iloc[-1], share.iloc[-1]), xytext=(6, 0), color=colour,
            textcoords="offset points", va="center", fontsize=10,
        )  # fmt: skip
    ticks = layers["trained"][layers["trained"]["layer"].isin(SHOWN)]
    axes.set_xticks(ticks["depth"], ticks["layer"], rotation=40, ha="right", fontsize=8)
    axes.set_xlim(-0.5, layers["trained"]["depth"].max() + 5)
    axes.set_ylim(0, 85)
    axes.set_title(
        "share of a unit's response variance that the class explains, in %, layer by layer",
        color=TEXT, fontsize=11, loc="left",
    )  # fmt: skip
    axes.tick_params(colors=FAINT)
    axes.grid(axis="y", color="#2a2f37", linewidth=0.7)
    for side in axes.spines.values():
        side.set_visible(False)


def chosen(recordings: pd.DataFrame) -> dict[str, str]:
    """Return the ids of the one recording that is trained, and of its control."""
    whole = recordings[recordings["selection_of"].isna()]
    is_control = whole["checkpoint"] == "untrained"
    found = {"trained": whole[~is_control], "untrained": whole[is_control]}
    for name, rows in found.items():
        if len(rows) != 1:
            listed = ", ".join(rows["recording"]) or "none"
            sys.exit(f"expected one {name} recording that is analysed, found {len(rows)}: {listed}")
    return {name: rows["recording"].iloc[0] for name, rows in found.items()}


def main() -> None:
    """Draw the picture from an atlas."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("atlas", type=Path, help="atlas of the run")
    parser.add_argument("picture", type=Path, help="file to write")
    asked = parser.parse_args()
    tables = asked.atlas / "tables"
    if not (tables / "recordings").is_dir():
        sys.exit(f"expected the tables of a run in {tables}, found none")
    ids = chosen(pd.read_parquet(tables / "recordings"))

    def rows(table: str) -> dict[str, pd.DataFrame]:
        whole = pd.read_parquet(tables / table)
        return {name: whole[whole["recording"] == key] for name, key in ids.items()}

    units, layers = rows("units"), rows("layers")
    missing = {*SHOWN} - {*units["trained"]["layer"]} or {*units["trained"]["preferred_class"]} - {
        *COLOURS
    }
    if missing:
        sys.exit(
            f"the picture is of a ResNet-18 over CIFAR-10; not of it: {sorted(map(str, missing))}"
        )
    draw(units, layers, asked.picture)


def draw(units: dict[str, pd.DataFrame], layers: dict[str, pd.DataFrame], picture: Path) -> None:
    """Draw units and depth, trained and untrained, into a file."""
    figure = plt.figure(figsize=(12, 7.4), facecolor=BACKGROUND)
    grid = figure.add_gridspec(2, 2, height_ratios=[1.15, 1], hspace=0.2, wspace=0.05)
    depth = figure.add_subplot(grid[1, :], facecolor=BACKGROUND)
    draw_depth(depth, layers)
    for place, name in enumerate(("trained", "untrained")):
        axes = figure.add_subplot(grid[0, place], facecolor=BACKGROUND)
        draw_grids(axes, units[name], f"{name}: every unit in its class's colour", names=place == 0)
    for place, (name, colour) in enumerate(COLOURS.items()):
        figure.text(0.126 + 0.079 * place, 0.925, f"■ {name}", color=colour, fontsize=9)
    figure.savefig(picture, dpi=110, bbox_inches="tight", facecolor=BACKGROUND)


if __name__ == "__main__":
    main()
