"""The shards of a recording: run the model over their images, store the rows, write the receipts."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import ShardReceipt
from activarium.tasks.capture.device_errors import is_out_of_memory
from activarium.tasks.capture.unsound_call import first_unsound_call
from activarium.tasks.images.decoding import UndecodableImageError
from activarium.tasks.images.preprocessing import thumbnails
from activarium.tasks.progress import no_advance
from activarium.tasks.recording.batch_size import halved, release_memory
from activarium.tasks.recording.begun import wanted_by
from activarium.tasks.recording.devices import processor_model, use_device
from activarium.tasks.recording.free_space import check_shard_fits
from activarium.tasks.recording.pinned_memory import pinned_where_possible
from activarium.tasks.recording.shard_writer import FilledShard, ShardRows, ShardWriter
from activarium.tasks.recording.soundness import blank_invalid, check_finite
from activarium.tasks.stores.recording_store import write_receipt, write_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from activarium.schemas.layout import Shard
    from activarium.tasks.capture.capture import Capture
    from activarium.tasks.capture.engines import EngineChoice
    from activarium.tasks.images.test_sets import TestSet
    from activarium.tasks.recording.begun import Subject
    from activarium.tasks.recording.feeding import Batch, Feed
    from activarium.tasks.recording.record_plan import RecordPlan
    from activarium.tasks.stores.places import Place


@dataclass(frozen=True)
class Session:
    """What recording shards needs: the model in place, the images, the plan."""

    subject: Subject
    choice: EngineChoice
    """What captures the planned layers."""
    feed: Feed
    plan: RecordPlan
    place: Place
    batch_size: int
    batch_sizes: Mapping[int, int]
    """Images per forward pass of shards that were made before; they are kept."""
    thumbnail: int
    strict: bool = False
    """Stop at the first image that cannot be decoded."""
    say: Callable[[str], None] = lambda _: None
    """Told what the user should know."""

    def of_shard(self, shard: Shard) -> Session:
        """Return the session of the network that answers in a shard: of draws, each has its own."""
        if self.subject.draws is None:
            return self
        return replace(self, subject=self.subject.drawn(shard.index))


def record_shards(
    session: Session, shards: Iterable[Shard], advance: Callable[[int], None] = no_advance
) -> None:
    """Run the model over the images of shards, store their rows, and write their receipts.

    Where the memory does not suffice, a shard is begun anew with half the batch size, so that each
    shard has one.

    Parameters
    ----------
    session
        The model, the images, the plan.
    shards
        What to record, in order; the next is taken when its images may be read ahead.
    advance
        Called with the number of images that have been through the model.

    Raises
    ------
    UserError
        If a layer returns NaN or infinity, a shard cannot be written, or one image does not fit
        the memory.
    """
    layout, device = session.plan.layout, session.subject.device
    columns = wanted_by(session.plan).columns()
    rows = partial(ShardRows, layout.shard_images, columns, layout.thumbnail, device)
    begin = partial(use_device, device)
    with ShardWriter(partial(_store, session), rows, begin_thread=begin) as writer:
        run = _Run(session, shards, writer, advance)
        while not run.fits_memory():
            run.begin_anew()


class _Upcoming:
    """Shards in order: those whose images are read ahead or recorded, then those still to take."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        self._rest = iter(shards)
        self._taken: deque[Shard] = deque()

    @property
    def first(self) -> Shard:
        """The shard that is recorded now."""
        return self._taken[0]

    def finish(self) -> None:
        """Go on to the next shard."""
        self._taken.popleft()

    def ranges(self, batch_size: Callable[[Shard], int]) -> Iterator[tuple[int, int]]:
        """Yield the images of each batch, from the start of the first shard that is unfinished."""
        for shard in tuple(self._taken):
            yield from _batches(shard, batch_size(shard))
        for shard in self._rest:
            self._taken.append(shard)
            yield from _batches(shard, batch_size(shard))


def _batches(shard: Shard, batch_size: int) -> Iterator[tuple[int, int]]:
    for start in range(shard.start, shard.stop, batch_size):
        yield start, min(start + batch_size, shard.stop)


