"""The responses of one layer, read from the store as often as a measure goes over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.analysis.column_reading import row_blocks
from activarium.tasks.statistics.layer_rows import ArrayRows, LayerRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from activarium.tasks.stores.recording import Recording

BLOCK_IMAGES = 4_096
"""Images per block, whatever the shards hold: sums must not depend on how a recording is stored."""
MOST_BYTES = 256 * 2**20
"""A layer up to this size is read once and kept."""


@dataclass(frozen=True)
class StoredRows:
    """Channel means of some images in one layer; rows in the order of the recording."""

    recording: Recording
    columns: slice
    row: NDArray[np.int64]
    """Ascending rows in the recording."""

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.row)

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.columns.stop - self.columns.start)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the rows in order, in blocks of equal size but for the last."""
        held: list[NDArray[np.float32]] = []
        size = 0
        for _, values in row_blocks(self.recording, "channel_mean", self.columns, self.row):
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
        for places, values in row_blocks(
            self.recording, "channel_mean", self.columns, wanted[order]
        ):
            found[order[places]] = values
        return found


def layer_rows(recording: Recording, layer: str, row: NDArray[np.int64]) -> LayerRows:
    """Return the channel means of some images in a layer, in memory where they are small.

    Parameters
    ----------
    recording
        A recording.
    layer
        Name of the layer.
    row
        Ascending rows of the images.
    """
    rows = StoredRows(recording, recording.layer_slices[layer], row)
    if rows.images * rows.units * 4 > MOST_BYTES:
        return rows
    blocks = list(rows.blocks())
    values = np.concatenate(blocks) if blocks else np.empty((0, rows.units), np.float32)
    return ArrayRows(values, block=BLOCK_IMAGES)
