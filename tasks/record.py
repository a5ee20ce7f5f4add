"""Record: run one checkpoint over one test set, shard by shard, into one Zarr store."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import RecordingReceipt, ShardReceipt
from activarium.tasks.capture import HookCapture
from activarium.tasks.layers import find_layers
from activarium.tasks.preprocessing import normalise, read_images, thumbnails
from activarium.tasks.progress import no_advance, silent
from activarium.tasks.record_plan import (
    ModelIdentity,
    RecordPlan,
    coordinate_values,
    plan_recording,
)
from activarium.tasks.recording_store import (
    create_store,
    finalise,
    read_attributes,
    read_receipt,
    sweep_partial_files,
    write_receipt,
    write_shard,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RecordConfig
    from activarium.schemas.layout import PlacedArray, Shard
    from activarium.tasks.capture import CapturedBatch
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


@dataclass(frozen=True)
class Session:
    """What recording one shard needs: the model in place, the images, the plan."""

    model: nn.Module
    test_set: TestSet
    preprocessing: Preprocessing
    plan: RecordPlan
    path: Path
    device: torch.device
    batch_size: int
    thumbnail: int
    threads: int


@dataclass
class _Clock:
    read: float = 0.0
    forward: float = 0.0


def _batches(
    session: Session, shard: Shard, clock: _Clock
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield (first row in the shard, images, valid), reading one batch ahead."""
    starts = range(shard.start, shard.stop, session.batch_size)

    def read(start: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        stop = min(start + session.batch_size, shard.stop)
        return read_images(
            session.test_set, session.preprocessing, start, stop, threads=session.threads
        )

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, starts[0])
        for position, start in enumerate(starts):
            waited = time.perf_counter()
            images, valid = ahead.result()
            clock.read += time.perf_counter() - waited
            if position + 1 < len(starts):
                ahead = reader.submit(read, starts[position + 1])
            yield start - shard.start, images, valid


def _empty_rows(array: PlacedArray, shard: Shard) -> NDArray[Any]:
    return np.empty((shard.images, *array.shape[1:]), dtype=array.spec.dtype)


def _fill(values: dict[str, NDArray[Any]], first: int, captured: CapturedBatch) -> None:
    rows = slice(first, first + len(captured.output))
    for reduction, responses in captured.responses.items():
        values[f"channel_{reduction}"][rows] = responses.numpy()
    if "pooled" in values:
        values["pooled"][rows] = captured.pooled.numpy()
    values["logits"][rows] = captured.output.numpy()


def record_shard(
    session: Session, shard: Shard, advance: Callable[[int], None] = no_advance
) -> ShardReceipt:
    """Run the model over one shard's images, store the rows, and write the receipt.

    Raises
    ------
    UserError
        If a layer returns NaN or infinity, or the shard cannot be written.
    """
    layout, clock = session.plan.layout, _Clock()
    values = {array.spec.name: _empty_rows(array, shard) for array in layout.shard_arrays()}
    plan = session.plan
    with HookCapture(
        session.model,
        plan.model_layers.layers,
        reductions=layout.reductions,
        pooled=plan.pooled,
        precision=plan.attributes["precision"],
    ) as capture:
        for first, images, valid in _batches(session, shard, clock):
            began = time.perf_counter()
            batch = torch.from_numpy(images).to(session.device)
            _fill(values, first, capture.run(normalise(batch, session.preprocessing)))
            clock.forward += time.perf_counter() - began
            values["valid"][first : first + len(valid)] = valid
            if "thumbnail" in values:
                small = thumbnails(images, session.thumbnail)
                values["thumbnail"][first : first + len(valid)] = small
            advance(len(valid))
    _check_finite(session, shard, values)
    _blank_invalid(values)
    return _store(session, shard, values, clock)


