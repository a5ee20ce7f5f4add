"""Verification: whatever byte is wrong, it is found and named."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import google_crc32c
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.layout import receipt_name
from activarium.schemas.stored_object import EarlierObject
from activarium.tasks.analysis.analyse import WRITTEN
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.receipt_files import sealed
from activarium.tasks.stores.recording import open_recording
from activarium.tasks.stores.recording_repair import drop_receipts
from activarium.tasks.stores.recording_store import (
    read_final_receipt,
    read_receipts,
    read_store_receipt,
)
from activarium.tasks.stores.verify import names_to_verify, verify

from .store_making import layout_of, make


@pytest.fixture(scope="module")
def whole(analysed, tmp_path_factory):
    """Return a copy of the analysed atlas; each test puts back what it damages."""
    root = tmp_path_factory.mktemp("verified") / "atlas"
    shutil.copytree(analysed.atlas.root, root)
    return Atlas(root)


def faults(atlas, name="toy"):
    return {fault.object: fault.problem for fault in verify(atlas, [name]).faults}


def stored_files(atlas):
    store = Path(atlas.recording("toy"))
    tables = sorted(atlas.tables.glob("*/recording=toy/*"))
    tables += sorted(atlas.checksums.glob("*/recording=toy/*"))
    return [file for file in sorted(store.rglob("*")) if file.is_file()] + tables


def test_verify__sound_atlas_has_no_fault(whole):
    found = verify(whole, ["toy", "untrained"])
    assert (found.recordings, found.faults) == (2, ())
    # A table and its checksum are one object.
    assert found.objects == 2 * (len(stored_files(whole)) - len(WRITTEN))


def test_verify__one_flipped_bit_in_any_file_is_found(whole):
    for file in stored_files(whole):
        content = file.read_bytes()
        for place in {0, len(content) // 3, len(content) - 2}:
            damaged = bytearray(content)
            damaged[place] ^= 0x04
            file.write_bytes(damaged)
            assert faults(whole), (file, place)
        file.write_bytes(content)
    assert not faults(whole)


def test_verify__any_missing_file_is_found(whole):
    for file in stored_files(whole):
        content = file.read_bytes()
        file.unlink()
        assert faults(whole), file
        file.write_bytes(content)
    assert not faults(whole)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("channel_mean/c/1/0", "missing"),
        ("label/c/0", "missing"),
        ("receipts/shard-00001.json", "missing"),
        ("receipts/store.json", "missing"),
    ],
)
def test_verify__missing_object_is_named(key, problem, whole):
    file = Path(whole.recording("toy")) / key
    content = file.read_bytes()
    file.unlink()
    assert faults(whole) == {key: problem}
    file.write_bytes(content)


def test_verify__truncated_chunk_tells_the_sizes(whole):
    file = Path(whole.recording("toy")) / "pooled/c/0/0"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    size = len(content)
    assert faults(whole) == {"pooled/c/0/0": f"expected {size} bytes, found {size - 1}"}
    file.write_bytes(content)


def test_verify__flipped_bit_in_a_chunk_is_named_with_its_recording(whole):
    file = Path(whole.recording("toy")) / "logits/c/2/0"
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    (fault,) = verify(whole, ["untrained", "toy"]).faults
    assert (fault.recording, fault.object) == ("toy", "logits/c/2/0")
    assert fault.problem == "the content differs from its checksum"
    file.write_bytes(content)


def test_verify__unreadable_receipt_is_named_once(whole):
    file = Path(whole.recording("toy")) / "receipts/shard-00000.json"
    content = file.read_bytes()
    file.write_bytes(b"{")
    assert list(faults(whole)) == ["receipts/shard-00000.json"]
    file.write_bytes(content)


def test_verify__damaged_table_and_lost_table_are_named(whole):
    file = whole.tables / "units/recording=toy/units.parquet"
    key = "tables/units/recording=toy/units.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:-4] + b"PAR2")
    assert faults(whole) == {key: "the content differs from its sha256"}
    file.unlink()
    assert faults(whole) == {key: "missing"}
    file.write_bytes(content)
    assert faults(whole) == {}


def test_verify__incomplete_recording_says_how_far_it_is(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw(), complete=False)
    (recording.place.path / "receipts" / "shard-00002.json").unlink()
    found = verify(atlas, ["toy"])
    expected = "the recording is not complete: 50 images have receipts"
    assert [(each.name, each.problem) for each in found.unfinished] == [("toy", expected)]
    assert found.faults == ()


def test_verify__receipt_of_another_recording_is_named(atlas, make_raw, write_recording):
    write_recording(atlas, make_raw(), "other")
    recording = write_recording(atlas, make_raw(), complete=False)
    name = "receipts/shard-00000.json"
    shutil.copy(Path(atlas.recording("other")) / name, recording.place.path / name)
    assert faults(atlas)[name] == "the receipt belongs to another recording"


def test_verify__no_recording_is_a_fault_not_a_crash(atlas):
    assert "no recording at" in faults(atlas)["zarr.json"]


def test_names__atlas_without_recordings_names_the_folder(atlas):
    with pytest.raises(UserError, match=f"no recordings in {atlas.recordings}"):
        names_to_verify(atlas)


def test_names__prefixes_choose_and_one_that_fits_none_is_refused(whole):
    assert names_to_verify(whole) == ["toy", "untrained"]
    assert names_to_verify(whole, ["unt", "untr"]) == ["untrained"]
    with pytest.raises(UserError, match="no recording begins with 'x'"):
        names_to_verify(whole, ["toy", "x"])


def test_verify__tables_whose_recording_is_gone_are_checked(whole, tmp_path):
    root = tmp_path / "atlas"
    shutil.copytree(whole.root, root)
    copy = Atlas(root)
    shutil.rmtree(Path(copy.recording("toy")))
    assert names_to_verify(copy) == ["toy", "untrained"]
    found = verify(copy, names_to_verify(copy))
    assert (found.faults, found.tables_only) == ((), ("toy",))
    (copy.tables / "units/recording=toy/units.parquet").write_bytes(b"half")
    key = "tables/units/recording=toy/units.parquet"
    assert faults(copy) == {key: "the content differs from its sha256"}
    shutil.rmtree(copy.tables)
    assert names_to_verify(copy) == ["toy", "untrained"]
    assert faults(copy)[key] == "missing"


# --- objects in each other's places, and receipts of earlier versions -------------------------


def chunks_of(store):
    return [file for file in sorted(store.rglob("c/*")) if file.is_file()] + [
        file for file in sorted(store.rglob("c/*/*")) if file.is_file()
    ]


def swap(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def test_verify__any_two_chunks_in_each_others_places_are_found(whole):
    store = Path(whole.recording("toy"))
    files = chunks_of(store)
    contents = {file: file.read_bytes() for file in files}
    pairs = [
        (one, other)
        for place, one in enumerate(files)
        for other in files[place + 1 :]
        if len(contents[one]) == len(contents[other]) and contents[one] != contents[other]
    ]
    assert len(pairs) > 10
    arrays = [
        {one.relative_to(store).parts[0], other.relative_to(store).parts[0]} for one, other in pairs
    ]
    assert any(len(names) == 2 for names in arrays)  # of different arrays too
    for one, other in pairs:
        swap(one, other)
        found = faults(whole)
        swap(one, other)
        assert set(found) == {file.relative_to(store).as_posix() for file in (one, other)}


def test_verify__shards_of_two_recordings_in_each_others_places_are_found(whole):
    one, other = (Path(whole.recording(name)) for name in ("toy", "untrained"))
    key = "channel_mean/c/1/0"
    swap(one / key, other / key)
    found = verify(whole, ["toy", "untrained"]).faults
    assert [(each.recording, each.object) for each in found] == [("toy", key), ("untrained", key)]
    receipt = "receipts/shard-00001.json"
    swap(one / receipt, other / receipt)
    assert receipt in faults(whole, "toy")
    swap(one / receipt, other / receipt)
    swap(one / key, other / key)
    assert not faults(whole)


def test_verify__store_under_the_name_of_another_recording_is_found(
    atlas, make_raw, write_recording
):
    write_recording(atlas, make_raw(), "net-0123456789ab", fingerprint="0123456789ab" + "0" * 52)
    assert faults(atlas, "net-0123456789ab") == {}
    Path(atlas.recording("net-0123456789ab")).rename(atlas.recording("net-ba9876543210"))
    (problem,) = faults(atlas, "net-ba9876543210").values()
    assert "it was put in another's place" in problem


def earlier(receipt, place):
    """Return a receipt as earlier versions wrote it."""
    objects = []
    for each in receipt.objects:
        content = place.read(each.key)
        blocks = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
        crc32c = "".join(f"{google_crc32c.value(block):08x}" for block in blocks)
        objects.append(EarlierObject(each.key, each.size, crc32c))
    return sealed(receipt.model_copy(update={"objects": tuple(objects)}))


def test_verify__recordings_of_earlier_versions_are_read_and_said_to_be_checked_less(
    atlas, make_raw, write_recording
):
    place = write_recording(atlas, make_raw()).place
    assert verify(atlas, ["toy"]).checked_less == ()
    for receipt in read_receipts(place):
        key = f"receipts/{receipt_name(receipt.shard)}"
        place.write(key, earlier(receipt, place))
    place.write("receipts/store.json", earlier(read_store_receipt(place), place))
    place.write("receipts/final.json", earlier(read_final_receipt(place), place))
    found = verify(atlas, ["toy"])
    assert (found.faults, found.checked_less) == ((), ("toy",))
    opened = open_recording(atlas, "toy")
    assert opened.read("logits").shape[0] == opened.images
    for file in chunks_of(place.path):
        content = file.read_bytes()
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        assert faults(atlas), file
        file.write_bytes(content)


# --- beside writers ---------------------------------------------------------------------------


def test_verify__beside_recording_and_repairing_gives_no_false_alarm(tmp_path):
    atlas = Atlas(tmp_path / "atlas")
    place = place_at(atlas.recording("toy"))

    def write():
        for _ in range(4):
            make(place)
            drop_receipts(place, layout_of().shards())
        make(place)

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while writer.is_alive():
        if place.names():
            assert faults(atlas) == {}
            looks += 1
    writer.join()
    assert looks > 3
    found = verify(atlas, ["toy"])
    assert (found.faults, found.unfinished) == ((), ())


# --- what there is to verify ------------------------------------------------------------------


def test_names__address_of_the_recordings_that_holds_none_is_refused(whole, tmp_path):
    mistyped = Atlas(whole.root, str(tmp_path / "recordigns"))
    with pytest.raises(UserError, match=r"no recordings in .*recordigns: is the address right\?"):
        names_to_verify(mistyped)


def test_names__atlas_of_models_alone_is_verified(atlas):
    (atlas.models / "a").mkdir(parents=True)
    (atlas.models / "a" / "training.json").write_text("{}")
    assert names_to_verify(atlas) == []
