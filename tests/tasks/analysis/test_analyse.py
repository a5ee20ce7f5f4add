"""Analysis of whole recordings: awkward ones, repeated ones and interrupted ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis import analyse as module
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.analyse_command import analyse_command
from activarium.tasks.analysis.merging import Parts

SYNCHRONOUS = AnalyseConfig(scheduler="synchronous")


def assert_same_tables(first, second):
    for name, table in first.items():
        assert table.equals(second[name]), name


def test_recordings__row_describes_the_recording(toy):
    row, images = toy.table("recordings").to_pylist()[0], toy.frame("images")
    assert row["images"] == 61
    assert row["invalid_images"] == 2
    assert (row["classes"], row["layers"], row["units"], row["features"]) == (5, 3, 20, 40)
    assert row["accuracy"] == pytest.approx(images.correct.dropna().astype(float).mean())
    chunks = [
        file
        for name in ("channel_mean", "channel_active", "pooled", "logits", "thumbnail", "valid")
        for file in (toy.path / name / "c").rglob("*")
        if file.is_file()
    ]
    assert row["stored_bytes"] == sum(file.stat().st_size for file in chunks)
    assert row["seconds"] == 3.0
    assert row["device"] == "cpu"
    assert json.loads(row["preprocessing"]) == {"size": 8, "mean": [0.5]}


def test_analyse__does_not_depend_on_the_block_size(
    atlas, write_recording, monkeypatch, stored, wide
):
    recording = write_recording(atlas, wide)
    analyse(atlas, recording, config=SYNCHRONOUS)
    first = stored(atlas).tables()
    for size in (101, 300):
        monkeypatch.setattr(module, "BLOCK_UNITS", size)
        atlas.table_file(module.UNITS, "toy").unlink()
        assert analyse(atlas, recording, config=SYNCHRONOUS).made
        second = stored(atlas).tables()
        # Exemplars are kept block by block.
        keys = [(name, "ascending") for name in ("unit", "extreme", "class", "exemplar_rank")]
        for tables in (first, second):
            tables["exemplars"] = tables["exemplars"].sort_by(keys)
        assert_same_tables(first, second)


def test_analyse__compression_and_shards_change_nothing(atlas, analysed, write_recording, stored):
    packed = write_recording(atlas, analysed.raw, shard_images=61, compression="zstd")
    config = AnalyseConfig(scheduler="synchronous", fdr=0.05, knn_queries=20)
    analyse(atlas, packed, config=config)
    expected, found = stored(analysed.atlas).tables(), stored(atlas).tables()
    for name in ("units", "unit_classes", "exemplars", "layers", "images"):
        assert found[name].equals(expected[name]), name


def test_analyse__unlabelled_recording_has_null_class_statistics(
    atlas, make_raw, write_recording, stored
):
    raw = make_raw()
    unlabelled = replace(raw, label=np.full_like(raw.label, -1))
    analyse(atlas, write_recording(atlas, unlabelled), config=SYNCHRONOUS)
    tables = stored(atlas).tables()
    units = tables["units"]
    for column in ("preferred_class", "selectivity", "auroc", "anova_p", "kruskal_h", "q_value"):
        assert units.column(column).null_count == 20, column
    assert units.column("response_mean").null_count == 0
    assert tables["unit_classes"].num_rows == 0
    assert set(tables["exemplars"].column("class").to_pylist()) == {None}
    assert tables["layers"].column("knn_purity").null_count == 3
    assert set(tables["layers"].column("knn_queries").to_pylist()) == {0}
    assert tables["layers"].column("selective_fraction").null_count == 3
    assert tables["recordings"].column("accuracy").to_pylist() == [None]
    assert tables["images"].column("correct").null_count == 61


def test_analyse__no_classes_at_all(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    label = np.full_like(raw.label, -1)
    analyse(
        atlas, write_recording(atlas, replace(raw, label=label, class_names=())), config=SYNCHRONOUS
    )
    tables = stored(atlas).tables()
    assert tables["units"].column("auroc").null_count == 20
    assert tables["images"].column("predicted").null_count == 61


def test_analyse__one_class_is_nothing_to_tell_apart(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    one = replace(raw, label=np.zeros_like(raw.label), class_names=("only",))
    analyse(atlas, write_recording(atlas, one), config=SYNCHRONOUS)
    units = stored(atlas).frame("units")
    for column in ("kruskal_p", "anova_p", "auroc", "selectivity", "preferred_class"):
        assert units[column].isna().all(), column


def test_analyse__constant_units_give_defined_results(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    responses = np.where(raw.valid[:, None], np.float32(2.5), np.float32(np.nan))
    constant = replace(raw, responses=np.repeat(responses, 20, axis=1))
    analyse(atlas, write_recording(atlas, constant), config=SYNCHRONOUS)
    store = stored(atlas)
    units, layers = store.frame("units"), store.table("layers")
    assert units.is_dead.all()
    assert (units.q_value == 1).all()
    assert (units.eta2 == 0).all()
    assert set(layers.column("dead_fraction").to_pylist()) == {1.0}
    assert layers.column("effective_dimension").null_count == 3


def test_analyse__without_the_active_fraction_it_is_null(atlas, make_raw, write_recording, stored):
    recording = write_recording(atlas, replace(make_raw(), active=None))
    analyse(atlas, recording, config=SYNCHRONOUS)
    units = stored(atlas).tables()["units"]
    assert units.column("active_fraction").null_count == 20
    assert sum(units.column("is_dead").to_pylist()) == 2


def test_analyse__another_number_of_outputs_gives_no_predictions(
    atlas, make_raw, write_recording, stored
):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, logits=np.repeat(raw.logits, 2, axis=1)))
    analyse(atlas, recording, config=SYNCHRONOUS)
    images = stored(atlas).tables()["images"]
    for column in ("predicted", "correct", "loss"):
        assert images.column(column).null_count == 61, column
    assert images.column("confidence").null_count == 2


def test_analyse__invalid_images_change_no_statistic(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    kept = np.flatnonzero(raw.valid)
    names = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
    clean = replace(raw, **{name: getattr(raw, name)[kept] for name in names})
    analyse(atlas, write_recording(atlas, raw), config=SYNCHRONOUS)
    analyse(atlas, write_recording(atlas, clean, "clean"), config=SYNCHRONOUS)
    with_invalid, without = stored(atlas).tables(), stored(atlas, "clean").tables()
    for name in ("units", "unit_classes", "layers"):
        assert with_invalid[name].equals(without[name]), name


def test_analyse__no_valid_image_is_an_error_that_says_so(atlas, make_raw, write_recording):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, valid=np.zeros_like(raw.valid)))
    with pytest.raises(UserError, match="recording toy has no image that could be decoded"):
        analyse(atlas, recording, config=SYNCHRONOUS)


def test_analyse__missing_chunk_is_an_error_that_names_it(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    (recording.place.path / "channel_mean" / "c" / "1" / "0").unlink()
    with pytest.raises(UserError, match="channel_mean lacks values"):
        analyse(atlas, recording, config=SYNCHRONOUS)


def test_analyse__flipped_bit_is_an_error_that_names_the_array(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    chunk = recording.place.path / "channel_mean" / "c" / "1" / "0"
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(UserError, match=r"toy\.zarr/channel_mean cannot be read"):
        analyse(atlas, recording, config=SYNCHRONOUS)


def test_analyse__second_time_makes_nothing_anew(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    first = analyse(atlas, recording, config=SYNCHRONOUS)
    before = [path.stat().st_mtime_ns for path in first.files]
    again = analyse(atlas, recording, config=AnalyseConfig(scheduler="threads"))
    assert (first.made, again.made) == (True, False)
    assert again.files == first.files
    assert [path.stat().st_mtime_ns for path in again.files] == before
    assert not list(atlas.work.glob("*"))


@pytest.mark.parametrize(
    "change", [{"fdr": 0.2}, {"exemplars": 2}, {"class_exemplars": 0}, {"knn_neighbours": 3}]
)
def test_analyse__changed_setting_makes_the_tables_anew(change, atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    first = analyse(atlas, recording, config=SYNCHRONOUS)
    before = {path: path.stat().st_ino for path in first.files}
    again = analyse(atlas, recording, config=SYNCHRONOUS.model_copy(update=change))
    assert again.made
    assert all(path.stat().st_ino != before[path] for path in again.files)


def test_analyse__killed_analysis_goes_on_from_its_blocks(
    atlas, write_recording, monkeypatch, stored, wide
):
    recording = write_recording(atlas, wide)
    other = Atlas(atlas.root / "other")
    analyse(other, write_recording(other, wide), config=SYNCHRONOUS)
    expected = stored(other).tables()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "Parts", killed)
        with pytest.raises(KeyboardInterrupt):
            analyse(atlas, recording, config=SYNCHRONOUS)
    (work,) = atlas.work.iterdir()
    parts = sorted(work.iterdir())
    lost = next(part for part in parts if part.name.startswith("units-0000000"))
    lost.unlink()
    (work / f".{lost.name}.12345678.partial").write_bytes(b"half")
    kept = {part: part.stat().st_mtime_ns for part in parts if "-0000000-" not in part.name}
    seen = {}

    def watched(*given):
        seen.update({part: part.stat().st_mtime_ns for part in kept})
        return Parts(*given)

    monkeypatch.setattr(module, "Parts", watched)
    assert analyse(atlas, recording, config=SYNCHRONOUS).made
    assert len(kept) > 4
    del kept[work / "choice.npz"], seen[work / "choice.npz"]
    assert seen == kept
    assert_same_tables(expected, stored(atlas).tables())
    assert not work.exists()


def test_analyse__one_missing_table_is_made_again(atlas, make_raw, write_recording, stored):
    recording = write_recording(atlas, make_raw())
    files = analyse(atlas, recording, config=SYNCHRONOUS).files
    expected = stored(atlas).tables()
    files[0].unlink()
    assert analyse(atlas, recording, config=SYNCHRONOUS).made
    assert_same_tables(expected, stored(atlas).tables())


def test_analyse_command__names_what_differs_from_the_usual():
    config = AnalyseConfig(
        fdr=0.05, where="correct and valid", name="sure", controls=("shuffle",), partial=True
    )
    assert analyse_command("toy", AnalyseConfig(bins=5)) == "activarium analyse toy"
    assert analyse_command("toy", config) == (
        "activarium analyse toy --control shuffle --fdr 0.05 --where 'correct and valid' "
        "--name sure --partial"
    )