class _Run:
    """Takes batch after batch, and hands every full shard to the writer."""

    def __init__(
        self,
        session: Session,
        shards: Iterable[Shard],
        writer: ShardWriter,
        advance: Callable[[int], None],
    ) -> None:
        self._session = session
        self._upcoming = _Upcoming(shards)
        self._writer = writer
        self._advance = advance
        self._limit: int | None = None
        self._capture: tuple[int, Capture] | None = None
        self._open = ExitStack()
        self._filled: FilledShard | None = None
        self._is_checked = False
        self._last = time.perf_counter()

    def fits_memory(self) -> bool:
        """Record everything; return False where a batch is too large for the memory."""
        feed = self._session.feed
        self._last = time.perf_counter()
        try:
            with self._open, closing(feed.batches(self._upcoming.ranges(self._size))) as batches:
                for batch in batches:
                    self._take(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def begin_anew(self) -> None:
        """Halve the batches and go back to the start of the shard.

        Raises
        ------
        UserError
            If they are of one image.
        """
        self._capture = None
        release_memory()
        size = self._size(self._upcoming.first)
        smaller = halved(size)
        if self._limit is None:
            self._session.say(
                f"out of memory on {self._session.subject.device} with {size} images a batch: "
                f"went on with {smaller}, and with fewer where that was too much"
            )
        self._limit = smaller
        if self._filled is not None:
            self._advance(-self._filled.images)
            self._writer.give_back(self._filled.rows)
            self._filled = None

    def _size(self, shard: Shard) -> int:
        """Return the images of each batch of a shard."""
        size = self._session.batch_sizes.get(shard.index, self._session.batch_size)
        return size if self._limit is None else min(size, self._limit)

    def _take(self, batch: Batch) -> None:
        filled = self._filled or self._begin()
        session, first = self._session, batch.start - filled.shard.start
        began = time.perf_counter()
        filled.read_seconds += began - self._last
        if session.strict and not batch.valid.all():
            raise _undecodable(session.subject.test_set, batch)
        inputs = session.subject.inputs(batch.images)
        captured = _captured(
            self._capture_of(filled.batch_size), inputs, _classes(session, batch), filled.batch_size
        )
        small = thumbnails(batch.pixels, session.thumbnail) if session.thumbnail else batch.pixels
        filled.rows.put(first, captured, batch.valid, small)
        filled.conversions.update(batch.conversions)
        if not self._is_checked:
            self._check_first(filled, batch, inputs)
        self._last = time.perf_counter()
        filled.forward_seconds += self._last - began
        images = batch.stop - batch.start
        filled.images += images
        self._writer.check()
        self._advance(images)
        if batch.stop == filled.shard.stop:
            self._finish(filled)

    def _begin(self) -> FilledShard:
        shard = self._upcoming.first
        session = self._session.of_shard(shard)
        if session is not self._session:
            self._open.close()
            self._capture, self._session = None, session
        check_shard_fits(session.place, session.plan.layout, shard, self._writer)
        self._filled = FilledShard(shard, self._writer.rows(), self._size(shard))
        return self._filled

    def _capture_of(self, batch_size: int) -> Capture:
        """Return what captures, opened anew where the batches have another size."""
        if self._capture is None or self._capture[0] != batch_size:
            self._open.close()
            session = self._session
            capture = session.subject.open_capture(session.plan, session.choice, batch_size)
            self._capture = batch_size, self._open.enter_context(capture)
        return self._capture[1]

    def _finish(self, filled: FilledShard) -> None:
        filled.density = self._capture_of(filled.batch_size).take_density()
        self._writer.hand_over(filled)
        self._filled = None
        self._upcoming.finish()

    def _check_first(self, filled: FilledShard, batch: Batch, inputs: torch.Tensor) -> None:
        """Tell of NaN after the first batch, not after the first shard."""
        session = self._session

        def origin(row: int) -> str | None:
            precision = session.plan.attributes["precision"]
            return first_unsound_call(session.subject.model, inputs[row : row + 1], precision)

        filled.rows.wait()
        start = filled.shard.start
        values = filled.rows.values(batch.start - start, batch.stop - start)
        test_set = session.subject.test_set
        check_finite(session.plan, test_set, values, first=batch.start, origin=origin)
        self._is_checked = True


def _captured(
    capture: Capture, inputs: torch.Tensor, classes: torch.Tensor | None, batch_size: int
) -> torch.Tensor:
    """Capture a batch; one image that is left at the end runs in company of itself.

    Some models treat a batch of one otherwise, as by a bare `squeeze`.
    """
    if len(inputs) > 1 or batch_size == 1:
        return capture.run(inputs, classes)
    twice = torch.cat([inputs, inputs])  # which keeps the memory format
    if classes is not None:
        classes = torch.cat([classes, torch.full_like(classes, -1)])
    return capture.run(twice, classes)[:1]


def _classes(session: Session, batch: Batch) -> torch.Tensor | None:
    """Return the class of each image where densities are counted; -1 where it does not count."""
    if not session.plan.attributes["density"]:
        return None
    labels = session.subject.test_set.labels[batch.start : batch.stop]
    codes = np.where(batch.valid, labels, -1).astype(np.int64)
    device = session.subject.device
    if device.type != "cuda":
        return torch.from_numpy(codes).to(device)
    pinned = pinned_where_possible(codes.shape, torch.int64)
    return pinned.copy_(torch.from_numpy(codes)).to(device, non_blocking=True)


def _undecodable(test_set: TestSet, batch: Batch) -> UserError:
    index = batch.start + int(np.argmin(batch.valid))
    reason = ""
    try:
        test_set.image(index)
    except UndecodableImageError as error:
        reason = f" ({error.reason})"
    return UserError(
        f"image {test_set.ids[index]!r} cannot be decoded{reason}: mend or remove it, or "
        "record without strict, which leaves NaN in its rows"
    )


def _store(session: Session, filled: FilledShard) -> None:
    """Check a full shard and store it with its receipt; runs beside the next shard's batches."""
    began = time.perf_counter()
    shard = filled.shard
    filled.rows.wait()
    values: dict[str, Any] = filled.rows.values(0, shard.images)
    if filled.density is not None:
        values["shard_density"] = filled.density[None]
    test_set = session.subject.test_set
    check_finite(session.plan, test_set, values, first=shard.start)
    blank_invalid(values)
    objects = write_shard(session.place, session.plan.layout, shard, values)
    invalid = np.flatnonzero(~values["valid"]) + shard.start
    receipt = ShardReceipt(
        shard=shard.index,
        start=shard.start,
        stop=shard.stop,
        fingerprint=session.plan.fingerprint,
        invalid=tuple(test_set.ids[index] for index in invalid),
        conversions=dict(sorted(filled.conversions.items())),
        batch_size=filled.batch_size,
        objects=objects,
        device=str(session.subject.device),
        processor=processor_model(session.subject.device),
        read_seconds=filled.read_seconds,
        forward_seconds=filled.forward_seconds,
        write_seconds=time.perf_counter() - began,
    )
    write_receipt(session.place, shard, receipt)
