"""Feeding the device: images in batches of bytes, read ahead so that the model never waits.

Small sets that lie in memory move to the device whole; all others are decoded by a pool of threads
into buffers that are used again and again, pinned where the device is a GPU, so that copies to it
run beside the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch

from activarium.tasks.recording.pinned_memory import pinned_where_possible

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from concurrent.futures import Future
    from types import TracebackType

    from numpy.typing import NDArray

RESIDENT_SHARE = 0.1
"""Share of the device's free memory that a whole set may take."""

BATCHES_AHEAD = 4
"""Batches that are read while the model works."""

LARGEST_STRETCH = 16
"""Images at most that one thread decodes in one go."""


@dataclass(frozen=True)
class Batch:
    """Some images, ready for the model; their memory is used again for later batches."""

    start: int
    stop: int
    images: torch.Tensor
    """uint8 (image, row, column, colour) on the device."""
    valid: NDArray[np.bool_]
    """Whether each image could be decoded."""
    pixels: NDArray[np.uint8]
    """The same images on the host."""
    conversions: Counter[str]
    """How many images were converted, per kind of conversion."""


class Read(Protocol):
    """Reads a range of images."""

    def __call__(
        self, start: int, stop: int, conversions: Counter[str]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return images (image, row, column, colour) and whether each could be decoded."""
        ...


class Feed(ABC):
    """Gives images in batches; a context, at whose end nothing is read any more."""

    @abstractmethod
    def batches(self, ranges: Iterable[tuple[int, int]]) -> Generator[Batch]:
        """Yield one batch per range of images, in order."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Free what the feed holds."""


class PixelFeed(Feed):
    """Images that lie in memory; on another device than the CPU all of them move there at once.

    Parameters
    ----------
    pixels
        uint8 (image, row, column, colour).
    device
        Where the model is.
    valid
        Whether each image could be decoded, shape (image,); by default all.

    Ranges beyond the last image begin again with the first, where images are recorded several times.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        device: torch.device,
        *,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        self._pixels = pixels
        self._valid = np.ones(len(pixels), bool) if valid is None else valid
        self._resident: torch.Tensor | None = None
        if device.type != "cpu":
            self._resident = torch.from_numpy(np.require(pixels, requirements="W")).to(device)

    def batches(self, ranges: Iterable[tuple[int, int]]) -> Generator[Batch]:
        """Yield one batch per range of images, in order."""
        for start, stop in ranges:
            first = start % len(self._pixels)
            rows = slice(first, first + stop - start)
            pixels = self._pixels[rows]
            if self._resident is None:
                # Nothing is copied, unless the array is read-only, of which torch warns.
                images = torch.from_numpy(np.require(pixels, requirements="W"))
            else:
                images = self._resident[rows]
            yield Batch(start, stop, images, self._valid[rows], pixels, Counter())

    def close(self) -> None:
        """Free the device's copy."""
        self._resident = None


class _Slot:
    """Host memory for one batch, and when its copy to the device will have ended."""

    def __init__(self, images: int, shape: tuple[int, int, int], *, pinned: bool) -> None:
        size = (images, *shape)
        self.bytes = (
            pinned_where_possible(size, torch.uint8)
            if pinned
            else torch.empty(size, dtype=torch.uint8)
        )
        self.pixels: NDArray[np.uint8] = self.bytes.numpy()
        self.copied: torch.cuda.Event | None = None

    def wait(self) -> None:
        if self.copied is not None:
            self.copied.synchronize()
            self.copied = None


@dataclass(frozen=True)
class _Reading:
    """A batch that threads are reading."""

    start: int
    stop: int
    slot: _Slot
    stretches: list[Future[tuple[NDArray[np.bool_], Counter[str]]]]


class ReadFeed(Feed):
    """Images that are read and decoded by a pool of threads, some batches ahead of the model.

    Parameters
    ----------
    read
        Reads a range of images; called from several threads at once.
    shape
        Height, width and colours of every image.
    device
        Where the model is.
    threads
        Threads that read.
    ahead
        Batches that are read while the model works; 0: the next is read when it is asked for.
    """

    def __init__(
        self,
        read: Read,
        shape: tuple[int, int, int],
        device: torch.device,
        *,
        threads: int,
        ahead: int = BATCHES_AHEAD,
    ) -> None:
        self._read = read
        self._shape = shape
        self._device = device
        self._threads = threads
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(threads, "decode")
        is_gpu = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if is_gpu else None  # type: ignore[no-untyped-call]
        self._free: deque[_Slot] = deque()

    def close(self) -> None:
        """Wait for the threads to end what they are at."""
        self._pool.shutdown(cancel_futures=True)
        self._free.clear()

    def batches(self, ranges: Iterable[tuple[int, int]]) -> Generator[Batch]:
        """Yield one batch per range of images, in order."""
        waiting: deque[_Reading] = deque()
        rest = iter(ranges)
        more = True
        try:
            while more or waiting:
                while more and len(waiting) <= self._ahead:
                    following = next(rest, None)
                    more = following is not None
                    if following is not None:
                        waiting.append(self._begin(*following))
                if waiting:
                    reading = waiting.popleft()
                    yield self._batch(reading)
                    self._free.append(reading.slot)
        finally:
            for reading in waiting:
                for stretch in reading.stretches:
                    stretch.cancel()

    def _begin(self, start: int, stop: int) -> _Reading:
        images = stop - start
        slot = self._slot(images)
        step = max(1, min(LARGEST_STRETCH, -(-images // self._threads)))
        stretches = [
            self._pool.submit(self._fill, slot, start, first, min(first + step, stop))
            for first in range(start, stop, step)
        ]
        return _Reading(start, stop, slot, stretches)

    def _slot(self, images: int) -> _Slot:
        slot = self._free.popleft() if self._free else None
        if slot is None or len(slot.pixels) < images:
            return _Slot(images, self._shape, pinned=self._copies is not None)
        slot.wait()
        return slot

    def _fill(
        self, slot: _Slot, origin: int, start: int, stop: int
    ) -> tuple[NDArray[np.bool_], Counter[str]]:
        conversions: Counter[str] = Counter()
        images, valid = self._read(start, stop, conversions)
        slot.pixels[start - origin : stop - origin] = images
        return valid, conversions

    def _batch(self, reading: _Reading) -> Batch:
        stretches = [stretch.result() for stretch in reading.stretches]
        images = reading.stop - reading.start
        return Batch(
            reading.start,
            reading.stop,
            self._on_device(reading.slot, images),
            np.concatenate([valid for valid, _ in stretches]),
            reading.slot.pixels[:images],
            sum((counts for _, counts in stretches), Counter()),
        )

    def _on_device(self, slot: _Slot, images: int) -> torch.Tensor:
        host = slot.bytes[:images]
        if self._copies is None:
            return host.to(self._device)
        with torch.cuda.stream(self._copies):
            on_device = host.to(self._device, non_blocking=True)
            slot.copied = self._copies.record_event()
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._copies)
        on_device.record_stream(computing)
        return on_device


def fits_device(size: int, device: torch.device) -> bool:
    """Return whether a set of so many bytes may lie on the device as a whole."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return size <= free * RESIDENT_SHARE
