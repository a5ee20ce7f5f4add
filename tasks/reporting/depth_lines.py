"""A chart of several measures over the layers, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from activarium.tasks.reporting.chart_parts import even_places, line_path

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

COLOURS = ("#ffc15e", "#5b8cff", "#58b9a8", "#e06c9f")
"""Of the lines, in their order."""
_WIDTH, _PLOT, _LEFT, _TOP, _RIGHT = 1_160, 200, 64, 10, 16
_LABELS = 40
_LONGEST = 26
"""Characters of a layer's name at most; the rest is in the note of its points."""
_RISE = 4.7
"""Pixels that a turned character takes downwards."""


@dataclass(frozen=True)
class DepthLines:
    """Measures over the layers."""

    chart: Markup
    legend: tuple[tuple[str, str], ...]
    """Name and colour of each line."""


def depth_lines(values: pd.DataFrame) -> DepthLines:
    """Return one line per measure, from 0 (or the lowest value, if that is below) to 1.

    Parameters
    ----------
    values
        Shares and correlations by measure (rows) and layer (columns, by depth); missing ones
        interrupt a line.
    """
    layers, numbers = [str(each) for each in values.columns], values.to_numpy(np.float64)
    low = min(0.0, float(np.nanmin(numbers, initial=0.0)))
    inner = _WIDTH - _LEFT - _RIGHT
    x = _LEFT + (np.arange(len(layers)) + 0.5) / len(layers) * inner
    scale, floor = _PLOT / (1.0 - low), _TOP + _PLOT
    names = [each if len(each) <= _LONGEST else f"…{each[1 - _LONGEST :]}" for each in layers]
    height = floor + 26 + round(_RISE * max(map(len, names), default=0))
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
             'aria-label="Measures from layer to layer">']  # fmt: skip
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = floor - (tick - low) * scale
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="rule"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" class="height">{tick:g}</text>'
        )
    for row, colour in zip(range(len(values)), COLOURS, strict=False):
        y = floor - (numbers[row] - low) * scale
        parts.append(_line(values.iloc[row], colour, x, y))
    for place in even_places(len(layers), most=_LABELS):
        at, foot = x[place], floor + 14
        parts.append(
            f'<text transform="translate({at:.1f} {foot}) rotate(-48)" class="layer-name">'
            f"{escape(names[place])}</text>"
        )
    chart = Markup("".join([*parts, "</svg>"]))  # noqa: S704 - numbers, and text that is escaped
    return DepthLines(chart, tuple(zip(map(str, values.index), COLOURS, strict=False)))


def _line(values: pd.Series, colour: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    dots = "".join(
        f'<circle cx="{x[place]:.1f}" cy="{y[place]:.1f}" r="3.2" fill="{colour}"><title>'
        f"{escape(values.index[int(place)])}, {escape(values.name)}: {values.iloc[int(place)]:.3f}"
        "</title></circle>"
        for place in np.flatnonzero(np.isfinite(y))
    )
    return (
        f'<path d="{line_path(x, y)}" fill="none" stroke="{colour}" stroke-width="1.6" '
        f'stroke-linejoin="round"/>{dots}'
    )
