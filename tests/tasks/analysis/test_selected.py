"""Analyses of a selection: equal to those of a recording that holds nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import WRITTEN, analyse
from activarium.tasks.analysis.selected import (
    select,
    selection_text,
    table_name,
)

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=49, controls=("shuffle",))
WHERE = "correct AND confidence > 0.6"
FIELDS = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
SAME = ("units", "unit_classes", "class_pairs", "depth_trends", "layers")


def of(**settings):
    return CONFIG.model_copy(update=settings)


def only(raw, rows):
    """Return the arrays of a recording of some images, which keep their names."""
    names = [raw.image_names[row] for row in rows]

    class Taken(type(raw)):
        image_names = names

    kept = {
        field: None if getattr(raw, field) is None else getattr(raw, field)[rows]
        for field in FIELDS
    }
    return Taken(**kept, layers=raw.layers, class_names=raw.class_names)


def assert_same(found, expected, names=SAME):
    for name in names:
        assert found.table(name).equals(expected.table(name)), name


@pytest.fixture
def recording(atlas, analysed, write_recording):
    """Return a recording that may be selected from, without tables yet."""
    return write_recording(atlas, analysed.raw)


def test_analyse__condition_equals_a_recording_of_only_these_images(
    atlas, analysed, recording, write_recording, stored
):
    receipt = analyse(atlas, recording, config=of(where=WHERE, name="sure"))
    assert receipt.recording == "toy~sure"
    images = stored(analysed.atlas).frame("images")
    rows = np.flatnonzero(
        (images.correct.astype("boolean").fillna(value=False)) & (images.confidence > 0.6)
    )
    assert 5 < len(rows) < 40
    analyse(atlas, write_recording(atlas, only(analysed.raw, rows), "only"), config=CONFIG)
    sure, alone = stored(atlas, "toy~sure"), stored(atlas, "only")
    assert_same(sure, alone)
    assert sure.frame("images").image_index.tolist() == rows.tolist()
    for table, key in (("exemplars", "image_index"), ("images", "image_index")):
        found = sure.frame(table)
        expected = alone.frame(table)
        expected[key] = rows[expected[key]]
        assert found.equals(expected), table


def test_analyse__selection_leaves_the_tables_of_the_whole_recording_alone(atlas, recording):
    before = {
        file: (file.stat().st_ino, file.read_bytes())
        for file in analyse(atlas, recording, config=CONFIG).files
    }
    found = analyse(atlas, recording, config=of(where=WHERE, name="sure"))
    assert not set(found.files) & set(before)
    assert {file: (file.stat().st_ino, file.read_bytes()) for file in before} == before
    assert not analyse(atlas, recording, config=CONFIG).made


def test_analyse__selection_without_a_name_has_its_fingerprint(atlas, recording):
    first = analyse(atlas, recording, config=of(where=WHERE))
    other = analyse(atlas, recording, config=of(where="confidence > 0.5"))
    assert re.fullmatch(r"toy~[0-9a-f]{8}", first.recording)
    assert re.fullmatch(r"toy~[0-9a-f]{8}", other.recording)
    assert first.recording != other.recording
    assert all(f"recording={first.recording}" in str(file) for file in first.files)
    assert not analyse(atlas, recording, config=of(where=WHERE)).made


def test_analyse__same_name_for_another_selection_makes_the_tables_anew(atlas, recording, stored):
    analyse(atlas, recording, config=of(where=WHERE, name="mine"))
    assert analyse(atlas, recording, config=of(where="confidence > 0.5", name="mine")).made
    (row,) = stored(atlas, "toy~mine").table("recordings").to_pylist()
    assert json.loads(row["selection"]) == {"where": "confidence > 0.5"}


def test_analyse__same_name_for_a_number_leaves_no_table_of_the_classes(atlas, recording):
    by_class = analyse(atlas, recording, config=of(where=WHERE, name="mine"))
    by_number = analyse(atlas, recording, config=of(target="confidence", name="mine"))
    present = [file for file in by_class.files if file.exists()]
    assert set(present) <= set(by_number.files)
    assert analyse(atlas, recording, config=of(where=WHERE, name="mine")).made
    assert not list((atlas.tables / "unit_targets").rglob("*.parquet"))
    assert not list((atlas.checksums / "unit_targets").rglob("*.sha256"))


def test_recordings__selection_is_told_as_json(atlas, recording, stored):
    analyse(atlas, recording, config=of(where=WHERE, name="sure"))
    (row,) = stored(atlas, "toy~sure").table("recordings").to_pylist()
    assert row["selection_of"] == "toy"
    assert json.loads(row["selection"]) == {"where": WHERE}
    assert row["images"] == 61
    assert row["analysed_images"] == stored(atlas, "toy~sure").table("images").num_rows
    assert row["accuracy"] == 1
    assert row["is_partial"] is False


def test_recordings__whole_recording_is_no_selection(toy):
    (row,) = toy.table("recordings").to_pylist()
    assert row["selection_of"] is None
    assert row["selection"] is None
    assert row["analysed_images"] == 59


@pytest.fixture
def groups(tmp_path):
    """Return a file that puts three of the five classes into two groups."""
    path = tmp_path / "groups.csv"
    path.write_text("class,group\nbee,insect\ncat's,mammal\nant,insect\n", encoding="utf-8")
    return path


def test_analyse__grouped_classes_equal_a_recording_with_those_labels(
    atlas, analysed, recording, write_recording, stored, groups
):
    receipt = analyse(atlas, recording, config=of(classes=str(groups), name="kinds"))
    assert receipt.notices == ("classes without a group are left out: dodo, eel",)
    label = np.array([0, 0, 1, -1, -1, -1])[analysed.raw.label]
    rows = np.flatnonzero((label >= 0) & analysed.raw.valid)
    raw = replace(analysed.raw, label=label.astype(np.int32), class_names=("insect", "mammal"))
    analyse(atlas, write_recording(atlas, only(raw, rows), "grouped"), config=CONFIG)
    found = stored(atlas, "toy~kinds")
    assert_same(found, stored(atlas, "grouped"))
    images = found.frame("images")
    assert images["class"].tolist() == [raw.class_names[label[row]] for row in rows]
    assert images.label.tolist() == label[rows].tolist()
    (row,) = found.table("recordings").to_pylist()
    digest = hashlib.sha256(groups.read_bytes()).hexdigest()[:16]
    assert json.loads(row["selection"]) == {"classes": f"groups.csv (sha256 {digest})"}
    assert row["classes"] == 2


def test_analyse__grouping_keeps_what_the_model_answered(
    atlas, analysed, recording, stored, groups
):
    analyse(atlas, recording, config=of(classes=str(groups), name="kinds"))
    whole = stored(analysed.atlas).frame("images").set_index("image_index")
    found = stored(atlas, "toy~kinds").frame("images").set_index("image_index")
    for column in ("predicted", "correct", "confidence", "loss"):
        assert found[column].tolist() == whole[column].loc[found.index].tolist(), column


def test_analyse__changed_file_of_groups_is_another_selection(atlas, recording, groups):
    first = analyse(atlas, recording, config=of(classes=str(groups)))
    groups.write_text("class,group\nbee,a\nant,b\n", encoding="utf-8")
    second = analyse(atlas, recording, config=of(classes=str(groups)))
    assert first.recording != second.recording


def test_analyse__condition_and_groups_hold_together(atlas, analysed, recording, stored, groups):
    config = of(classes=str(groups), where="\"class\" != 'bee' AND image_index < 40", name="both")
    analyse(atlas, recording, config=config)
    images = stored(atlas, "toy~both").frame("images")
    label = analysed.raw.label
    expected = [row for row in range(40) if analysed.raw.valid[row] and label[row] in {0, 2}]
    assert images.image_index.tolist() == expected
    assert set(images["class"]) == {"insect", "mammal"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"where": "confidence >"}, r"--where 'confidence >'"),
        ({"where": "confidense > 0.5"}, "confidense"),
        ({"where": "confidence > 2"}, "selects none of the 61 images"),
        ({"where": "NOT valid"}, "leaves no image of recording toy that could be decoded"),
        ({"classes": "nowhere.csv"}, r"nowhere\.csv: cannot be read"),
        ({"target": "confidense"}, "did you mean 'confidence'"),
        ({"target": "image"}, "expected a column of numbers"),
        ({"target": "correct", "where": "correct"}, "same number 1"),
        ({"target": "confidence", "where": "image_index < 2"}, "at least 3 images, got 2"),
    ],
)
def test_analyse__selection_that_does_not_fit_is_one_line(settings, message, atlas, recording):
    with pytest.raises(UserError, match=message) as caught:
        analyse(atlas, recording, config=of(**settings))
    assert "\n" not in str(caught.value)
    assert not list(atlas.tables.rglob("*.parquet"))


def test_select__whole_recording_keeps_rows_of_images_that_could_not_be_decoded(analysed):
    found = select(analysed.recording, CONFIG)
    assert len(found.images["image_index"]) == 61
    assert sorted(found.chosen.row) == np.flatnonzero(analysed.raw.valid).tolist()
    assert (found.name, found.text, found.target) == ("toy", None, None)


def test_selection_text__holds_the_content_of_files_and_not_their_place(tmp_path, groups):
    copy = tmp_path / "elsewhere" / "groups.csv"
    copy.parent.mkdir()
    copy.write_bytes(groups.read_bytes())
    first, second = (selection_text(of(classes=str(path))) for path in (groups, copy))
    assert first == second
    assert table_name("toy", of(classes=str(copy), name="a")) == "toy~a"


def test_selection_text__column_wins_over_a_file_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = selection_text(of(target="confidence"))
    (tmp_path / "confidence").write_text("image,x\n", encoding="utf-8")
    assert selection_text(of(target="confidence")) == text


def test_selection_text__file_of_groups_may_be_named_like_a_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "label").write_text("class,group\nant,a\n", encoding="utf-8")
    assert "sha256" in selection_text(of(classes="label"))


def test_written__every_table_of_classes_is_made(atlas, recording):
    files = analyse(atlas, recording, config=of(where=WHERE)).files
    assert [file.stem for file in files] == [table.name for table in WRITTEN]
    assert all(file.exists() for file in files)
