"""Charts of layers over steps as SVG: health as a grid, measures as lines coloured by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from activarium.tasks.reporting.chart_parts import even_places, line_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

Chart = Markup

COLOURS = {
    "healthy": "#2f6f4f",
    "exploding": "#ff5d5d",
    "dead": "#8b93a1",
    "collapsed": "#5b8cff",
    "saturated": "#e0a33b",
}
"""Colour of each state of a layer."""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 300, 170, 58, 22, 8
_ROW, _NAMES = 15, 146
# Ends of the colour of lines: shallow to deep.
_SHALLOW, _DEEP = np.array([79, 123, 255.0]), np.array([255, 193, 94.0])


def health_grid(health: pd.DataFrame, reason: pd.DataFrame) -> Chart:
    """Return a grid of layers by steps, each cell in the colour of the layer's state.

    Parameters
    ----------
    health, reason
        States and the numbers behind them, by layer and step.
    """
    layers, steps = [str(name) for name in health.index], [int(step) for step in health.columns]
    cell = max(10, min(40, 250 // max(len(steps), 1)))
    width, height = _NAMES + cell * len(steps) + 8, _ROW * len(layers) + 34
    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
             f'aria-label="Health of each layer at each step">']  # fmt: skip
    for row, layer in enumerate(layers):
        y = row * _ROW
        parts.append(f'<text x="{_NAMES - 8}" y="{y + 11}" class="name">{escape(layer)}</text>')
        for column, step in enumerate(steps):
            state = str(health.iloc[row, column])
            why = reason.iloc[row, column]
            note = f"{layer}, step {step:,}: {state}" + (f", {why}" if isinstance(why, str) else "")
            parts.append(
                f'<rect x="{_NAMES + column * cell}" y="{y}" width="{cell - 1}" '
                f'height="{_ROW - 1}" rx="2" fill="{COLOURS[state]}"><title>{escape(note)}</title>'
                "</rect>"
            )
    bottom = _ROW * len(layers) + 14
    for place in even_places(len(steps), most=max(2, cell * len(steps) // 34)):
        x = _NAMES + place * cell + cell / 2
        parts.append(f'<text x="{x:.0f}" y="{bottom}" class="tick">{_short(steps[place])}</text>')
    parts.append(f'<text x="{_NAMES}" y="{bottom + 16}" class="axis">step</text></svg>')
    return Markup("".join(parts))  # noqa: S704 - numbers, and text that is escaped


def line_chart(
    values: pd.DataFrame, *, logarithmic: bool = False, beside: Sequence[pd.DataFrame] = ()
) -> Chart:
    """Return one line per layer over the checkpoints, blue for the first layers, amber for the last.

    Parameters
    ----------
    values
        A measure by layer and step; missing ones interrupt a line.
    logarithmic
        Draw the logarithm, of positive values alone.
    beside
        The same measure of other series, whose charts have the same range.
    """
    steps = [int(step) for step in values.columns]
    numbers = _numbers(values, logarithmic=logarithmic)
    if not np.isfinite(numbers).any():
        return Markup('<p class="quiet">not known here</p>')
    every = [numbers, *(_numbers(each, logarithmic=logarithmic) for each in beside)]
    low, high = _range(np.concatenate([each.ravel() for each in every]), is_share=not logarithmic)
    x = _LEFT + (np.arange(len(steps)) + 0.5) / len(steps) * (_WIDTH - _LEFT - 8)
    scale = (_HEIGHT - _BOTTOM - _TOP) / (high - low)
    y = _HEIGHT - _BOTTOM - (numbers - low) * scale
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for tick in np.linspace(low, high, 3):
        at = _HEIGHT - _BOTTOM - (tick - low) * scale
        label = f"{10**tick:.2g}" if logarithmic else f"{tick:.2g}"
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{at:.1f}" y2="{at:.1f}" class="rule"/>'
                     f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" class="name">{label}</text>')  # fmt: skip
    for row, layer in enumerate(values.index):
        parts.append(_line(str(layer), x, y[row], row / max(len(values) - 1, 1)))
    parts += [
        f'<text x="{x[place]:.1f}" y="{_HEIGHT - 6}" class="tick">{_short(steps[place])}</text>'
        for place in even_places(len(steps), most=5)
    ]
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 - numbers, and text that is escaped


def _numbers(values: pd.DataFrame, *, logarithmic: bool) -> NDArray[np.float64]:
    numbers = values.to_numpy(dtype=np.float64)
    if not logarithmic:
        return numbers
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(numbers > 0, np.log10(numbers), np.nan)


def _line(layer: str, x: NDArray[np.float64], y: NDArray[np.float64], depth: float) -> str:
    red, green, blue = np.rint(_SHALLOW + depth * (_DEEP - _SHALLOW)).astype(int)
    return (
        f'<path d="{line_path(x, y)}" fill="none" stroke="rgb({red} {green} {blue})" '
        f'stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" opacity="0.85">'
        f"<title>{escape(layer)}</title></path>"
    )


def _range(numbers: NDArray[np.float64], *, is_share: bool) -> tuple[float, float]:
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    if is_share and low >= 0 and high <= 1:
        # Shares begin at zero, and end where there is something to see.
        return 0.0, 1.0 if high > 0.5 else max(0.05, high * 1.1)
    return (low - 0.5, high + 0.5) if high - low < 1e-9 else (low, high)


def _short(step: int) -> str:
    return f"{step / 1000:g}k" if step >= 10_000 else str(step)
