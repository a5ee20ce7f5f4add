"""Pictures of numbers: one pixel each, dark where low and bright where high."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Anchors of the colour map inferno (Smith and van der Walt, matplotlib), from low to high.
_RAMP = np.array(
    [
        (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
        (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
    ],
    float,
)  # fmt: skip
GROUND = (16, 19, 24)
"""Colour of what is not known: the page's own ground, not the darkest of the ramp."""


def picture_address(level: NDArray[np.floating], is_empty: NDArray[np.bool_]) -> str:
    """Return a picture as a data address.

    Parameters
    ----------
    level
        Where each number lies on the ramp, clipped to 0 to 1: shape (row, column).
    is_empty
        Which have no number, of the same shape.
    """
    place = np.clip(np.where(is_empty, 0.0, level), 0.0, 1.0) * (len(_RAMP) - 1)
    anchors = np.arange(len(_RAMP))
    colour = np.stack([np.interp(place, anchors, channel) for channel in _RAMP.T], axis=-1)
    colour[is_empty] = GROUND
    pixels = np.ascontiguousarray(np.rint(colour).astype(np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def ramp_style() -> str:
    """Return the ramp as a CSS gradient, from low to high."""
    stops = ", ".join("rgb({:.0f} {:.0f} {:.0f})".format(*anchor) for anchor in _RAMP)
    return f"linear-gradient(90deg, {stops})"
