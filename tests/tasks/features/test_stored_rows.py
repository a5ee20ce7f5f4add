"""Columns and rows of chosen images, read shard by shard."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.features import stored_rows as module
from activarium.tasks.features.stored_rows import StoredRows, layer_rows
from activarium.tasks.statistics.layers.layer_rows import ArrayRows
from activarium.tasks.stores.column_reading import column_means, read_columns, row_blocks
from activarium.tasks.stores.recording import Recording

COLUMNS = slice(4, 11)


@pytest.fixture(scope="module")
def rows(analysed):
    """Return valid rows in any order."""
    return np.random.default_rng(0).permutation(np.flatnonzero(analysed.raw.valid))


def test_read_columns__images_are_in_the_order_asked_for(analysed, rows):
    found = read_columns(analysed.recording, "channel_mean", COLUMNS, rows)
    np.testing.assert_array_equal(found, analysed.raw.responses[rows][:, COLUMNS].T)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


def test_row_blocks__never_hold_more_than_a_stored_chunk(analysed, rows):
    sizes, seen = [], []
    for places, values in row_blocks(analysed.recording, "channel_mean", COLUMNS, rows):
        np.testing.assert_array_equal(values, analysed.raw.responses[rows[places]][:, COLUMNS])
        sizes.append(len(values))
        seen.extend(places.tolist())
    assert max(sizes) <= analysed.recording.chunk_rows("channel_mean") == 25
    assert sorted(seen) == list(range(len(rows)))


def test_row_blocks__chunks_without_a_chosen_image_are_not_read(analysed, monkeypatch):
    read = []

    def watched(self, array, part, columns):
        read.append(part.start)
        return analysed.raw.responses[part][:, columns]

    monkeypatch.setattr(Recording, "block", watched)
    rows = np.array([60, 51, 3])
    found = list(row_blocks(analysed.recording, "channel_mean", COLUMNS, rows))
    assert read == [0, 50]
    assert [places.tolist() for places, _ in found] == [[2], [1, 0]]


def test_row_blocks__nothing_chosen_is_nothing_read(analysed):
    nothing = np.zeros(0, np.int64)
    assert list(row_blocks(analysed.recording, "channel_mean", COLUMNS, nothing)) == []
    assert read_columns(analysed.recording, "channel_mean", COLUMNS, nothing).shape == (7, 0)


def test_column_means__do_not_depend_on_the_order(analysed, rows):
    found = column_means(analysed.recording, "channel_active", COLUMNS, rows)
    again = column_means(analysed.recording, "channel_active", COLUMNS, rows[::-1])
    assert found.tolist() == again.tolist()
    expected = analysed.raw.active[rows][:, COLUMNS].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_row_blocks__image_that_could_not_be_decoded_is_an_error(analysed):
    with pytest.raises(UserError, match="channel_mean lacks values") as caught:
        list(row_blocks(analysed.recording, "channel_mean", COLUMNS, np.array([4, 5])))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("block", [1, 7, 25, 59, 4096])
def test_stored_rows__blocks_are_of_equal_size_but_for_the_last(
    block, ascending, analysed, rows, monkeypatch
):
    monkeypatch.setattr(module, "BLOCK_IMAGES", block)
    wanted = np.sort(rows) if ascending else rows
    stored = StoredRows(analysed.recording, "channel_mean", COLUMNS, 7, wanted)
    blocks = list(stored.blocks())
    assert {len(each) for each in blocks[:-1]} <= {block}
    assert len(blocks) == -(-59 // block)
    np.testing.assert_array_equal(
        np.concatenate(blocks), analysed.raw.responses[wanted][:, COLUMNS]
    )
    assert (stored.images, stored.units) == (59, 7)


def test_stored_rows__take_gives_any_positions_in_their_order(analysed, rows):
    stored = StoredRows(analysed.recording, "channel_mean", COLUMNS, 7, rows)
    positions = np.array([58, 0, 17, 3])
    expected = analysed.raw.responses[rows[positions]][:, COLUMNS]
    np.testing.assert_array_equal(stored.take(positions), expected)
    assert stored.take(np.zeros(0, np.int64)).shape == (0, 7)


@pytest.mark.parametrize(("most", "kind"), [(59 * 9 * 4, ArrayRows), (59 * 9 * 4 - 1, StoredRows)])
def test_layer_rows__are_kept_in_memory_where_they_are_small(
    most, kind, analysed, rows, monkeypatch
):
    monkeypatch.setattr(module, "MOST_BYTES", most)
    found = layer_rows(analysed.recording, "layer1.0", rows)
    assert isinstance(found, kind)
    values = np.concatenate(list(found.blocks()))
    np.testing.assert_array_equal(values, analysed.raw.responses[rows][:, 6:15])
    assert (found.images, found.units) == (59, 9)


def test_layer_rows__without_images_have_no_rows(analysed):
    found = layer_rows(analysed.recording, "fc:2", np.zeros(0, np.int64))
    assert (found.images, found.units) == (0, 5)
    assert sum(len(block) for block in found.blocks()) == 0


def test_row_blocks__infinite_response_names_its_unit(atlas, make_raw, write_recording):
    raw = make_raw()
    raw.responses[40, 8] = np.inf
    recording = write_recording(atlas, raw)
    with pytest.raises(
        UserError, match=r"infinite response of layer1\.0/2, .*record again"
    ) as caught:
        list(row_blocks(recording, "channel_mean", COLUMNS, np.flatnonzero(raw.valid)))
    assert "--repair" not in str(caught.value)
