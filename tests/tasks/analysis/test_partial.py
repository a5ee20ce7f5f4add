"""Recordings of which shards are missing."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import IncompleteRecordingError, UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.selected import select
from activarium.tasks.reporting.report import write_report
from activarium.tasks.stores.recording import Recording, open_analysed, open_recording
from activarium.tasks.stores.recording_store import finalise

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=49, partial=True)
FIELDS = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
SHARD = 10


def take_away(place, shard):
    """Move a shard's receipt and chunks aside; return a function that puts them back."""
    files = [file for file in place.path.rglob("*.json") if f"{shard:05d}" in file.name]
    assert files
    for array in ("channel_mean", "channel_active", "pooled", "logits", "thumbnail", "valid"):
        chunk = place.path / array / "c" / str(shard)
        files += (
            [chunk] if chunk.is_file() else [each for each in chunk.rglob("*") if each.is_file()]
        )
    moved = [(file, file.read_bytes()) for file in files]
    for file in files:
        file.unlink()

    def put_back():
        for file, content in moved:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    return put_back


@pytest.fixture
def raw(make_raw):
    """Return the arrays of the recording: seven shards, invalid images in two of them."""
    return make_raw()


@pytest.fixture
def recording(atlas, raw, write_recording):
    """Return a recording that is not complete; every shard is there still."""
    return write_recording(atlas, raw, shard_images=SHARD, complete=False)


def only(raw, rows):
    names = [raw.image_names[row] for row in rows]

    class Taken(type(raw)):
        image_names = names

    return Taken(**{field: getattr(raw, field)[rows] for field in FIELDS})


