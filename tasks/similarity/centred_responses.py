"""Responses of a layer less their means, in float64 and in blocks of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.linalg import qr

from activarium.tasks.statistics.layers.layer_moments import column_moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from activarium.tasks.statistics.layers.layer_rows import LayerRows

    Matrix = NDArray[np.float64]

COMPACT_BYTES = 2**29
"""A layer of more units than images is rotated where its responses in float64 take up to this."""


class Centred(Protocol):
    """Centred responses, read as often as products need them."""

    @property
    def images(self) -> int:
        """Number of images."""

    @property
    def units(self) -> int:
        """Number of columns."""

    def blocks(self, images: int) -> Iterator[Matrix]:
        """Return consecutive blocks of so many images, the last of fewer: (image, unit)."""


@dataclass(frozen=True)
class CentredRows:
    """Rows of a layer less the mean of each unit; constant units are exactly 0."""

    rows: LayerRows
    mean: Matrix
    """Shape (unit,)."""
    varies: NDArray[np.bool_]
    """Shape (unit,)."""

    @property
    def images(self) -> int:
        """Number of images."""
        return self.rows.images

    @property
    def units(self) -> int:
        """Number of units."""
        return self.rows.units

    def blocks(self, images: int) -> Iterator[Matrix]:
        """Return consecutive blocks of so many images, the last of fewer: (image, unit)."""
        for block in _even_blocks(self.rows, images):
            value = block.astype(np.float64)
            value -= self.mean
            value[:, ~self.varies] = 0.0
            yield value


@dataclass(frozen=True)
class CentredMatrix:
    """Centred responses in memory, or mapped into it."""

    values: Matrix
    """Shape (image, column)."""

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.values.shape[0])

    @property
    def units(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])

    def blocks(self, images: int) -> Iterator[Matrix]:
        """Return consecutive blocks of so many images, the last of fewer: (image, column)."""
        for start in range(0, self.images, images):
            yield self.values[start : start + images]


def centre(rows: LayerRows) -> CentredRows:
    """Return the responses of a layer less their means over all images.

    Means are merged over blocks in float64 and subtracted before anything is multiplied, so that
    a large mean does not swallow a small variance.

    Parameters
    ----------
    rows
        Finite responses of a layer.

    Raises
    ------
    ValueError
        Where a response is NaN or infinite, or the blocks do not fit the rows' size.
    """
    moments = column_moments(rows)
    return CentredRows(rows, np.nan_to_num(moments.mean), ~moments.is_constant)


def can_be_compact(images: int, units: int) -> bool:
    """Return whether a layer has more units than images, and fits into memory."""
    return units > images and images * units * 8 <= COMPACT_BYTES


def compact(layer: Centred) -> CentredMatrix:
    """Return the layer in as many dimensions as there are images, if it has more units.

    With X^T = Q R the rows of R^T are those of X, rotated: R^T R = X X^T. Whatever depends on the
    scalar products between images alone (CKA, distances, Procrustes) is the same.

    Parameters
    ----------
    layer
        Centred responses X, (image, unit).

    Returns
    -------
    R^T, shape (image, min(image, unit)).
    """
    whole = np.concatenate([*layer.blocks(max(layer.images, 1))])
    triangle = qr(whole.T, mode="r", overwrite_a=True, check_finite=False)[0]
    return CentredMatrix(np.ascontiguousarray(triangle[: layer.images].T))


def _even_blocks(rows: LayerRows, images: int) -> Iterator[NDArray[np.float32]]:
    """Yield the rows in blocks of so many images, however they come."""
    held: list[NDArray[np.float32]] = []
    size = 0
    for block in rows.blocks():
        held.append(block)
        size += len(block)
        if size >= images:
            whole = np.concatenate(held) if len(held) > 1 else block
            full = size - size % images
            for start in range(0, full, images):
                yield whole[start : start + images]
            held, size = [whole[full:]], size - full
    if size:
        yield np.concatenate(held)
