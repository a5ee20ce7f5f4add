"""What an atlas holds."""

from __future__ import annotations

import json
from pathlib import Path

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import WRITTEN, analyse
from activarium.tasks.reporting.listing import list_recordings

ANALYSE = AnalyseConfig(scheduler="synchronous")


def test_list__empty_atlas_is_an_empty_list(atlas):
    assert list_recordings(atlas) == []


def test_list__analysed_recording_tells_sizes_and_tables(analysed):
    first, second = list_recordings(analysed.atlas)
    assert (first["recording"], second["recording"]) == ("toy", "untrained")
    assert (first["status"], first["shards"]) == ("complete", 3)
    assert (first["images"], first["units"]) == (61, 20)
    assert 0 <= first["accuracy"] <= 1
    assert (first["model"], first["checkpoint"]) == ("toy", "toy")
    assert (first["test_set"], first["split"]) == ("made-up", "test")
    expected = {table.name for table in WRITTEN}
    assert set(first["tables"]) == expected


def test_list__recording_without_tables_has_no_accuracy(atlas, make_raw, write_recording):
    raw = make_raw()
    write_recording(atlas, raw, complete=False)
    (row,) = list_recordings(atlas)
    assert (row["status"], row["shards"]) == ("recording", 3)
    assert (row["images"], row["units"]) == raw.responses.shape
    assert (row["accuracy"], row["tables"]) == (None, [])


def test_list__recording_of_a_series_tells_its_step(atlas, make_raw, write_recording):
    write_recording(atlas, make_raw(), "alone")
    write_recording(atlas, make_raw(), "net-40", series="slow", step=40)
    found = [(row["recording"], row["series"], row["step"]) for row in list_recordings(atlas)]
    assert found == [("alone", None, None), ("net-40", "slow", 40)]


def test_list__damaged_recording_hides_no_other(atlas, make_raw, write_recording):
    for name in ("a", "b"):
        write_recording(atlas, make_raw(), name)
    (Path(atlas.recording("a")) / "zarr.json").write_text("{")
    (Path(atlas.recordings) / "c.zarr").mkdir()
    found = {row["recording"]: row["status"] for row in list_recordings(atlas)}
    assert found == {"a": "damaged", "b": "complete", "c": "damaged"}


def test_list__damaged_table_hides_no_other(atlas, make_raw, write_recording):
    for name in ("a", "b"):
        analyse(atlas, write_recording(atlas, make_raw(), name), config=ANALYSE)
    (atlas.tables / "recordings" / "recording=a" / "recordings.parquet").write_bytes(b"half")
    first, second = list_recordings(atlas)
    assert (first["status"], first["accuracy"]) == ("complete", None)
    assert second["accuracy"] is not None


def test_list__other_format_is_not_called_damaged(atlas, make_raw, write_recording):
    for name in ("a", "b", "c"):
        write_recording(atlas, make_raw(), name)
    for name, version in (("a", 999), ("b", None)):
        file = Path(atlas.recording(name)) / "zarr.json"
        metadata = json.loads(file.read_bytes())
        metadata["attributes"]["format_version"] = version
        file.write_text(json.dumps(metadata))
    found = {row["recording"]: row["status"] for row in list_recordings(atlas)}
    assert found == {"a": "other format", "b": "damaged", "c": "complete"}
