"""Free space: never less is asked for than a shard takes, and not much more."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from activarium.schemas.errors import UserError
from activarium.schemas.layout import RecordingLayout
from activarium.tasks.recording import free_space
from activarium.tasks.recording.free_space import RESERVED_BYTES, check_room, shard_bytes
from activarium.tasks.stores.places import Folder
from activarium.tasks.stores.recording_store import create_store, write_shard

LAYOUT = RecordingLayout(
    images=50,
    units=700,
    features=300,
    layers=2,
    classes=3,
    outputs=3,
    reductions=("mean", "active"),
    thumbnail=(8, 8, 3),
    shard_images=20,
)


def zeros(array, images=None):
    shape = array.shape if images is None else (images, *array.shape[1:])
    return np.full(shape, "", object) if array.spec.is_text else np.zeros(shape, array.spec.dtype)


def test_shard_bytes__is_what_the_chunks_of_a_shard_take(tmp_path):
    place = Folder(tmp_path / "store.zarr")
    created = [array for array in LAYOUT.arrays() if array.spec.phase == "create"]
    coordinates = {array.spec.name: zeros(array) for array in created}
    attributes = {"fingerprint": "f", "shard_images": LAYOUT.shard_images}
    create_store(place, LAYOUT, attributes=attributes, coordinates=coordinates)
    before = sum(file.stat().st_blocks for file in place.path.rglob("*"))
    for shard in LAYOUT.shards():
        rows = {array.spec.name: zeros(array, shard.images) for array in LAYOUT.shard_arrays()}
        write_shard(place, LAYOUT, shard, rows)
    taken = 512 * (sum(file.stat().st_blocks for file in place.path.rglob("*")) - before)
    asked = len(LAYOUT.shards()) * shard_bytes(LAYOUT)
    assert taken <= asked + RESERVED_BYTES
    assert asked <= 1.5 * taken


@dataclass(frozen=True)
class Disk(Folder):
    """Has so much room."""

    free: int | None = 0

    def free_bytes(self):
        return self.free


def test_check_room__asks_for_what_is_pending_only(tmp_path):
    free = 2 * shard_bytes(LAYOUT) + RESERVED_BYTES
    place = Disk(tmp_path / "store.zarr", free)
    check_room(place, LAYOUT, 2)
    with pytest.raises(UserError, match=r"recording store needs .* are free at .*: free some"):
        check_room(place, LAYOUT, 3)
    check_room(Disk(tmp_path, None), LAYOUT, 1_000_000)


@pytest.mark.parametrize("much", [True, False])
def test_tell_size__is_told_where_it_is_much(tmp_path, monkeypatch, much):
    told = []

    @contextmanager
    def progress(description, total):
        told.append((description, total))
        yield lambda _: None

    needed = 2 * shard_bytes(LAYOUT)
    monkeypatch.setattr(free_space, "MUCH_BYTES", needed if much else needed + 1)
    free_space.tell_size(Folder(tmp_path / "a.zarr"), LAYOUT, 2, progress)
    line = f"a: 50 images x 700 units, up to {needed / 1e9:.1f} GB in 2 shards to store"
    assert told == ([(line, 0)] if much else [])
