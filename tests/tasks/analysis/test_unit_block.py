"""One block of units: what is read, kept aside and not repeated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import feather

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.chosen_images import arrange_images
from activarium.tasks.analysis.names import coded, named
from activarium.tasks.analysis.unit_block import (
    CHOICE,
    PARTS,
    Block,
    analyse_block,
    block_tables,
    read_block,
)

BLOCK = Block(4, 11)
CONFIG = AnalyseConfig(exemplars=3, class_exemplars=2, permutations=19)


def choice(recording, label=None):
    label = recording.labels if label is None else label
    return arrange_images(
        recording.valid, label, recording.image_names, recording.class_names, seed=0
    )


def block_of(recording, block=BLOCK, label=None):
    return read_block(recording, block, choice(recording, label))


def test_read_block__holds_the_valid_images_of_its_columns_by_class_and_id(analysed):
    data, raw = block_of(analysed.recording), analysed.raw
    rows = data.chosen.row
    np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(raw.valid))
    labels = raw.label[rows]
    keys = list(zip(np.where(labels < 0, 99, labels), np.array(raw.image_names)[rows], strict=True))
    assert keys == sorted(keys)
    assert data.chosen.code.tolist() == labels[labels >= 0].tolist()
    np.testing.assert_array_equal(data.responses, raw.responses[rows][:, 4:11].T)
    expected = raw.active[raw.valid][:, 4:11].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(data.active_fraction, expected, rtol=1e-12)
    assert data.unit == ["conv1/4", "conv1/5", *(f"layer1.0/{channel}" for channel in range(5))]
    assert data.depth.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert data.feeds_relu.tolist() == [True, True, False, False, False, False, False]


@pytest.mark.parametrize("array", ["channel_mean", "channel_active"])
def test_read_block__missing_chunk_names_the_array(array, atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    (recording.place.path / array / "c" / "0" / "0").unlink()
    with pytest.raises(UserError, match=rf"toy\.zarr/{array} lacks values"):
        block_of(recording)


def as_text(table):
    """Return a frame with names in place of codes: one unit has fewer names than all have."""
    coded_columns = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    return table.to_pandas().astype(dict.fromkeys(coded_columns, str))


def test_block_tables__units_are_independent_of_one_another(analysed):
    whole = block_tables(block_of(analysed.recording), CONFIG)
    for unit in range(BLOCK.start, BLOCK.stop):
        own = block_tables(block_of(analysed.recording, Block(unit, unit + 1)), CONFIG)
        for name, columns in own.items():
            rows = pa.table(whole[name]).filter(pc.field("unit") == own["units"]["unit"][0])
            assert as_text(rows).equals(as_text(pa.table(columns))), (name, unit)


def test_block_tables__order_of_images_changes_no_bit(analysed, atlas, write_recording):
    raw = analysed.raw
    order = np.random.default_rng(0).permutation(len(raw.label))

    class Moved(type(raw)):
        @property
        def image_names(self):
            return [raw.image_names[index] for index in order]

    fields = {name: getattr(raw, name)[order] for name in
              ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")}  # fmt: skip
    moved = write_recording(atlas, Moved(**fields))
    first, second = (block_tables(block_of(each), CONFIG) for each in (analysed.recording, moved))
    for table in ("units", "unit_classes"):
        for name, values in first[table].items():
            if np.asarray(values).dtype.kind == "f" and name != "active_fraction":
                np.testing.assert_array_equal(second[table][name], values, err_msg=name)


def test_block_tables__swapped_classes_swap_their_rows(analysed):
    recording = analysed.recording
    swap = np.array([1, 0, 2, 3, 4, -1])
    swapped = block_tables(block_of(recording, label=swap[recording.labels]), CONFIG)
    rows = block_tables(block_of(recording), CONFIG)["unit_classes"]
    for name in ("n", "response_mean", "auroc", "u", "p_value", "hedges_g", "auroc_low"):
        found = np.reshape(swapped["unit_classes"][name], (-1, 5))[:, swap[:5]]
        np.testing.assert_allclose(found, np.reshape(rows[name], (-1, 5)), rtol=1e-9)


def test_block_tables__equal_class_means_still_name_the_class_of_the_largest_auroc(analysed):
    data = replace(
        block_of(analysed.recording, Block(0, 1)),
        responses=np.array([[0, 3, 3, 1, 1, 4]], np.float32),
        active_fraction=None,
        chosen=arrange_images(
            np.ones(6, bool),
            np.array([0, 0, 0, 1, 1, 1]),
            list("abcdef"),
            analysed.recording.class_names,
            seed=0,
        ),
    )
    units = block_tables(data, CONFIG)["units"]
    assert units["preferred_class"].to_pylist() == [None]
    assert units["auroc"].tolist() == [5 / 9]
    assert units["auroc_class"].to_pylist() == ["bee"]


def test_named__negative_codes_are_null():
    codes = np.array([[1, -1], [0, 1]])
    assert named(codes, ["a", "b"]).to_pylist() == ["b", None, "a", "b"]
    assert named(np.array([-1]), []).to_pylist() == [None]


def test_coded__each_name_stands_once_beside_the_codes():
    column = coded(np.array([1, 1, 0, 2]), ["a", "b", "a"])
    assert column.dictionary.to_pylist() == ["a", "b"]
    assert column.cast(pa.string()).to_pylist() == ["b", "b", "a", "a"]


@pytest.fixture
def work(analysed, tmp_path):
    choice(analysed.recording).save(tmp_path / CHOICE)
    return tmp_path


def test_analyse_block__keeps_one_file_per_table_and_the_permuted_effects(analysed, work):
    analyse_block(analysed.recording.place, work, BLOCK, CONFIG)
    files = [BLOCK.part(work, table) for table in PARTS]
    permuted = BLOCK.part(work, "permuted", "npy")
    assert sorted(work.iterdir()) == sorted([*files, permuted, work / CHOICE])
    rows = [feather.read_table(file).num_rows for file in files]
    assert rows[:2] == [7, 35]
    assert np.load(permuted).shape == (7, 19)


def test_analyse_block__done_block_is_not_repeated_and_a_half_one_is(analysed, work):
    place = analysed.recording.place
    analyse_block(place, work, BLOCK, CONFIG)
    files = [BLOCK.part(work, table) for table in PARTS]
    before = [file.stat().st_ino for file in files]
    analyse_block(place, work, BLOCK, CONFIG)
    assert [file.stat().st_ino for file in files] == before
    files[0].unlink()
    analyse_block(place, work, BLOCK, CONFIG)
    assert all(file.exists() for file in files)
