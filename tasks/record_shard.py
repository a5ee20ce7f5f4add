"""One shard of a recording: run the model over its images, store the rows, write the receipt."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import ShardReceipt
from activarium.tasks.capture import HookCapture
from activarium.tasks.preprocessing import normalise, read_images, thumbnails
from activarium.tasks.progress import no_advance
from activarium.tasks.recording_store import write_receipt, write_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from activarium.schemas.layout import PlacedArray, Shard
    from activarium.tasks.capture import CapturedBatch
    from activarium.tasks.preprocessing import Preprocessing
    from activarium.tasks.record_plan import RecordPlan
    from activarium.tasks.test_sets import TestSet


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
