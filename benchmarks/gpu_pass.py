"""One pass over images that lie on the device: the bare model, or everything recorded of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zarr
from zarr.codecs import Crc32cCodec

from activarium.schemas.layout import RecordingLayout, Shard
from activarium.tasks.capture.capture import Capture, Wanted
from activarium.tasks.capture.engines import EngineChoice, open_capture
from activarium.tasks.capture.forward import forward_precision
from activarium.tasks.recording.feeding import PixelFeed
from activarium.tasks.recording.normalising import normalise
from activarium.tasks.recording.shard_writer import FilledShard, ShardRows, ShardWriter
from activarium.tasks.stores.chunk_writer import Rows, write_rows
from activarium.tasks.stores.places import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from subjects import Subject

    from activarium.schemas.config import Precision

PREPROCESSING: Any = SimpleNamespace(mean=(0.485, 0.456, 0.406), sd=(0.229, 0.224, 0.225))

ARRAYS = ("channel_mean", "logits")


@dataclass(frozen=True)
class Images:
    """Random images: bytes, once on the device, and how they go through the model."""

    pixels: NDArray[np.uint8]
    feed: PixelFeed
    batch_size: int
    device: torch.device

    @staticmethod
    def random(images: int, size: int, *, batch_size: int, device: torch.device) -> Images:
        """Make images (image, row, column, colour)."""
        values = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
        return Images(values, PixelFeed(values, device), batch_size, device)

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the images of each batch; the set is gone through again and again."""
        for first in range(start, stop, self.batch_size):
            at = first % len(self.pixels)
            yield at, at + self.batch_size


def synchronise(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bare_pass(
    model: Callable[[torch.Tensor], object], images: Images, precision: Precision, *, ready: bool
) -> Callable[[int], None]:
    """Return the forward pass alone, of so many images.

    Parameters
    ----------
    model
        The model, compiled or not.
    images
        Its images.
    precision
        Of the forward pass.
    ready
        One batch that is normalised already; otherwise each is normalised from its bytes.
    """
    feed = images.feed
    (first,) = feed.batches([(0, images.batch_size)])
    batch = normalise(first.images, PREPROCESSING)

    def run(count: int) -> None:
        with forward_precision(precision, images.device):
            for each in feed.batches(images.ranges(0, count)):
                model(batch if ready else normalise(each.images, PREPROCESSING))
        synchronise(images.device)

    return run


def captured_pass(capture: Capture, images: Images, *, to_host: bool) -> Callable[[int], None]:
    """Return the capture of so many images, left on the device or copied to pinned rows."""
    feed = images.feed
    rows = ShardRows(images.batch_size, capture.columns, (0, 0, 0), images.device)

    def run(count: int) -> None:
        with capture:
            for each in feed.batches(images.ranges(0, count)):
                captured = capture.run(normalise(each.images, PREPROCESSING))
                if to_host:
                    rows.put(0, captured, each.valid, each.pixels)
        rows.wait()
        synchronise(images.device)

    return run


def stored_pass(capture: Capture, images: Images, folder: Path) -> Callable[[int], None]:
    """Return the recording of so many images into a new Zarr store, shard by shard."""
    feed = images.feed
    widths = {name: each.stop - each.start for name, each in capture.columns.items()}
    units, outputs = (widths[name] for name in ARRAYS)
    most = RecordingLayout.shard_images_for(4 * sum(widths.values()))
    shard_images = max(1, most // images.batch_size) * images.batch_size
    make_rows = partial(ShardRows, shard_images, capture.columns, (0, 0, 0), images.device)

    def run(count: int) -> None:
        layout = RecordingLayout(
            images=count, units=units, features=0, layers=0, classes=outputs, outputs=outputs,
            reductions=("mean",), thumbnail=(0, 0, 0), shard_images=shard_images,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            place = Folder(Path(temporary) / "benchmark.zarr")
            _create(place, layout)
            with capture, ShardWriter(partial(_store, place, shard_images), make_rows) as writer:
                for shard in layout.shards():
                    _fill(capture, feed, images, shard, writer)

    return run


def _fill(
    capture: Capture, feed: PixelFeed, images: Images, shard: Shard, writer: ShardWriter
) -> None:
    filled = FilledShard(shard, writer.rows(), images.batch_size)
    place = 0
    for each in feed.batches(images.ranges(shard.start, shard.stop)):
        captured = capture.run(normalise(each.images, PREPROCESSING))
        filled.rows.put(place, captured, each.valid, each.pixels)
        place += len(captured)
    writer.hand_over(filled)


def _store(place: Folder, shard_images: int, filled: FilledShard) -> None:
    filled.rows.wait()
    values = filled.rows.values(0, filled.shard.images)
    first = filled.shard.index * shard_images
    write_rows(place, [Rows(name, first, values[name]) for name in ARRAYS])


def _create(place: Folder, layout: RecordingLayout) -> None:
    """Create the arrays as a recording's are; receipts and provenance need more packages."""
    group = zarr.open_group(place.zarr_store(), mode="w-", zarr_format=3)
    for array in layout.shard_arrays():
        if array.spec.name in ARRAYS:
            group.create_array(
                array.spec.name,
                shape=array.shape,
                chunks=array.chunks,
                dtype=array.spec.dtype,
                compressors=[Crc32cCodec()],
                fill_value=float("nan"),
            )


def own_capture(subject: Subject, precision: Precision, engine: str, batch_size: int) -> Capture:
    """Return what captures the means of all layers by one engine, as it would be chosen.

    Batch norms are folded in float32 on the CPU alone.
    """
    wanted = Wanted(subject.layers, ("mean",), (), precision)
    on_cpu = next(subject.model.parameters()).device.type == "cpu"
    folds = engine != "hooks" and on_cpu and precision == "float32"
    choice = EngineChoice(engine, () if folds else None, "")
    return open_capture(subject.model, wanted, choice, batch_size=batch_size)
