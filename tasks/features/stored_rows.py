"""Numbers of images, read from the store as often as a measure goes over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.layers.layer_rows import ArrayRows, LayerRows
from activarium.tasks.stores.column_reading import row_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from activarium.tasks.stores.recording import Recording

BLOCK_IMAGES = 4_096
"""Images per block, whatever the shards hold: sums must not depend on how a recording is stored."""
MOST_BYTES = 256 * 2**20
"""Rows up to this size are read once and kept."""
WHITE = np.float32(255)
"""Largest value of a pixel that is stored as a byte."""


@dataclass(frozen=True)
class StoredRows:
    """Some columns of an array, of some images; bytes become shares of white, maps are flattened."""

    recording: Recording
    array: str
    columns: slice
    """Of the axis after the images."""
    units: int
    """Numbers per image."""
    row: NDArray[np.int64]
    """Rows in the recording, in the order in which the images are given."""

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.row)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the rows in order, in blocks of equal size but for the last."""
        if (np.diff(self.row) < 0).any():
            # A stored chunk is then read once for each block that has images of it.
            for start in range(0, self.images, BLOCK_IMAGES):
                yield self.take(np.arange(start, min(start + BLOCK_IMAGES, self.images)))
            return
        held: list[NDArray[np.float32]] = []
        size = 0
        for _, values in self._stored(self.row):
            held.append(values)
            size += len(values)
            if size >= BLOCK_IMAGES:
                whole = np.concatenate(held)
                full = size - size % BLOCK_IMAGES
                for start in range(0, full, BLOCK_IMAGES):
                    yield whole[start : start + BLOCK_IMAGES]
                held, size = [whole[full:]], size - full
        if size:
            yield np.concatenate(held)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows at some positions, in their order."""
        found = np.empty((len(positions), self.units), np.float32)
        wanted = self.row[positions]
        order = np.argsort(wanted, kind="stable")
        for places, values in self._stored(wanted[order]):
            found[order[places]] = values
        return found

    def _stored(
        self, row: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for places, values in row_blocks(self.recording, self.array, self.columns, row):
            flat = values.reshape(len(values), self.units)
            yield places, flat / WHITE if flat.dtype == np.uint8 else flat


def in_memory_where_small(rows: StoredRows) -> LayerRows:
    """Return the same rows, read once where they are small enough to be kept."""
    if rows.images * rows.units * 4 > MOST_BYTES:
        return rows
    return ArrayRows(rows.take(np.arange(rows.images)), block=BLOCK_IMAGES)


def layer_rows(recording: Recording, layer: str, row: NDArray[np.int64]) -> LayerRows:
    """Return the channel means of some images in a layer, in memory where they are small.

    Parameters
    ----------
    recording
        A recording.
    layer
        Name of the layer.
    row
        Rows of the images, in the order in which they are to be given.
    """
    columns = recording.layer_slices[layer]
    units = columns.stop - columns.start
    return in_memory_where_small(StoredRows(recording, "channel_mean", columns, units, row))
