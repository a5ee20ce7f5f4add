"""Stores that several processes create, fill and finalise at once."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr

from activarium.schemas.errors import UserError
from activarium.schemas.layout import FINAL_RECEIPT, ROOT, STORE_RECEIPT
from activarium.tasks.stores.places import Folder
from activarium.tasks.stores.recording_store import (
    finalise,
    is_final,
    pending_shards,
    read_attributes,
    reopen,
    write_shard,
)
from activarium.tasks.stores.store_check import check_store

from .store_making import ROWS, Makers, create, density_of, fill, layout_of, make, rows_of


def contents(folder):
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def problems(place):
    return [each for each in check_store(place) if each.problem]


@pytest.fixture
def place(tmp_path):
    return Folder(tmp_path / "a.zarr")


@pytest.fixture
def begun(place):
    create(place)
    return place


@pytest.fixture
def whole(place):
    make(place)
    return place


def test_store__made_by_several_processes_at_once_is_the_one_that_one_makes(tmp_path):
    makers = Makers(3)
    try:
        for trial in range(5):
            place = Folder(tmp_path / f"{trial}.zarr")
            (shard_images,) = makers.make(place)
            assert (problems(place), is_final(place)) == ([], True)
            alone = Folder(tmp_path / f"alone-{trial}.zarr")
            make(alone, turn=1 if shard_images == 20 else 0)
            assert contents(place.path) == contents(alone.path)
    finally:
        makers.close()
    assert not list(tmp_path.glob(".*"))


def test_create__a_second_time_changes_nothing(begun):
    before = contents(begun.path)
    create(begun, shard_images=20)
    assert contents(begun.path) == before
    assert read_attributes(begun)["shard_images"] == 25


def test_create__nothing_is_left_where_the_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/a\.zarr"):
        create(Folder(tmp_path / "file" / "a.zarr"))


def test_shard__written_again_is_the_same_bytes_and_the_same_receipt(begun):
    layout = layout_of()
    shard = layout.shards()[2]
    first = write_shard(begun, layout, shard, rows_of(shard))
    before = contents(begun.path)
    assert write_shard(begun, layout, shard, rows_of(shard)) == first
    assert contents(begun.path) == before
    names = {array.spec.name for array in layout.shard_arrays()}
    sizes = {key: size for key, size in begun.sizes().items() if key.split("/")[0] in names}
    metadata = {f"{name}/zarr.json" for name in names}
    assert {each.key for each in first} == sizes.keys() - metadata
    assert all(sizes[each.key] == each.size for each in first)


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_shard__damaged_chunk_does_not_stop_its_being_written_again(whole, damage):
    chunk = whole.path / "channel_mean/c/2/0"  # the last shard, shorter than its chunk
    content = chunk.read_bytes()
    chunk.write_bytes(damage)
    fill(whole, layout_of(), layout_of().shards()[2])
    assert chunk.read_bytes() == content


def test_shard__is_what_zarr_itself_writes(whole):
    written = contents(whole.path)
    group = zarr.open_group(whole.path, mode="r+")
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name, values in ROWS.items():
            np.testing.assert_array_equal(group[name][:], values)
            group[name][...] = values
    assert contents(whole.path) == written


def test_shard__of_another_shape_is_refused(begun):
    first, *_, last = layout_of().shards()
    with pytest.raises(UserError, match=r"a.zarr, shard 2: expected channel_mean of shape \(11, "):
        write_shard(begun, layout_of(), last, rows_of(first))


def test_finalise__adds_up_the_shards_histograms(whole):
    group = zarr.open_group(whole.path, mode="r")
    expected = sum(density_of(shard)[0] for shard in layout_of().shards())
    np.testing.assert_array_equal(group["density"][:], expected)


def test_finalise__is_repeated_without_a_change(whole):
    before = contents(whole.path)
    finalise(whole)
    assert contents(whole.path) == before
    reopen(whole)
    assert not is_final(whole)
    assert read_attributes(whole)["status"] == "recording"
    finalise(whole)
    assert contents(whole.path) == before


@pytest.mark.parametrize("key", [STORE_RECEIPT, FINAL_RECEIPT])
def test_is_final__needs_its_receipts(whole, key):
    whole.delete(key)
    assert not is_final(whole)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (STORE_RECEIPT, "store.json is damaged .* record again with --repair"),
        ("shard_density/c/1/0/0/0", "shard_density cannot be read .* record again with --repair"),
    ],
)
def test_finalise__of_what_is_damaged_says_what_to_do(whole, key, message):
    content = bytearray(whole.read(key))
    content[-1] ^= 1
    (whole.path / key).write_bytes(content)
    with pytest.raises(UserError, match=message):
        finalise(whole)


def test_attributes__of_a_store_without_metadata_tell_what_to_do(place):
    with pytest.raises(UserError, match=re.escape(f"no recording at {place}")):
        read_attributes(place)
    make(place)
    place.delete(ROOT)
    with pytest.raises(UserError, match=r"zarr\.json is missing: record again with --repair"):
        read_attributes(place)


def test_pending__are_shards_without_a_receipt_that_can_be_trusted(place):
    create(place, shard_images=10)
    layout = layout_of(10)
    shards = layout.shards()
    for shard in shards[:5]:
        fill(place, layout, shard)
    assert pending_shards(place, shards) == list(shards[5:])
    (place.path / "logits/c/1/0").write_bytes(b"short")
    (place.path / "receipts/shard-00003.json").write_bytes(b"{")
    assert [each.index for each in pending_shards(place, shards)] == [1, 3, 5, 6]
    place.write("receipts/shard-00002.json", place.read("receipts/shard-00000.json"))
    assert [each.index for each in pending_shards(place, shards)] == [1, 2, 3, 5, 6]
