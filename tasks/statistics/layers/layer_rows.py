"""The responses of a layer as blocks of rows (image, unit), so that memory holds a few rows only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_VALUES = 2**21
"""Values per chunk, so that each float64 copy of one takes 16 MiB."""


class LayerRows(Protocol):
    """The finite responses of a layer, read as often as a measure needs them."""

    @property
    def images(self) -> int:
        """Number of images."""

    @property
    def units(self) -> int:
        """Number of units."""

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Return consecutive blocks of rows in the order of images, each (image, unit)."""

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows at `positions` (position,), in that order: shape (position, unit)."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows of a matrix in memory.

    Raises
    ------
    ValueError
        Where `values` is not a float32 matrix or `block` is below 1.
    """

    values: NDArray[np.float32]
    """Finite responses, shape (image, unit)."""
    block: int = 4096
    """Rows per block."""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            msg = (
                "expected float32 responses of shape (image, unit), "
                f"got {self.values.dtype} of shape {self.values.shape}"
            )
            raise ValueError(msg)
        if self.block < 1:
            msg = f"expected a block of at least 1, got {self.block!r}"
            raise ValueError(msg)

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.values.shape[0])

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.values.shape[1])

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Return consecutive blocks of rows in the order of images, each (image, unit)."""
        for start in range(0, self.images, self.block):
            yield self.values[start : start + self.block]

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows at `positions` (position,), in that order: shape (position, unit)."""
        return self.values[positions]


def row_chunks(rows: LayerRows) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Return the rows in chunks small enough for several float64 copies, in order of images.

    Blocks are divided, never joined.

    Returns
    -------
    Pairs of the positions of the chunk's images and its responses, shape (image, unit).

    Raises
    ------
    ValueError
        Where a block has another number of units, or the blocks another number of images, than
        `rows` says.
    """
    size = max(_VALUES // max(rows.units, 1), 1)
    start = 0
    for block in rows.blocks():
        if block.ndim != 2 or block.shape[1] != rows.units:
            msg = f"expected a block of {rows.units} units, got shape {block.shape}"
            raise ValueError(msg)
        for offset in range(0, len(block), size):
            part = block[offset : offset + size]
            yield slice(start, start + len(part)), part
            start += len(part)
    if start != rows.images:
        msg = f"expected blocks of {rows.images} images together, got {start}"
        raise ValueError(msg)
