"""Names of classes: told apart where two are alike, and their order."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig, RunConfig, TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.images.class_labels import class_codes_of
from activarium.tasks.images.class_names import distinct_names, in_order, text_order_note
from activarium.tasks.images.test_sets import load_test_set
from activarium.tasks.recording.checkpoints import choose_checkpoint, record_checkpoint
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.recording import open_recording


def encoded(value):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 10, 20)).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_two_classes_of_one_name__have_rows_of_their_own_in_every_table(tmp_path):
    """From files to tables, to a condition on images, and to a grouping of classes."""
    parquet(tmp_path / "set", ["crane", "dog", "crane"])
    atlas = Atlas(tmp_path / "atlas")
    config = RunConfig.model_validate(
        {
            "name": "run",
            "test_set": {"source": "parquet", "path": tmp_path / "set"},
            "preprocessing": {"size": 12},
            "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
            "record": {"device": "cpu", "threads": 1, "layers": ["conv1"]},
        }
    )
    receipt = record_checkpoint(atlas, config, choose_checkpoint(config.model))
    assert any("told apart" in notice for notice in receipt.notices)
    recording = open_recording(atlas, receipt.recording)

    def rows(table, **settings):
        settings = AnalyseConfig(scheduler="synchronous", permutations=0, **settings)
        files = analyse(atlas, recording, config=settings).files
        return [row for f in files if f.stem == table for row in read_table(f).to_pylist()]

    channel = [row for row in rows("unit_classes") if row["channel"] == 0]
    assert {row["class"]: row["n"] for row in channel} == {"crane": 2, "dog": 2, "crane (2)": 2}
    responses = recording.read("channel_mean")[:, 0].reshape(2, 3).mean(0)
    means = {row["class"]: row["response_mean"] for row in channel}
    np.testing.assert_allclose([means[n] for n in ("crane", "dog", "crane (2)")], responses, 1e-6)
    images = rows("images", where="class <> 'dog'")
    assert [row["class"] for row in images] == ["crane", "crane (2)"] * 2
    (tmp_path / "groups.csv").write_text("class,group\ncrane,bird\ncrane (2),machine\n")
    grouped = rows("unit_classes", classes=str(tmp_path / "groups.csv"))
    assert {row["class"]: row["n"] for row in grouped} == {"bird": 2, "machine": 2}


@given(st.lists(st.sampled_from(["a", "b", "a (2)", "a (3)", ""]), max_size=8))
def test_distinct_names__are_all_different_and_change_no_first_one(names):
    distinct = distinct_names(names)
    assert len(set(distinct)) == len(distinct) == len(names)
    for place, name in enumerate(names):
        if names.index(name) == place:
            assert distinct[place] == name
        else:
            assert distinct[place].startswith(f"{name} (")


def test_distinct_names__follow_from_the_names_alone():
    assert distinct_names(["crane", "dog", "crane", "crane"]) == (
        "crane",
        "dog",
        "crane (2)",
        "crane (3)",
    )
    assert distinct_names(["a (2)", "a", "a"]) == ("a (2)", "a", "a (3)")


def parquet(folder, names):
    folder.mkdir(exist_ok=True)
    rows = [encoded(number) for number in range(6)]
    table = pa.table({"image": rows, "label": [number % len(names) for number in range(6)]})
    feature = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(feature)})
    pq.write_table(table, folder / "test-00000-of-00001.parquet")
    return load_test_set(TestSetConfig(source="parquet", path=folder), datasets=folder)


def test_load__two_classes_of_one_name_are_told_apart_and_said(tmp_path):
    found = parquet(tmp_path / "two", ["crane", "dog", "crane"])
    assert found.class_names == ("crane", "dog", "crane (2)")
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.notes == ("classes of the same name are told apart: 1 of them became 'crane (2)'",)
    assert parquet(tmp_path / "one", ["crane", "dog", "cat"]).notes == ()


def test_codes__text_that_names_two_classes_is_refused():
    with pytest.raises(UserError, match=r"image 1 has the label 'crane', which is the name of two"):
        class_codes_of(["dog", "crane"], ["crane", "dog", "crane"], "set")
    assert class_codes_of([2, "dog"], ["crane", "dog", "crane"], "set").tolist() == [2, 1]


def test_in_order__natural_takes_numbers_by_size():
    names = {"10", "9", "1", "01", "b10", "b9", "b", "c1d2", "c1d10"}
    assert in_order(names, "natural") == (
        "01", "1", "9", "10", "b", "b9", "b10", "c1d2", "c1d10",
    )  # fmt: skip
    assert in_order(names, "text") == tuple(sorted(names))


@pytest.mark.parametrize(
    ("names", "outputs", "is_said"),
    [
        (tuple(sorted(str(n) for n in range(12))), 12, True),
        (tuple(sorted(f"class_{n}" for n in range(12))), 12, True),
        (tuple(sorted(str(n) for n in range(12))), 1000, False),
        (tuple(str(n) for n in range(12)), 12, False),
        (tuple(f"{n:02d}" for n in range(12)), 12, False),
        (("a1", "b10", "b2"), 3, False),
        (("cat", "dog"), 2, False),
        ((), 0, False),
    ],
)
def test_text_order__is_said_where_numbered_classes_are_as_many_as_outputs(names, outputs, is_said):
    assert bool(text_order_note(names, outputs)) == is_said
    if is_said:
        assert "test_set.class_order: natural" in text_order_note(names, outputs)[0]


def folder(path, names):
    for number, name in enumerate(names):
        (path / "test" / name).mkdir(parents=True)
        pixels = np.full((4, 4, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(path / "test" / name / f"{number}.png")
    return path


@pytest.mark.parametrize("order", ["text", "natural"])
def test_class_order__is_said_where_numbered_classes_are_recorded_as_text(tmp_path, order):
    path = folder(tmp_path / "set", ["1", "10", "2"])
    test_set = {"source": "imagefolder", "path": path, "class_order": order}
    model = {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"}
    record = {"device": "cpu", "threads": 1, "layers": ["conv1"]}
    config = RunConfig.model_validate(
        {"name": "run", "test_set": test_set, "model": model, "record": record}
    )
    receipt = record_checkpoint(Atlas(tmp_path), config, choose_checkpoint(config.model))
    said = [notice for notice in receipt.notices if "class_order: natural" in notice]
    assert len(said) == (order == "text")


def test_class_order__natural_gives_other_codes_and_another_identity(tmp_path):
    path = folder(tmp_path / "set", ["1", "10", "2"])
    text, natural = (
        load_test_set(
            TestSetConfig(source="imagefolder", path=path, class_order=order), datasets=path
        )
        for order in ("text", "natural")
    )
    assert text.class_names == ("1", "10", "2")
    assert natural.class_names == ("1", "2", "10")
    codes = dict(zip(natural.ids, natural.labels.tolist(), strict=True))
    assert codes == {"test/1/0.png": 0, "test/2/2.png": 1, "test/10/1.png": 2}
    assert text.identity != natural.identity


def test_class_order__belongs_to_sources_whose_classes_are_told_by_name():
    with pytest.raises(ValueError, match="class_order is a setting of the source imagefolder"):
        TestSetConfig(source="digits", class_order="natural")