def present(raw, *missing):
    return np.array([row for row in range(len(raw.label)) if row // SHARD not in missing])


def test_open_recording__names_the_missing_shards(atlas, recording):
    take_away(recording.place, 2)
    take_away(recording.place, 5)
    with pytest.raises(IncompleteRecordingError, match="2 of 7 shards are missing: 2, 5") as caught:
        open_recording(atlas, "toy")
    assert "activarium analyse --partial" in str(caught.value)
    assert open_recording(atlas, "toy", partial=True).name == "toy"
    take_away(recording.place, 3)
    with pytest.raises(IncompleteRecordingError, match=r"3 of 7 shards are missing: 2 to 3, 5\)"):
        open_recording(atlas, "toy")


def test_open_recording__that_only_lacks_its_end_says_that_all_shards_are_there(atlas, recording):
    assert recording.stored_rows.all()
    with pytest.raises(IncompleteRecordingError, match="all shards are there"):
        open_recording(atlas, "toy")


def test_analyse__partial_equals_a_recording_of_the_images_that_are_there(
    atlas, raw, recording, write_recording, stored
):
    take_away(recording.place, 2)
    take_away(recording.place, 5)
    receipt = analyse(atlas, open_recording(atlas, "toy", partial=True), config=CONFIG)
    assert any(
        "toy is not complete: 41 of its 61 images are analysed" in n for n in receipt.notices
    )
    analyse(atlas, write_recording(atlas, only(raw, present(raw, 2, 5)), "rest"), config=CONFIG)
    found, rest = stored(atlas), stored(atlas, "rest")
    for name in ("units", "unit_classes", "class_pairs", "depth_trends", "layers"):
        assert found.table(name).equals(rest.table(name)), name
    (row,), (other,) = (each.table("recordings").to_pylist() for each in (found, rest))
    assert row["is_partial"] is True
    assert other["is_partial"] is False
    assert row["images"] == 61
    assert row["analysed_images"] == other["analysed_images"] == 40
    assert row["invalid_images"] == other["invalid_images"] == 1
    assert row["accuracy"] == pytest.approx(other["accuracy"], rel=1e-12)
    shown = found.frame("exemplars").image_index
    assert not (set(shown) & {*range(20, 30), *range(50, 60)})


def test_report__partial_tables_have_a_page_but_a_damaged_complete_recording_is_refused(
    atlas, raw, recording, write_recording
):
    take_away(recording.place, 2)
    assert open_analysed(atlas, "toy").name == "toy"
    analyse(atlas, open_recording(atlas, "toy", partial=True), config=CONFIG)
    assert "toy" in write_report(atlas, ["toy"], name="partial").path.read_text("utf-8")
    damaged = write_recording(atlas, raw, "whole", shard_images=SHARD)
    take_away(damaged.place, 2)
    with pytest.raises(IncompleteRecordingError, match="1 of 7 shards are missing: 2"):
        open_analysed(atlas, "whole")


def test_analyse__partial_counts_no_missing_image_as_invalid(atlas, raw, recording, stored):
    take_away(recording.place, 0)
    assert not raw.valid[5]
    analyse(atlas, open_recording(atlas, "toy", partial=True), config=CONFIG)
    assert stored(atlas).frame("recordings").invalid_images.tolist() == [1]


def test_analyse__partial_with_a_condition_takes_stored_images_only(atlas, raw, recording, stored):
    take_away(recording.place, 2)
    config = CONFIG.model_copy(update={"where": "image_index < 30", "name": "first"})
    analyse(atlas, open_recording(atlas, "toy", partial=True), config=config)
    images = stored(atlas, "toy~first").frame("images").image_index.tolist()
    assert images == [row for row in range(20) if raw.valid[row]]


def test_analyse__arrived_shards_make_the_tables_anew(
    atlas, recording, stored, write_recording, raw
):
    first, second = take_away(recording.place, 2), take_away(recording.place, 5)

    def made():
        return analyse(atlas, open_recording(atlas, "toy", partial=True), config=CONFIG).made

    assert made()
    assert not made()
    first()
    assert made()
    second()
    assert made()
    finalise(recording.place)
    assert not made()
    assert stored(atlas).frame("recordings").is_partial.tolist() == [False]
    analyse(atlas, write_recording(atlas, raw, "whole"), config=CONFIG)
    for name in ("units", "layers", "class_pairs"):
        assert stored(atlas).table(name).equals(stored(atlas, "whole").table(name)), name


def test_analyse__other_shards_of_the_same_number_make_the_tables_anew(atlas, recording, stored):
    put_back = take_away(recording.place, 2)
    analyse(atlas, Recording(recording.place), config=CONFIG)
    put_back()
    take_away(recording.place, 4)
    assert analyse(atlas, Recording(recording.place), config=CONFIG).made
    assert not set(stored(atlas).frame("exemplars").image_index) & set(range(40, 50))


def test_analyse__complete_recording_needs_nothing_anew_for_partial(atlas, raw, write_recording):
    recording = write_recording(atlas, raw)
    assert analyse(atlas, recording, config=CONFIG).made
    whole = CONFIG.model_copy(update={"partial": False})
    assert not analyse(atlas, recording, config=whole).made


def test_select__partial_without_any_shard_says_so(recording):
    for shard in range(7):
        take_away(recording.place, shard)
    with pytest.raises(UserError, match="recording toy has no shard yet: run `activarium record`"):
        select(Recording(recording.place), CONFIG)


def test_select__partial_takes_valid_images_of_stored_shards(raw, recording):
    take_away(recording.place, 0)
    found = select(Recording(recording.place), CONFIG)
    assert sorted(found.chosen.row) == [row for row in range(10, 61) if raw.valid[row]]


def test_analyse__partial_does_not_look_at_shards_without_a_receipt(
    atlas, raw, recording, write_recording, stored
):
    (recording.place.path / "receipts" / "shard-00002.json").unlink()
    for key in ("logits/c/2/0", "valid/c/2", "channel_mean/c/2/0", "thumbnail/c/2/0/0/0"):
        content = recording.place.read(key)
        recording.place.write(key, content[: len(content) // 2])
    analyse(atlas, open_recording(atlas, "toy", partial=True), config=CONFIG)
    images = stored(atlas).frame("images")
    missing = images.image_index.between(20, 29)
    assert images[missing].predicted.isna().all()
    assert images[missing].confidence.isna().all()
    assert not images[missing].valid.any()
    analyse(atlas, write_recording(atlas, only(raw, present(raw, 2)), "rest"), config=CONFIG)
    rest = stored(atlas, "rest")
    columns = ["predicted", "correct", "confidence", "loss", "valid"]
    found = images.loc[~missing, columns].reset_index(drop=True)
    assert found.equals(rest.frame("images")[columns])
    (accuracy,), (expected,) = (each.frame("recordings").accuracy for each in (stored(atlas), rest))
    assert accuracy == pytest.approx(expected, rel=1e-12)
