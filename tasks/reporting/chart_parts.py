"""What several charts draw alike: places of labels, and lines that missing values interrupt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def even_places(count: int, *, most: int) -> list[int]:
    """Return the first and last of some places, and evenly spread ones between, at most so many."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, max(most, 2)))})


def line_path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Return the path of an SVG line, which begins anew after each y that is not finite."""
    points: list[str] = []
    for place, (across, up) in enumerate(zip(x, y, strict=True)):
        if np.isfinite(up):
            begins = not place or not np.isfinite(y[place - 1])
            points.append(f"{'M' if begins else 'L'}{across:.1f} {up:.1f}")
    return "".join(points)