def _store(
    session: Session, shard: Shard, values: dict[str, NDArray[Any]], clock: _Clock
) -> ShardReceipt:
    began = time.perf_counter()
    objects = write_shard(session.path, session.plan.layout, shard, values)
    invalid = np.flatnonzero(~values["valid"]) + shard.start
    receipt = ShardReceipt(
        shard=shard.index,
        start=shard.start,
        stop=shard.stop,
        fingerprint=session.plan.fingerprint,
        invalid=tuple(session.test_set.ids[index] for index in invalid),
        objects=objects,
        device=str(session.device),
        read_seconds=clock.read,
        forward_seconds=clock.forward,
        write_seconds=time.perf_counter() - began,
    )
    write_receipt(session.path, shard, receipt)
    return receipt


def _check_finite(session: Session, shard: Shard, values: dict[str, NDArray[Any]]) -> None:
    means = _is_sound(values["channel_mean"], values["valid"])
    if not means.all():
        layers = session.plan.model_layers
        column = int(np.argmin(means.all(axis=0)))
        place = int(np.searchsorted(layers.offsets(), column, side="right")) - 1
        what, row = f"layer {layers.layers[place].name!r} is the first", np.argmin(means[:, column])
    else:
        logits = _is_sound(values["logits"], values["valid"]).all(axis=1)
        if logits.all():
            return
        what, row = "the model's output, and no recorded layer, is the first", np.argmin(logits)
    raise UserError(
        f"{what} to be NaN or infinite, for image {session.test_set.ids[shard.start + int(row)]!r}:"
        " check the weights and the preprocessing, or use record.precision float32"
    )


def _is_sound(rows: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where values are finite; images that could not be decoded may hold anything."""
    return np.isfinite(rows) | ~valid[:, None]


def _blank_invalid(values: dict[str, NDArray[Any]]) -> None:
    invalid = ~values["valid"]
    if invalid.any():
        for rows in values.values():
            if rows.dtype == np.float32:
                rows[invalid] = np.nan


@contextmanager
def _only_writer(atlas: Atlas, name: str) -> Iterator[None]:
    """Hold the recording's lock; the system frees it even when the process is killed."""
    path = atlas.work / f"{name}.lock"
    with ExitStack() as stack:
        try:
            for folder in (atlas.work, atlas.recordings):
                folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is recording {name} right now; wait for it to end"
            ) from error
        except OSError as error:
            raise UserError(f"cannot lock {path}: {error.strerror or error}") from error
        yield


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
    with _only_writer(atlas, plan.name):
        plan, batch_size = _open_or_create(path, plan, test_set, config)
        session = Session(
            model,
            test_set,
            preprocessing,
            plan,
            path,
            device,
            batch_size,
            config.thumbnail,
            os.cpu_count() or 1,
        )
        return _fill_shards(session, progress)


def _open_or_create(
    path: Path, plan: RecordPlan, test_set: TestSet, config: RecordConfig
) -> tuple[RecordPlan, int]:
    """Return the plan and batch size to go on with; those of a begun recording are kept."""
    if not path.exists():
        _sweep_begun_stores(path)
        create_store(
            path,
            plan.layout,
            attributes=plan.attributes,
            coordinates=coordinate_values(plan, test_set),
            compression=config.compression,
        )
        return plan, config.batch_size
    attributes = read_attributes(path)
    if attributes["fingerprint"] != plan.fingerprint:
        raise UserError(f"{path} belongs to another recording: delete it and record again")
    sweep_partial_files(path)
    layout = replace(plan.layout, shard_images=int(attributes["shard_images"]))
    return replace(plan, layout=layout), int(attributes["batch_size"])


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
        _check_space(path, plan, sum(shard.images for shard in pending))
        with progress(f"recording {plan.name}", plan.layout.images) as advance:
            advance(plan.layout.images - sum(shard.images for shard in pending))
            for shard in pending:
                record_shard(session, shard, advance)
    was_complete = read_attributes(path)["status"] == "complete"
    if pending or not was_complete:
        finalise(path)
    return RecordingReceipt(
        recording=plan.name,
        path=path,
        images=plan.layout.images,
        units=plan.layout.units,
        layers=plan.layout.layers,
        made=bool(pending) or not was_complete,
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
