"""Damage of every kind is found, named, and repaired without a trace."""

from __future__ import annotations

import json
import shutil
from itertools import cycle

import pytest

from activarium.schemas.errors import UserError
from activarium.schemas.layout import FINAL_RECEIPT, ROOT, STORE_RECEIPT
from activarium.tasks.stores.places import Folder
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
    read_attributes,
)
from activarium.tasks.stores.store_check import check_store

from .store_making import coordinates_of, create, fill, layout_of, make

LAYOUT = layout_of()
SHARDS = LAYOUT.shards()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a complete store that nobody may change."""
    place = Folder(tmp_path_factory.mktemp("store") / "a.zarr")
    make(place)
    return place


@pytest.fixture
def whole(made, tmp_path):
    """Return a copy of it."""
    shutil.copytree(made.path, tmp_path / "a.zarr")
    return Folder(tmp_path / "a.zarr")


@pytest.fixture
def begun(tmp_path):
    """Return a store of which the second shard is still to be made."""
    place = Folder(tmp_path / "a.zarr")
    create(place)
    for shard in (SHARDS[0], SHARDS[2]):
        fill(place, LAYOUT, shard)
    return place


def contents(place):
    return {key: place.read(key) for key in place.sizes()}


def problems(place):
    return {each.object: each for each in check_store(place) if each.problem}


def repair(place):
    """Repair as `record --repair` does; return the shards that were recorded again."""
    restore_root(place)
    assert read_attributes(place)["fingerprint"] == "the same for all"
    repair_created(place, LAYOUT, coordinates=coordinates_of(LAYOUT))
    drop_receipts(place, faulty_shards(place, SHARDS))
    again = pending_shards(place, SHARDS)
    for shard in again:
        fill(place, LAYOUT, shard)
    if not is_final(place):
        finalise(place)
    return [shard.index for shard in again]


def shard_of(key):
    """Return the shard that an object belongs to, None for what shards do not write."""
    parts = key.removesuffix(".json").split("/")
    if parts[0] == "receipts":
        return int(parts[1].removeprefix("shard-")) if parts[1].startswith("shard") else None
    shard_arrays = [array.spec.name for array in LAYOUT.shard_arrays()]
    return int(parts[2]) if parts[0] in shard_arrays and len(parts) > 2 else None


def flip(content, place):
    damaged = bytearray(content)
    damaged[place] ^= 0x10
    return bytes(damaged)


DAMAGES = {
    "first bit": lambda content: flip(content, 0),
    "middle bit": lambda content: flip(content, len(content) // 2),
    "last bit": lambda content: flip(content, len(content) - 1),
    "cut": lambda content: content[:-1],
    "empty": lambda _: b"",
    "longer": lambda content: content + b"\n",
    "garbage": lambda _: b'\xff{"attributes": [[[',
    "other json": lambda _: b'{"attributes": {"format_version": 2}, "objects": 3}',
    "missing": None,
}


def spoil(place, key, content, damage):
    place.delete(key)
    if DAMAGES[damage] is not None:
        (place.path / key).write_bytes(DAMAGES[damage](content))


@pytest.mark.parametrize("damage", DAMAGES)
def test_check__any_damage_of_any_object_is_named_with_its_shard(whole, damage):
    for key, content in contents(whole).items():
        spoil(whole, key, content, damage)
        found = problems(whole)
        assert set(found) == {key}, (damage, key)
        assert found[key].shard == shard_of(key)
        (whole.path / key).write_bytes(content)


def test_repair__undoes_what_is_damaged_and_records_no_other_shard(whole):
    before = contents(whole)
    for (key, content), damage in zip(before.items(), cycle(DAMAGES)):
        spoil(whole, key, content, damage)
        again = [] if shard_of(key) is None else [shard_of(key)]
        assert [each.index for each in faulty_shards(whole, SHARDS)] == again
        assert repair(whole) == again
        assert contents(whole) == before, (damage, key)


def test_check__tells_the_bytes_of_the_first_block_that_differs(whole):
    key = "channel_mean/c/1/0"
    content = whole.read(key)
    damaged = bytearray(content)
    damaged[20_000] ^= 1
    (whole.path / key).write_bytes(damaged)
    found = problems(whole)[key]
    assert (found.shard, found.first_byte, found.last_byte) == (1, 0, len(content) - 1)
    assert found.problem == "the content differs from its checksum"
    (whole.path / key).write_bytes(content)


def test_repair__many_damages_at_once(whole):
    before = contents(whole)
    for key in ("channel_mean/c/0/1", "logits/c/2/0", "receipts/shard-00002.json", "label/c/0"):
        (whole.path / key).write_bytes(b"garbage")
    for key in (ROOT, FINAL_RECEIPT, "class/zarr.json", "density/c/0/0/0"):
        whole.delete(key)
    # What a damaged receipt would list is not known.
    assert set(problems(whole)) == {
        ROOT,
        "channel_mean/c/0/1",
        "receipts/shard-00002.json",
        "label/c/0",
        "class/zarr.json",
    }
    assert repair(whole) == [0, 2]
    assert contents(whole) == before


def test_repair__of_what_is_not_finished_leaves_its_shards_to_be_made(begun):
    (begun.path / "valid/c/2").write_bytes(b"garbage")
    assert [each.index for each in faulty_shards(begun, SHARDS)] == [2]
    assert set(problems(begun)) == {"valid/c/2"}
    (unfinished,) = (each.unfinished for each in check_store(begun) if each.unfinished)
    assert unfinished == "the recording is not complete: 36 images have receipts"
    assert repair(begun) == [1, 2]
    assert not problems(begun)


def test_repair__sound_store_is_not_touched(whole):
    times = {file: file.stat().st_mtime_ns for file in whole.path.rglob("*")}
    assert not restore_root(whole)
    assert repair_created(whole, LAYOUT, coordinates=coordinates_of(LAYOUT)) == ()
    assert repair(whole) == []
    assert {file: file.stat().st_mtime_ns for file in whole.path.rglob("*")} == times


def test_repair__lost_metadata_and_lost_receipt_together_are_refused(begun):
    begun.delete(ROOT)
    (begun.path / STORE_RECEIPT).write_bytes(b"{}")
    with pytest.raises(UserError, match=r"cannot be repaired, .* delete it and record again"):
        restore_root(begun)


def test_check__receipts_of_other_shards_and_recordings_are_named(whole):
    key = "receipts/shard-00001.json"
    content = whole.read(key)
    whole.write(key, whole.read("receipts/shard-00000.json"))
    assert problems(whole)[key].problem == "the receipt of shard 0"
    whole.write(key, content)
    assert not problems(whole)


def test_check__what_no_receipt_lists_is_named_and_left(whole):
    (whole.path / "channel_mean/c/7").mkdir()
    for key in ("notes.txt", "channel_mean/c/7/0", "receipts/shard-00009.json"):
        (whole.path / key).write_bytes(b"x")
        assert {each.object: each.problem for each in problems(whole).values()} == {
            key: "no receipt lists it"
        }
        assert repair(whole) == []
        assert (whole.path / key).is_file()
        whole.delete(key)


def test_check__other_format_is_one_finding(whole):
    before = whole.read(ROOT)
    root = json.loads(before)
    root["attributes"]["format_version"] = 999
    whole.write(ROOT, json.dumps(root).encode())
    (whole.path / STORE_RECEIPT).rename(whole.path / "receipts/kept")
    (found,) = problems(whole).values()
    assert "format version 999, this program reads" in found.problem
    (whole.path / "receipts/kept").rename(whole.path / STORE_RECEIPT)
    whole.write(ROOT, before)
