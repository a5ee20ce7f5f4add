"""Full shards are stored by a thread of their own, beside the next shard's batches.

There are two sets of rows and no more: one fills while the other is written, and both are used
again, so that memory does not grow with the number of images.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from activarium.tasks.recording.pinned_memory import pinned_where_possible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from numpy.typing import NDArray

    from activarium.schemas.layout import Shard

BATCHES_IN_FLIGHT = 2
"""Batches that a GPU may be given before the first of them has come back."""


class ShardRows:
    """Memory for the rows of one shard, filled batch by batch.

    Parameters
    ----------
    images
        Images of a shard.
    columns
        Columns of each float array within a row.
    thumbnail
        Height, width and colours; (0, 0, 0) for none.
    device
        Where the model is; rows of a GPU are copied in its own time into pinned memory.
    """

    def __init__(
        self,
        images: int,
        columns: Mapping[str, slice],
        thumbnail: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        self._columns = columns
        is_gpu = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if is_gpu else None  # type: ignore[no-untyped-call]
        self._in_flight: deque[torch.cuda.Event] = deque()
        width = max((each.stop for each in columns.values()), default=0)
        size = (images, width)
        self._floats = pinned_where_possible(size, torch.float32) if is_gpu else torch.empty(size)
        self._valid = np.ones(images, bool)
        self._thumbnails = np.zeros((images, *thumbnail), np.uint8) if thumbnail[0] else None

    def put(
        self, first: int, captured: torch.Tensor, valid: NDArray[np.bool_], small: NDArray[np.uint8]
    ) -> None:
        """Take a batch's rows; they are there after `wait`.

        Parameters
        ----------
        first
            Place of the first row in the shard.
        captured
            (image, column) on the device.
        valid
            Whether each image could be decoded.
        small
            Thumbnails, none where the shard keeps none.
        """
        rows = slice(first, first + len(captured))
        self._valid[rows] = valid
        if self._thumbnails is not None:
            self._thumbnails[rows] = small
        if self._copies is None:
            self._floats[rows].copy_(captured)
            return
        self._copies.wait_stream(torch.cuda.current_stream(captured.device))
        with torch.cuda.stream(self._copies):
            self._floats[rows].copy_(captured, non_blocking=True)
            self._in_flight.append(self._copies.record_event())
        captured.record_stream(self._copies)
        if len(self._in_flight) > BATCHES_IN_FLIGHT:
            self._in_flight.popleft().synchronize()

    def wait(self) -> None:
        """Wait for the rows that a GPU still copies."""
        while self._in_flight:
            self._in_flight.popleft().synchronize()

    def values(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Return the rows from start to stop of every array; nothing is copied."""
        rows = slice(start, stop)
        floats = self._floats.numpy()
        values: dict[str, NDArray[Any]] = {
            name: floats[rows, where] for name, where in self._columns.items()
        }
        values["valid"] = self._valid[rows]
        if self._thumbnails is not None:
            values["thumbnail"] = self._thumbnails[rows]
        return values


@dataclass
class FilledShard:
    """A shard whose images have been through the model, and what is noted of it."""

    shard: Shard
    rows: ShardRows
    batch_size: int
    images: int = 0
    """Images that have been through the model."""
    density: NDArray[np.int64] | None = None
    """Counts (layer, class, bin), where they are kept."""
    conversions: Counter[str] = field(default_factory=Counter)
    read_seconds: float = 0.0
    forward_seconds: float = 0.0


class ShardWriter:
    """Stores filled shards, one at a time; a context that ends when the last one is stored.

    Parameters
    ----------
    store
        Stores one shard with its receipt.
    make_rows
        Makes the memory of one shard.
    begin_thread
        Called in the thread that stores, before anything else: it waits for a GPU's copies, and
        would wake the first GPU where it is not told which.
    """

    def __init__(
        self,
        store: Callable[[FilledShard], None],
        make_rows: Callable[[], ShardRows],
        *,
        begin_thread: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._make_rows = make_rows
        self._free: list[ShardRows] = []
        self._writing: tuple[Future[None], ShardRows] | None = None
        self._thread = ThreadPoolExecutor(1, "write", initializer=begin_thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What is full is stored even if a later batch failed; then that fault counts, not this.
        self._thread.shutdown()
        if error is None:
            self.finish()

    def rows(self) -> ShardRows:
        """Return memory for the next shard."""
        return self._free.pop() if self._free else self._make_rows()

    def give_back(self, rows: ShardRows) -> None:
        """Take back memory whose rows are not wanted."""
        rows.wait()
        self._free.append(rows)

    def hand_over(self, filled: FilledShard) -> None:
        """Begin to store a shard, once the one before is stored.

        Raises
        ------
        UserError
            If the one before could not be stored.
        """
        self.finish()
        self._writing = self._thread.submit(self._store, filled), filled.rows

    def check(self) -> None:
        """Raise what the thread met, if it has met anything."""
        if self._writing is not None and self._writing[0].done():
            self.finish()

    def finish(self) -> None:
        """Wait until the shard that was handed over is stored, and raise what went wrong."""
        if self._writing is not None:
            (done, rows), self._writing = self._writing, None
            done.result()
            self._free.append(rows)
