"""Record: run one checkpoint over one test set, shard by shard, into one Zarr store."""

from __future__ import annotations

import glob
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import RecordingReceipt
from activarium.tasks.layers import find_layers
from activarium.tasks.locking import only_process
from activarium.tasks.preprocessing import normalise, read_images
from activarium.tasks.progress import silent
from activarium.tasks.record_plan import (
    ModelIdentity,
    RecordPlan,
    coordinate_values,
    plan_recording,
)
from activarium.tasks.record_shard import Session, record_shard
from activarium.tasks.recording_store import (
    create_store,
    finalise,
    is_final,
    read_attributes,
    read_receipt,
    read_receipts,
    reopen,
    sweep_partial_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RecordConfig
    from activarium.tasks.preprocessing import Preprocessing
    from activarium.tasks.progress import Progress
    from activarium.tasks.test_sets import TestSet


def resolve_device(device: str) -> torch.device:
    """Return the device; `auto` takes CUDA where there is one.

    Raises
    ------
    UserError
        If the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(
            f"record.device: expected auto, cpu, cuda or cuda:<n>, got {device!r}"
        ) from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"record.device: {device!r} is not there ({torch.cuda.device_count()} CUDA devices); "
            "use auto or cpu"
        )
    return found


def record(  # noqa: PLR0913 - a whole stage, called from one place
    atlas: Atlas,
    model: nn.Module,
    test_set: TestSet,
    *,
    preprocessing: Preprocessing,
    config: RecordConfig,
    identity: ModelIdentity,
    progress: Progress = silent,
) -> RecordingReceipt:
    """Record a model's answers to a test set, or finish what an interrupted run began.

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

    Raises
    ------
    UserError
        If the model cannot take the images, another process records the same, or the disk is full.
    """
    device = resolve_device(config.device)
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    example, _ = read_images(test_set, preprocessing, 0, 1, threads=1)
    inputs = normalise(torch.from_numpy(example).to(device), preprocessing)
    layers = find_layers(model, inputs, patterns=config.layers, kinds=config.kinds)
    plan = plan_recording(
        layers, test_set=test_set, preprocessing=preprocessing, config=config, identity=identity
    )
    path = atlas.recording(plan.name)
    with only_process(atlas.lock(plan.name), f"recording {plan.name}"):
        plan, begun = _open_or_create(path, plan, test_set, config=config, device=device)
        session = Session(
            model,
            test_set,
            preprocessing,
            plan,
            path,
            device,
            begun.batch_size,
            config.thumbnail,
            os.cpu_count() or 1,
        )
        try:
            with reproducible_torch(begun.threads):
                return _fill_shards(session, progress)
        except UserError:
            # Without a single receipt nothing is lost, and the mended run is another recording.
            if not read_receipts(path):
                shutil.rmtree(path, ignore_errors=True)
            raise


@dataclass(frozen=True)
class Begun:
    """Settings that a begun recording keeps, because they decide the last bits of its numbers."""

    batch_size: int
    threads: int
    device_type: str


@contextmanager
def reproducible_torch(threads: int) -> Iterator[None]:
    """Let torch use this many threads, and float32 where float32 is said.

    cuDNN computes float32 convolutions in TF32, with a mantissa of 10 bits, unless it is told not
    to.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


def _open_or_create(
    path: Path,
    plan: RecordPlan,
    test_set: TestSet,
    *,
    config: RecordConfig,
    device: torch.device,
) -> tuple[RecordPlan, Begun]:
    """Return the plan to go on with; shards, batches and threads of a begun recording are kept."""
    if not path.exists():
        _sweep_begun_stores(path)
        begun = Begun(config.batch_size, torch.get_num_threads(), device.type)
        create_store(
            path,
            plan.layout,
            attributes={**plan.attributes, **asdict(begun)},
            coordinates=coordinate_values(plan, test_set),
            compression=config.compression,
        )
        return plan, begun
    attributes = read_attributes(path)
    if attributes["fingerprint"] != plan.fingerprint:
        raise UserError(f"{path} belongs to another recording: delete it and record again")
    sweep_partial_files(path)
    layout = replace(plan.layout, shard_images=int(attributes["shard_images"]))
    if attributes["status"] != "complete":
        _check_same_ground(path, attributes, plan, device)
    kept = Begun(*(attributes[field.name] for field in fields(Begun)))
    return replace(plan, layout=layout), kept


def _check_same_ground(
    path: Path, attributes: dict[str, Any], plan: RecordPlan, device: torch.device
) -> None:
    """Refuse to finish on another kind of device, or with other libraries, what was begun here."""
    begun = {**attributes["versions"], "device": attributes["device_type"]}
    here = {**plan.attributes["versions"], "device": device.type}
    differing = sorted(name for name in begun if begun[name] != here.get(name))
    if differing:
        was = ", ".join(f"{name} {begun[name]}" for name in differing)
        now = ", ".join(f"{name} {here.get(name)}" for name in differing)
        raise UserError(
            f"{path.name} was begun with {was}, here is {now}: its rows would not be of one kind; "
            f"go on with those, or delete {path} to record it anew"
        )


def _sweep_begun_stores(path: Path) -> None:
    """Delete what a run left that was killed while it created the store."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _fill_shards(session: Session, progress: Progress) -> RecordingReceipt:
    began = time.perf_counter()
    plan, path = session.plan, session.path
    shards = plan.layout.shards()
    pending = [shard for shard in shards if read_receipt(path, shard) is None]
    if pending:
        reopen(path)
        _check_space(path, plan, sum(shard.images for shard in pending))
        with progress(f"recording {plan.name}", plan.layout.images) as advance:
            advance(plan.layout.images - sum(shard.images for shard in pending))
            for shard in pending:
                record_shard(session, shard, advance)
    was_complete = is_final(path)
    if not was_complete:
        finalise(path)
    return RecordingReceipt(
        recording=plan.name,
        path=path,
        images=plan.layout.images,
        units=plan.layout.units,
        layers=plan.layout.layers,
        made=not was_complete,
        invalid=tuple(name for receipt in read_receipts(path) for name in receipt.invalid),
        resumed_shards=len(shards) - len(pending) if pending else 0,
        seconds=time.perf_counter() - began,
    )


def _check_space(path: Path, plan: RecordPlan, images: int) -> None:
    rows = sum(
        int(np.prod(array.shape[1:])) * np.dtype(array.spec.dtype).itemsize
        for array in plan.layout.shard_arrays()
    )
    free = shutil.disk_usage(path).free
    if rows * images > free:
        raise UserError(
            f"recording {plan.name} needs {rows * images / 2**20:,.0f} MiB, "
            f"{free / 2**20:,.0f} MiB are free at {path.parent}: free some or use another --root"
        )
