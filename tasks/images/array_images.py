"""Images that come as arrays or tensors, as Pillow images without loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP_TOLERANCE = 1e-3
"""Distance of a float from a multiple of 1/255, in steps, up to which it stands for it."""


def as_image(image: Any, where: str) -> Image.Image:
    """Return a Pillow image of a Pillow image, an array or a tensor.

    Arrays are (row, column[, colour]), tensors ([colour,] row, column), each also the other way
    round where only that has 1 or 3 colours. They hold bytes, or floats that are multiples of
    1/255, as torchvision's ToTensor gives them.

    Raises
    ------
    UserError
        If it is something else.
    """
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise UserError(
            f"{where} has a {type(image).__name__} as image, expected a PIL image, array or tensor"
        )
    if isinstance(image, torch.Tensor):
        rows = _colours_last(image.detach().cpu().numpy(), where, colours_first=True)
    else:
        rows = _colours_last(image, where, colours_first=False)
    return Image.fromarray(np.ascontiguousarray(_as_bytes(rows, where)))


def _colours_last(values: NDArray[Any], where: str, *, colours_first: bool) -> NDArray[Any]:
    """Return (row, column) of a grey image, (row, column, colour) of another."""
    if values.ndim == 2 and values.size:
        return values
    axes = [axis for axis in (0, 2) if values.ndim == 3 and values.shape[axis] in (1, 3)]
    if not axes or not values.size:
        raise UserError(
            f"{where} has the shape {tuple(values.shape)}, expected rows, columns and 1 or 3 colours"
        )
    rows = np.moveaxis(values, axes[0] if colours_first else axes[-1], 2)
    return rows[:, :, 0] if rows.shape[2] == 1 else rows


def _as_bytes(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"{where} has values of type {values.dtype}, expected uint8")
    steps = values.astype(np.float64) * 255
    whole = np.round(steps)
    is_exact = bool((np.abs(steps - whole) <= STEP_TOLERANCE).all())
    if not is_exact or whole.min() < 0 or whole.max() > 255:
        raise UserError(
            f"{where} has floats from {values.min():.4g} to {values.max():.4g} that are no "
            "multiples of 1/255 from 0 to 1: return images as they are stored (PIL or uint8), "
            "before any resizing and normalising, which `preprocessing` does"
        )
    return whole.astype(np.uint8)
