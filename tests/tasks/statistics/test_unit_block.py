"""One block of units: what is read, kept aside and not repeated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import feather

from activarium.schemas.errors import UserError
from activarium.tasks.statistics.unit_block import (
    PARTS,
    Block,
    analyse_block,
    block_tables,
    named,
    part_file,
    read_block,
)

BLOCK = Block(4, 11, exemplars=3, class_exemplars=2)


def test_read_block__holds_the_valid_images_of_its_columns(analysed):
    data, raw = read_block(analysed.recording, BLOCK), analysed.raw
    np.testing.assert_array_equal(data.responses, raw.responses[raw.valid][:, 4:11].T)
    np.testing.assert_array_equal(data.active, raw.active[raw.valid][:, 4:11].T)
    assert data.responses.flags.c_contiguous
    assert data.label.tolist() == raw.label[raw.valid].tolist()
    assert data.image.tolist() == np.flatnonzero(raw.valid).tolist()
    assert data.unit == ["conv1/4", "conv1/5", *(f"layer1.0/{channel}" for channel in range(5))]
    assert data.depth.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert data.feeds_relu.tolist() == [True, True, False, False, False, False, False]


def test_read_block__without_invalid_images_is_the_same_as_the_columns(
    atlas, make_raw, write_recording
):
    raw = make_raw()
    raw = replace(raw, responses=np.nan_to_num(raw.responses), valid=np.ones_like(raw.valid))
    raw = replace(raw, active=np.nan_to_num(raw.active))
    data = read_block(write_recording(atlas, raw), BLOCK)
    np.testing.assert_array_equal(data.responses, raw.responses[:, 4:11].T)


@pytest.mark.parametrize("array", ["channel_mean", "channel_active"])
def test_read_block__missing_chunk_names_the_array(array, atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    (recording.place.path / array / "c" / "0" / "0").unlink()
    with pytest.raises(UserError, match=rf"toy\.zarr/{array} lacks values"):
        read_block(recording, BLOCK)


def test_block_tables__units_are_independent_of_one_another(analysed):
    whole = block_tables(read_block(analysed.recording, BLOCK), BLOCK)
    for unit in range(BLOCK.start, BLOCK.stop):
        single = replace(BLOCK, start=unit, stop=unit + 1)
        own = block_tables(read_block(analysed.recording, single), single)
        for name, columns in own.items():
            rows = pa.table(whole[name]).filter(pc.field("unit") == own["units"]["unit"][0])
            assert rows.to_pandas().equals(pa.table(columns).to_pandas()), (name, unit)


def test_block_tables__order_of_images_changes_no_statistic(analysed):
    data = read_block(analysed.recording, BLOCK)
    order = np.random.default_rng(0).permutation(len(data.label))
    shuffled = replace(
        data,
        responses=np.ascontiguousarray(data.responses[:, order]),
        active=data.active[:, order],
        label=data.label[order],
    )
    first, second = (block_tables(each, BLOCK) for each in (data, shuffled))
    for table in ("units", "unit_classes"):
        for name, values in first[table].items():
            if np.asarray(values).dtype.kind == "f":
                np.testing.assert_allclose(
                    second[table][name], values, rtol=1e-9, atol=1e-9, err_msg=name
                )


def test_block_tables__swapped_classes_swap_their_rows(analysed):
    data = read_block(analysed.recording, BLOCK)
    swap = np.array([1, 0, 2, 3, 4, -1])
    swapped = block_tables(replace(data, label=swap[data.label]), BLOCK)["unit_classes"]
    rows = block_tables(data, BLOCK)["unit_classes"]
    for name in ("n", "response_mean", "auroc", "u", "p_value", "hedges_g"):
        found = np.reshape(swapped[name], (-1, 5))[:, swap[:5]]
        np.testing.assert_allclose(found, np.reshape(rows[name], (-1, 5)), rtol=1e-9)


def test_block_tables__equal_class_means_still_name_the_class_of_the_largest_auroc(analysed):
    data = replace(
        read_block(analysed.recording, Block(0, 1, 1, 1)),
        responses=np.array([[0, 3, 3, 1, 1, 4]], np.float32),
        active=None,
        label=np.array([0, 0, 0, 1, 1, 1]),
        image=np.arange(6),
    )
    units = block_tables(data, Block(0, 1, 1, 1))["units"]
    assert units["preferred_class"].to_pylist() == [None]
    assert units["auroc"].tolist() == [5 / 9]
    assert units["auroc_class"].to_pylist() == ["bee"]


def test_named__negative_codes_are_null():
    codes = np.array([[1, -1], [0, 1]])
    assert named(codes, ["a", "b"]).to_pylist() == ["b", None, "a", "b"]
    assert named(np.array([-1]), []).to_pylist() == [None]


def test_analyse_block__keeps_one_file_per_table(analysed, tmp_path):
    analyse_block(analysed.recording.place, tmp_path, BLOCK)
    files = [part_file(tmp_path, table, BLOCK) for table in PARTS]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    rows = [feather.read_table(file).num_rows for file in files]
    assert rows[:2] == [7, 35]


def test_analyse_block__done_block_is_not_repeated_and_a_half_one_is(analysed, tmp_path):
    path = analysed.recording.place
    analyse_block(path, tmp_path, BLOCK)
    files = [part_file(tmp_path, table, BLOCK) for table in PARTS]
    before = [file.stat().st_ino for file in files]
    analyse_block(path, tmp_path, BLOCK)
    assert [file.stat().st_ino for file in files] == before
    files[1].unlink()
    analyse_block(path, tmp_path, BLOCK)
    assert all(file.exists() for file in files)
