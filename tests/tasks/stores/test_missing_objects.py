"""Recordings of which an object is missing, or a receipt: Zarr would read fill values."""

from __future__ import annotations

import pytest

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import IncompleteRecordingError, UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.stores.recording import open_recording

CHUNKS = (
    "label/c/0",
    "class/c/0",
    "image/c/0",
    "layer_size/c/0",
    "valid/c/1",
    "logits/c/1/0",
    "channel_mean/c/0/0",
    "thumbnail/c/2/0/0/0",
    "unit_layer/zarr.json",
    "receipts/store.json",
    "receipts/final.json",
)
CONFIG = AnalyseConfig(scheduler="synchronous", permutations=0, partial=True)


@pytest.fixture
def recording(atlas, make_raw, write_recording):
    """Return a complete recording of three shards."""
    return write_recording(atlas, make_raw())


@pytest.mark.parametrize("key", CHUNKS)
def test_open_recording__missing_object_is_named(key, atlas, recording):
    recording.place.delete(key)
    assert recording.place.size(key) is None
    with pytest.raises(UserError, match=rf"toy\.zarr/{key} is missing: .*--repair") as caught:
        open_recording(atlas, "toy")
    assert "\n" not in str(caught.value)


def test_open_recording__missing_object_is_named_for_a_partial_analysis_too(atlas, recording):
    recording.place.delete("valid/c/1")
    with pytest.raises(UserError, match="valid/c/1 is missing"):
        open_recording(atlas, "toy", partial=True)


def test_open_recording__object_cut_off_is_named(atlas, recording):
    content = recording.place.read("label/c/0")
    recording.place.write("label/c/0", content[:-1])
    size = len(content)
    with pytest.raises(UserError, match=rf"label/c/0 has {size - 1} bytes, not {size}: "):
        open_recording(atlas, "toy")


def test_open_recording__complete_recording_without_a_receipt_is_refused(atlas, recording):
    recording.place.delete("receipts/shard-00001.json")
    with pytest.raises(IncompleteRecordingError, match=r"1 of 3 shards are missing: 1\)") as caught:
        open_recording(atlas, "toy")
    assert "record --repair" in str(caught.value)


def test_open_recording__receipt_of_another_recording_does_not_count(
    atlas, recording, make_raw, write_recording
):
    other = write_recording(atlas, make_raw(), "other")
    key = "receipts/shard-00002.json"
    recording.place.write(key, other.place.read(key))
    with pytest.raises(IncompleteRecordingError, match=r"1 of 3 shards are missing: 2\)"):
        open_recording(atlas, "toy")


def test_analyse__current_tables_do_not_hide_a_lost_receipt(atlas, recording):
    assert analyse(atlas, open_recording(atlas, "toy"), config=CONFIG).made
    recording.place.delete("receipts/shard-00001.json")
    found = open_recording(atlas, "toy", partial=True)
    assert (~found.stored_rows).nonzero()[0].tolist() == list(range(25, 50))
    assert analyse(atlas, found, config=CONFIG).made
