"""What must not matter to the tables: storage, blocks, order of images, names of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis import analyse as module
from activarium.tasks.analysis import layer_pairs
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.features import stored_rows

CONFIG = AnalyseConfig(
    scheduler="synchronous",
    permutations=49,
    controls=("shuffle",),
    top_images=10,
    sample_images=30,
    knn_images=40,
    knn_queries=20,
)
FIELDS = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
MEASURED = ("units", "unit_classes", "class_pairs", "depth_trends", "layers")


def assert_close(found, expected, name):
    """Compare two tables: text and whole numbers exactly, numbers to 1e-9."""
    assert found.num_rows == expected.num_rows, name
    for field in expected.schema:
        one, other = found.column(field.name), expected.column(field.name)
        if not pa.types.is_floating(field.type):
            assert one.to_pylist() == other.to_pylist(), (name, field.name)
            continue
        np.testing.assert_allclose(
            one.to_numpy(), other.to_numpy(), rtol=1e-9, atol=1e-9, err_msg=f"{name}.{field.name}"
        )


@pytest.fixture(scope="module")
def expected(tmp_path_factory, analysed, write_recording, stored):
    """Return the tables of the recording as it is."""
    atlas = Atlas(tmp_path_factory.mktemp("expected"))
    analyse(atlas, write_recording(atlas, analysed.raw), config=CONFIG)
    return stored(atlas).tables()


def reordered(raw, order):
    names = [raw.image_names[row] for row in order]

    class Moved(type(raw)):
        image_names = names

    return Moved(**{field: getattr(raw, field)[order] for field in FIELDS})


@pytest.mark.parametrize(("shard_images", "compression"), [(7, "none"), (61, "zstd"), (10, "zstd")])
def test_tables__storage_changes_no_bit(
    shard_images, compression, atlas, analysed, write_recording, stored, expected
):
    recording = write_recording(
        atlas, analysed.raw, shard_images=shard_images, compression=compression
    )
    analyse(atlas, recording, config=CONFIG)
    found = stored(atlas).tables()
    for name in (*MEASURED, "exemplars", "images"):
        assert found[name].equals(expected[name]), name


@pytest.mark.parametrize("size", [1, 7, 19])
def test_tables__block_size_changes_no_bit(
    size, atlas, analysed, write_recording, stored, expected, monkeypatch
):
    monkeypatch.setattr(module, "BLOCK_UNITS", size)
    monkeypatch.setattr(layer_pairs, "BLOCK_UNITS", size)
    analyse(atlas, write_recording(atlas, analysed.raw), config=CONFIG)
    found = stored(atlas).tables()
    for name in MEASURED:
        assert found[name].equals(expected[name]), name


def test_tables__layer_too_large_for_memory_changes_nothing(
    atlas, analysed, write_recording, stored, expected, monkeypatch
):
    monkeypatch.setattr(stored_rows, "MOST_BYTES", 0)
    analyse(atlas, write_recording(atlas, analysed.raw, shard_images=9), config=CONFIG)
    assert stored(atlas).table("layers").equals(expected["layers"])


@pytest.mark.parametrize("most_bytes", [0, 2**28])
def test_tables__order_of_the_recording_changes_nothing(
    most_bytes, atlas, analysed, write_recording, stored, expected, monkeypatch
):
    monkeypatch.setattr(stored_rows, "MOST_BYTES", most_bytes)
    order = np.random.default_rng(1).permutation(61)
    recording = write_recording(atlas, reordered(analysed.raw, order), shard_images=8)
    analyse(atlas, recording, config=CONFIG)
    found = stored(atlas).tables()
    for name in MEASURED:
        assert_close(found[name], expected[name], name)


def test_tables__renamed_classes_only_rename(atlas, analysed, write_recording, stored, expected):
    raw = analysed.raw
    # The lower code wins where class means are equal, which this order keeps.
    names = tuple(f"kind {name}" for name in raw.class_names)
    analyse(atlas, write_recording(atlas, replace(raw, class_names=names)), config=CONFIG)
    found = stored(atlas).tables()
    for name in ("layers", "depth_trends"):
        assert found[name].equals(expected[name]), name
    columns = {
        "units": [
            "preferred_class", "runner_up_class", "auroc_class", "top_class",
            "average_precision_class", "suppressed_class", "strongest_class",
        ]
    }  # fmt: skip
    for name in ("units", "unit_classes", "class_pairs"):
        text = columns.get(name, ["class", "other_class"])
        one, other = found[name].to_pandas(), expected[name].to_pandas()
        for column in set(text) & set(one):
            one[column] = one[column].str.removeprefix("kind ")
        keys = [column for column in ("layer", "channel", "class", "other_class") if column in one]
        assert one.sort_values(keys).equals(other.sort_values(keys)), name


@pytest.mark.parametrize("codes", [(4, 3, 2, 1, 0), (2, 4, 0, 3, 1)])
def test_tables__renumbered_classes_change_no_number(
    codes, atlas, analysed, write_recording, stored, expected
):
    raw = analysed.raw
    code = np.array([*codes, -1], np.int32)
    names = tuple(raw.class_names[old] for old in np.argsort(codes))
    # The model's outputs are in the order of the classes too.
    logits = raw.logits[:, np.argsort(codes)]
    moved = replace(raw, label=code[raw.label], class_names=names, logits=logits)
    analyse(atlas, write_recording(atlas, moved), config=CONFIG)
    found = stored(atlas).tables()
    for name in ("units", "layers", "depth_trends"):
        assert_close(found[name], expected[name], name)
    one, other = (
        each["unit_classes"].sort_by([("unit", "ascending"), ("class", "ascending")])
        for each in (found, expected)
    )
    assert_close(one, other, "unit_classes")
    assert_close(
        pairs_by_name(found["class_pairs"]), pairs_by_name(expected["class_pairs"]), "class_pairs"
    )
    images, before = (each["images"].drop_columns("label") for each in (found, expected))
    assert_close(images, before, "images")


def pairs_by_name(table):
    """Return the rows with both classes of each pair in order of their names."""
    frame = table.to_pandas()
    ends = np.sort(frame[["class", "other_class"]].to_numpy(str), axis=1)
    frame["class"], frame["other_class"] = ends[:, 0], ends[:, 1]
    frame = frame.sort_values(["depth", "class", "other_class"])
    return pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False)


def test_tables__seed_moves_only_what_is_drawn(atlas, analysed, write_recording, stored, expected):
    config = CONFIG.model_copy(update={"seed": 1})
    analyse(atlas, write_recording(atlas, analysed.raw), config=config)
    found = stored(atlas).tables()
    # The q-values of sparse units rest on permutations.
    of_units = {"permutation_p", "fwer_p", "q_value", "q_log10", "by_q_value"}
    # Halves of the images are drawn.
    of_units |= {"average_precision_crossfit", "crossfit_gain", "auroc_crossfit"}
    of_units |= {"class_agreement", "preferred_p"}
    drawn = {"units": of_units, "unit_classes": set(), "class_pairs": set()}
    for name, columns in drawn.items():
        kept = [each for each in expected[name].column_names if each not in columns]
        assert found[name].select(kept).equals(expected[name].select(kept)), name
    p = [tables["units"].column("permutation_p") for tables in (found, expected)]
    assert not p[0].equals(p[1])
    for column in ("anosim_r", "eta2_mean_shuffled"):
        assert not found["layers"].column(column).equals(expected["layers"].column(column)), column
    for column in ("permanova_f", "probe_accuracy", "eta2_mean", "within_similarity"):
        assert found["layers"].column(column).equals(expected["layers"].column(column)), column
