"""Recordings of made-up responses, written as the recorder writes them, and what blocks need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from synthetic_responses import CHUNK_IMAGES

from activarium.schemas.layout import BLOCK_UNITS, RecordingLayout, Shard
from activarium.schemas.receipts import ShardReceipt
from activarium.tasks.analysis.chosen_images import ChosenImages, arrange_images
from activarium.tasks.analysis.unit_block import Block
from activarium.tasks.stores.places import Folder
from activarium.tasks.stores.recording import Recording
from activarium.tasks.stores.recording_store import (
    create_store,
    finalise,
    write_receipt,
    write_shard,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from synthetic_responses import Case

FINGERPRINT = "made up"


def write_recording(folder: Path, case: Case, layers: Sequence[int] = ()) -> Recording:
    """Write a complete recording of channel means, half of them zero, shard by shard.

    Parameters
    ----------
    folder
        Where it goes.
    case
        Its sizes.
    layers
        Units of each layer; by default one layer has all.
    """
    sizes = list(layers) or [case.units]
    place, layout = Folder(folder), _layout(case, len(sizes))
    attributes = {**_attributes(), "shard_images": layout.shard_images}
    create_store(place, layout, attributes=attributes, coordinates=_coordinates(case, sizes))
    rng = np.random.default_rng(0)
    for shard in layout.shards():
        rows = {
            "channel_mean": _responses(rng, case, shard),
            "logits": np.zeros((shard.images, case.classes), np.float32),
            "valid": np.ones(shard.images, bool),
        }
        receipt = ShardReceipt(
            shard=shard.index,
            start=shard.start,
            stop=shard.stop,
            fingerprint=FINGERPRINT,
            batch_size=1,
            objects=write_shard(place, layout, shard, rows),
            device="cpu",
            read_seconds=0,
            forward_seconds=0,
            write_seconds=0,
        )
        write_receipt(place, shard, receipt)
    finalise(place)
    return Recording(place)


def _attributes() -> dict[str, Any]:
    """Return what a recording says of its origin."""
    words = ("model", "checkpoint", "architecture", "test_set", "split", "engine", "precision")
    hashes = ("fingerprint", "weights_sha256", "images_sha256")
    origin: dict[str, Any] = dict.fromkeys((*words, *hashes), FINGERPRINT)
    return origin | {"batch_size": 1, "preprocessing": {}, "versions": {}}


def _layout(case: Case, layers: int) -> RecordingLayout:
    return RecordingLayout(
        images=case.images,
        units=case.units,
        features=0,
        layers=layers,
        classes=case.classes,
        outputs=case.classes,
        reductions=("mean",),
        thumbnail=(0, 0, 0),
        shard_images=RecordingLayout.shard_images_for(4 * case.units, most=CHUNK_IMAGES),
    )


def _labels(case: Case) -> NDArray[np.int32]:
    return (np.arange(case.images) % case.classes).astype(np.int32)


def _responses(rng: np.random.Generator, case: Case, shard: Shard) -> NDArray[np.float32]:
    rows = rng.standard_normal((shard.images, case.units), np.float32)
    rows += 0.2 * _labels(case)[shard.start : shard.stop, None] / case.classes
    return np.maximum(rows, 0, out=rows)


def _coordinates(case: Case, sizes: Sequence[int]) -> dict[str, NDArray[Any]]:
    label = _labels(case)
    names = np.array(case.class_names, object)
    layers = np.array([f"layer{place + 1}" for place in range(len(sizes))], object)
    channels = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    owners = np.repeat(layers, sizes)
    every = np.ones(len(sizes), np.int64)
    return {
        "image": np.array([f"images/{index:08d}.png" for index in range(case.images)], object),
        "label": label,
        "image_class": names[label],
        "class": names,
        "unit": np.array(
            [f"{each}/{unit}" for each, unit in zip(owners, channels, strict=True)], object
        ),
        "unit_layer": owners,
        "unit_channel": channels,
        "layer": layers,
        "layer_kind": np.full(len(sizes), "conv", object),
        "layer_activation": np.full(len(sizes), "relu", object),
        "layer_depth": np.arange(len(sizes)),
        "layer_offset": np.cumsum([0, *sizes[:-1]]),
        "layer_size": np.array(sizes),
        "layer_height": every,
        "layer_width": every,
    }


def choice_of(recording: Recording) -> ChosenImages:
    """Return all images of a recording in the order of the analysis."""
    return arrange_images(
        recording.valid, recording.labels, recording.image_names, recording.class_names, seed=0
    )


def blocks_of(recording: Recording) -> list[Block]:
    """Return the blocks of a recording."""
    starts = range(0, recording.units, BLOCK_UNITS)
    return [Block(start, min(start + BLOCK_UNITS, recording.units)) for start in starts]
