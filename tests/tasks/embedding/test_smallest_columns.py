"""The columns of the smallest values against NumPy's sort."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.embedding.smallest_columns import smallest_columns


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 7, 64, 300])
def test_smallest_columns__hold_the_smallest_values(dtype, size):
    rng = np.random.default_rng(size)
    values = rng.normal(size=(40, 300)).astype(dtype)
    values[10:20] = np.round(values[10:20])  # ties, at the border too
    values[20:25] = np.sort(values[20:25], axis=1)[:, ::-1]
    values[25] = 3.0
    found = smallest_columns(values, size)
    held = np.sort(np.take_along_axis(values, found, axis=1), axis=1)
    np.testing.assert_array_equal(held, np.sort(values, axis=1)[:, :size])
    assert found.shape == (40, size)
    assert (np.diff(found, axis=1) > 0).all()


def test_smallest_columns__what_is_out_of_reach_is_not_among_them():
    values = np.array([[np.inf, 2.0, -1.0, np.inf, 0.0]])
    np.testing.assert_array_equal(smallest_columns(values, 3), [[1, 2, 4]])


def test_smallest_columns__no_rows():
    assert smallest_columns(np.empty((0, 4), np.float32), 2).shape == (0, 2)
