"""Rows in memory, their division into chunks, and the checks of class codes."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.statistics.class_order import checked_codes
from activarium.tasks.statistics.layers import layer_rows
from activarium.tasks.statistics.layers.layer_rows import ArrayRows, row_chunks

VALUES = np.arange(35, dtype=np.float32).reshape(7, 5)


@pytest.mark.parametrize(("block", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (9, [7])])
def test_array_rows__blocks_are_the_rows_in_order(block, sizes):
    rows = ArrayRows(VALUES, block)
    assert (rows.images, rows.units) == (7, 5)
    for _ in range(2):  # may be read again
        blocks = list(rows.blocks())
        assert [len(part) for part in blocks] == sizes
        np.testing.assert_array_equal(np.concatenate(blocks), VALUES)


def test_array_rows__take_keeps_the_order_of_positions():
    np.testing.assert_array_equal(ArrayRows(VALUES).take(np.array([4, 0, 4])), VALUES[[4, 0, 4]])


def test_array_rows__without_images_there_are_no_blocks():
    rows = ArrayRows(np.empty((0, 3), np.float32))
    assert list(rows.blocks()) == []
    assert list(row_chunks(rows)) == []


def test_array_rows__other_than_a_float32_matrix_is_an_error():
    with pytest.raises(ValueError, match="got float64 of shape"):
        ArrayRows(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"got float32 of shape \(4,\)"):
        ArrayRows(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="a block of at least 1, got 0"):
        ArrayRows(VALUES, 0)


def test_row_chunks__divide_blocks_and_say_where_they_stand(monkeypatch):
    monkeypatch.setattr(layer_rows, "_VALUES", 10)
    chunks = list(row_chunks(ArrayRows(VALUES, 3)))
    assert [len(chunk) for _, chunk in chunks] == [2, 1, 2, 1, 1]
    for where, chunk in chunks:
        np.testing.assert_array_equal(chunk, VALUES[where])


class Lying(ArrayRows):
    """Rows whose blocks lack the last image."""

    def blocks(self):
        yield self.values[:-1]


class Narrow(ArrayRows):
    """Rows whose blocks lack the last unit."""

    def blocks(self):
        yield self.values[:, :-1]


def test_row_chunks__blocks_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="blocks of 7 images together, got 6"):
        list(row_chunks(Lying(VALUES)))
    with pytest.raises(ValueError, match=r"a block of 5 units, got shape \(7, 4\)"):
        list(row_chunks(Narrow(VALUES)))


def test_checked_codes__accept_any_integer_type():
    found = checked_codes(np.array([0, 1, 2, 0, 1, 2, 0], np.uint8), len(VALUES), 3)
    assert found.dtype == np.int64
    assert found.tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (np.zeros(6, int), r"each of 7 images, got int64 of shape \(6,\)"),
        (np.zeros(7), "got float64"),
        (np.array([0, 1, 2, 0, 1, 2, -1]), "must be 0 to 2, got -1 to 2"),
        (np.array([0, 1, 2, 0, 1, 2, 3]), "must be 0 to 2, got 0 to 3"),
    ],
)
def test_checked_codes__misfits_are_errors(code, message):
    with pytest.raises(ValueError, match=message):
        checked_codes(code, len(VALUES), 3)
