"""Record: run one checkpoint over one test set, shard by shard, into one Zarr store."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import RecordingReceipt, ShardReceipt
from activarium.tasks.capture.device_errors import is_out_of_memory
from activarium.tasks.capture.forward import ForwardError
from activarium.tasks.capture.layers import Reading, find_layers
from activarium.tasks.images.class_names import text_order_note
from activarium.tasks.images.conversions import describe_conversions
from activarium.tasks.images.preprocessing import read_images
from activarium.tasks.memory_format import place_model
from activarium.tasks.processes import usable_memory
from activarium.tasks.progress import begin_work, silent
from activarium.tasks.recording.batch_size import check_one_image, release_memory
from activarium.tasks.recording.begun import (
    Begun,
    Draws,
    Subject,
    begin,
    check_same_ground,
    is_begun,
    read_begun,
)
from activarium.tasks.recording.changed_images import changed_images
from activarium.tasks.recording.cores import (
    keep_freed_memory,
    threads_per_process,
    torch_threads,
    usable_cores,
)
from activarium.tasks.recording.devices import (
    device_faults,
    has_float64,
    has_tf32,
    resolve_device,
    use_device,
)
from activarium.tasks.recording.feeding import PixelFeed, ReadFeed, fits_device
from activarium.tasks.recording.free_space import check_memory, check_room, tell_size
from activarium.tasks.recording.record_plan import coordinate_values, plan_recording
from activarium.tasks.recording.record_shard import Session, record_shards
from activarium.tasks.recording.share import Share, even_shards
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.receipt_files import DamagedReceiptError, unsealed
from activarium.tasks.stores.recording_repair import (
    drop_receipts,
    faulty_shards,
    repair_created,
    restore_root,
)
from activarium.tasks.stores.recording_store import (
    finalise,
    is_final,
    pending_shards,
    read_receipt,
    receipt_keys,
    reopen,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RecordConfig
    from activarium.schemas.layout import Shard
    from activarium.tasks.images.preprocessing import Preprocessing
    from activarium.tasks.images.test_sets import TestSet
    from activarium.tasks.progress import Progress
    from activarium.tasks.recording.feeding import Feed
    from activarium.tasks.recording.record_plan import ModelIdentity, RecordPlan
    from activarium.tasks.stores.places import Place


def record(  # noqa: PLR0913 - a whole stage, called from one place
    atlas: Atlas,
    model: nn.Module,
    test_set: TestSet,
    *,
    preprocessing: Preprocessing,
    config: RecordConfig,
    identity: ModelIdentity,
    progress: Progress = silent,
    share: Share | None = None,
    repair: bool = False,
    check: Callable[[RecordPlan], None] | None = None,
    draws: Draws | None = None,
) -> RecordingReceipt:
    """Record a model's answers to a test set, or finish what an interrupted run began.

    Any number of processes may record the same at once, here and on other machines.

    Parameters
    ----------
    atlas
        Where the recording goes.
    model
        The model with its weights, in evaluation mode.
    test_set
        The images.
    preprocessing
        From image to input.
    config
        What is recorded.
    identity
        The model's name, checkpoint and weights.
    progress
        Shows how far it is.
    share
        Which shards this process makes; by default all.
    repair
        Check everything that is stored first, and make anew what is damaged.
    check
        Refuses a plan that what follows cannot use, before the recording begins.
    draws
        Networks of which each answers to its part of the test set, the model first.

    Raises
    ------
    UserError
        If the model cannot take the images, its numbers are not finite, or the disk is full.
    """
    share = share or Share()
    device = resolve_device(config.device)
    keep_freed_memory()
    threads = threads_per_process(share.processes, threads=config.threads)
    with device_faults(device), torch_threads(threads):
        use_device(device)
        config, notices = _possible(config, device)
        subject = replace(_subject(model, test_set, preprocessing, device), draws=draws)
        subject, plan = _planned(subject, config, identity, share)
        place = place_at(atlas.recording(plan.name))
        place.sweep()
        if repair and place.names() and restore_root(place):
            notices.append("repaired zarr.json")
        was_begun = is_begun(place)
        if not was_begun:
            if check is not None:
                check(plan)
            begin_work(progress)
            notices += changed_images(atlas, plan.attributes, test_set)
            choice = begin(place, plan, subject, config=config, threads=threads)
            notices += [f"layers are captured by {choice.reason}", *identity.notes]
            notices += plan.model_layers.notes
            notices += [
                *test_set.notes,
                *text_order_note(test_set.class_names, plan.layout.outputs),
            ]
            share.began(plan.name)
        plan, begun = read_begun(place, plan)
        if not was_begun and config.batch_size == "auto":
            notices.append(f"batches of {begun.batch_size} images, the fastest that was tried")
        receipts = _readable_receipts(place)
        noted = {each.shard: each.batch_size for each in receipts}
        work = _Work(subject, plan, place, begun, config, share, notices, noted)
        try:
            with torch_threads(begun.threads):
                return work.run(progress, repair=repair)
        except UserError:
            # Without a single receipt nothing is lost, and the mended run is another recording.
            if not was_begun and share.is_whole and not receipt_keys(place):
                place.delete_all()
            raise


def check_subject(
    model: nn.Module,
    test_set: TestSet,
    *,
    preprocessing: Preprocessing,
    config: RecordConfig,
    identity: ModelIdentity,
) -> RecordPlan:
    """Find what would stop a recording before its first shard: layers, output, memory.

    Parameters
    ----------
    model
        The model, with any weights.
    test_set
        The images.
    preprocessing
        From image to input.
    config
        What is recorded.
    identity
        Of the model, and which of its outputs and tokens are meant.

    Raises
    ------
    UserError
        What `record` would raise before it begins.
    """
    device = resolve_device(config.device)
    with device_faults(device), torch_threads(threads_per_process(threads=config.threads)):
        use_device(device)
        config, _ = _possible(config, device)
        subject = _subject(model, test_set, preprocessing, device)
        _, plan = _planned(subject, config, identity, Share())
    return plan


def _subject(
    model: nn.Module, test_set: TestSet, preprocessing: Preprocessing, device: torch.device
) -> Subject:
    """Return the model on its device, ready to answer to the images."""
    placed = place_model(model.eval(), device, torch.channels_last)
    return Subject(placed, test_set, preprocessing, device)


def _possible(config: RecordConfig, device: torch.device) -> tuple[RecordConfig, list[str]]:
    """Return the precision that the device has, and what there is to say about it.

    Numbers in float32 do not get the name of a recording whose numbers were rounded to TF32.
    """
    if config.precision != "tf32" or has_tf32(device):
        return config, []
    notice = f"record.precision: {device} has no TF32, so the model is run in float32"
    return config.model_copy(update={"precision": "float32"}), [notice]


def _planned(
    subject: Subject, config: RecordConfig, identity: ModelIdentity, share: Share
) -> tuple[Subject, RecordPlan]:
    """Return the plan, and the subject in the memory format in which its model runs.

    Where a GPU has no room for the trial, which keeps what the layers return, or no float64, the CPU
    makes it.
    """
    device = subject.device
    try:
        if has_float64(device):
            return _planned_here(subject, config, identity, share)
    except (RuntimeError, MemoryError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    cpu = torch.device("cpu")
    place_model(subject.model, cpu, subject.memory_format)
    release_memory()
    subject, plan = _planned_here(replace(subject, device=cpu), config, identity, share)
    place_model(subject.model, device, subject.memory_format)
    return replace(subject, device=device), plan


def _planned_here(
    subject: Subject, config: RecordConfig, identity: ModelIdentity, share: Share
) -> tuple[Subject, RecordPlan]:
    try:
        return subject, _plan(subject, config, identity, share)
    except ForwardError:
        subject = subject.contiguous()
    return subject, _plan(subject, config, identity, share)


def _plan(
    subject: Subject, config: RecordConfig, identity: ModelIdentity, share: Share
) -> RecordPlan:
    first = subject.first_inputs(1)
    if first.device.type == "cpu":
        check_one_image(subject.model, first, usable_memory())
    layers = find_layers(
        subject.model,
        first,
        patterns=config.layers,
        kinds=config.chosen_kinds,
        reading=Reading(identity.output, identity.tokens, allow_random=config.allow_random),
    )
    plan = plan_recording(
        layers,
        test_set=subject.test_set,
        preprocessing=subject.preprocessing,
        config=config,
        identity=identity,
    )
    if config.shard_images is not None:
        return plan
    layout = even_shards(plan.layout, share.workers)
    attributes = {**plan.attributes, "shard_images": layout.shard_images}
    return replace(plan, layout=layout, attributes=attributes)


def _readable_receipts(place: Place) -> list[ShardReceipt]:
    """Return the receipts that can be read, also of shards that are damaged."""
    found = []
    for key in receipt_keys(place):
        with suppress(DamagedReceiptError, FileNotFoundError):
            found.append(unsealed(ShardReceipt, place.read(key)))
    return found


@dataclass(frozen=True)
class _Work:
    """Fills the shards of this process's share of a begun recording."""

    subject: Subject
    plan: RecordPlan
    place: Place
    begun: Begun
    config: RecordConfig
    share: Share
    notices: list[str]
    batch_sizes: Mapping[int, int]

    def run(self, progress: Progress, *, repair: bool) -> RecordingReceipt:
        """Record what is pending, and finalise the recording once nothing is."""
        began = time.perf_counter()
        place, layout = self.place, self.plan.layout
        mine = self.share.shards(layout)
        if repair:
            self._drop_damaged(mine, progress)
        pending = pending_shards(place, mine)
        if self.config.strict:
            _refuse_invalid(_readable_receipts(place))
        if pending:
            begin_work(progress)
            check_same_ground(place, self.plan, self.subject.device)
            reopen(place)
            # How far compression goes is not known; then free space is watched only.
            shards = len(pending) if self.config.compression == "none" else 1
            check_room(place, layout, shards)
            check_memory(layout, usable_memory())
            tell_size(place, layout, len(pending), progress)
            self._fill(mine, pending, progress)
        left = pending_shards(place, layout.shards())
        was_complete = is_final(place)
        if not left and not was_complete:
            begin_work(progress)
            finalise(place)
        receipts = _readable_receipts(place)
        return RecordingReceipt(
            recording=self.plan.name,
            path=str(place),
            images=layout.images,
            units=layout.units,
            layers=layout.layers,
            made=bool(pending) or not was_complete,
            shards_left=len(left),
            invalid=tuple(name for receipt in receipts for name in receipt.invalid),
            notices=(*self.notices, *_conversions(receipts), *_processors(receipts)),
            resumed_shards=len(mine) - len(pending) if pending else 0,
            seconds=time.perf_counter() - began,
        )

    def _drop_damaged(self, shards: Sequence[Shard], progress: Progress) -> None:
        """Forget the shards that fail their checksums, and write anew what is beside them."""
        coordinates = coordinate_values(self.plan, self.subject.test_set)
        mended = repair_created(self.place, self.plan.layout, coordinates=coordinates)
        damaged = faulty_shards(self.place, shards, progress=progress)
        drop_receipts(self.place, damaged)
        self.notices.extend(f"repaired {key}" for key in mended)
        self.notices.extend(f"repaired shard {shard.index}" for shard in damaged)
        if not mended and not damaged:
            self.notices.append("nothing is damaged")

    def _fill(self, mine: Sequence[Shard], pending: Sequence[Shard], progress: Progress) -> None:
        images = sum(shard.images for shard in mine)
        with (
            self._feed() as feed,
            progress(f"recording {self.plan.name}", images) as advance,
        ):
            advance(images - sum(shard.images for shard in pending))
            session = Session(
                subject=self.subject,
                choice=self.begun.choice,
                feed=feed,
                plan=self.plan,
                place=self.place,
                batch_size=min([self.begun.batch_size, *self.batch_sizes.values()]),
                batch_sizes=self.batch_sizes,
                thumbnail=self.config.thumbnail,
                strict=self.config.strict,
                say=self.notices.append,
            )
            record_shards(session, self._to_take(mine), advance)

    def _to_take(self, mine: Sequence[Shard]) -> Iterator[Shard]:
        """Yield the shards that are without a receipt when their turn comes."""
        for position in self.share.positions(len(mine)):
            if read_receipt(self.place, mine[position]) is None:
                yield mine[position]

    def _feed(self) -> Feed:
        subject, preprocessing = self.subject, self.subject.preprocessing
        shape = (preprocessing.height, preprocessing.width, preprocessing.colours)
        pixels, device = subject.test_set.pixels, subject.device
        if subject.draws is not None:
            sample = subject.draws.sample  # which is decoded once for all draws
            threads = self.config.readers or usable_cores()
            pixels, valid = read_images(sample, preprocessing, 0, len(sample), threads=threads)
            return PixelFeed(pixels, device, valid=valid)
        fits = pixels is not None and pixels.shape[1:] == shape
        if pixels is not None and fits and fits_device(pixels.nbytes, device):
            return PixelFeed(pixels, device)

        def read(
            start: int, stop: int, conversions: Counter[str]
        ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
            return read_images(
                subject.test_set, preprocessing, start, stop, threads=1, conversions=conversions
            )

        readers = self.config.readers or max(1, usable_cores() // self.share.processes)
        return ReadFeed(read, shape, device, threads=readers)


def _refuse_invalid(receipts: Sequence[ShardReceipt]) -> None:
    names = [name for receipt in receipts for name in receipt.invalid]
    if names:
        raise UserError(
            f"image {names[0]!r} could not be decoded when it was recorded ({len(names)} in all): "
            "mend or remove it, or record without strict"
        )


def _conversions(receipts: Sequence[ShardReceipt]) -> tuple[str, ...]:
    """Tell which images were converted, counted over all shards."""
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt.conversions)
    return describe_conversions(total)


def _processors(receipts: Sequence[ShardReceipt]) -> Iterator[str]:
    """Tell where shards were made on processors whose last bits may differ."""
    made = Counter(receipt.processor for receipt in receipts if receipt.processor)
    if len(made) > 1:
        each = "; ".join(f"{shards} on {processor}" for processor, shards in sorted(made.items()))
        yield (
            f"shards were made on {len(made)} kinds of processors, whose numbers may differ in their "
            f"last bits: {each}"
        )
