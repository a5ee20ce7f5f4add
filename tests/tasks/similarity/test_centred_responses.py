from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.similarity.centred_responses import (
    CentredMatrix,
    can_be_compact,
    centre,
    compact,
)
from activarium.tasks.statistics.layers.layer_rows import ArrayRows


def responses(images=23, units=4):
    found = np.random.default_rng(0).normal(size=(images, units)).astype(np.float32)
    found[:, 1] = 0.1
    return found


@pytest.mark.parametrize("stored", [1, 5, 8, 100])
def test_blocks__have_the_asked_size_however_rows_are_stored(stored):
    values = responses()
    blocks = [*centre(ArrayRows(values, stored)).blocks(8)]
    assert [len(block) for block in blocks] == [8, 8, 7]
    expected = values.astype(np.float64) - values.astype(np.float64).mean(0)
    expected[:, 1] = 0
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-15)


def test_centre__constant_unit_is_exactly_0():
    assert not np.concatenate([*centre(ArrayRows(responses())).blocks(9)])[:, 1].any()


def test_centre__response_that_is_not_finite_is_refused():
    values = responses()
    values[3, 2] = np.inf
    with pytest.raises(ValueError, match="finite"):
        centre(ArrayRows(values))


def test_compact__keeps_all_scalar_products_of_images():
    layer = centre(ArrayRows(responses(12, 40), 5))
    whole = np.concatenate([*layer.blocks(12)])
    small = compact(layer)
    assert (small.images, small.units) == (12, 12)
    values = np.concatenate([*small.blocks(5)])
    np.testing.assert_allclose(values @ values.T, whole @ whole.T, atol=1e-12)


@pytest.mark.parametrize(
    ("images", "units", "expected"),
    [(10, 10, False), (10, 11, True), (10_000, 512, False), (10_000, 25_088, False)],
)
def test_can_be_compact__more_units_than_images_within_memory(images, units, expected):
    assert can_be_compact(images, units) is expected


def test_matrix__blocks_cover_it_once():
    values = np.arange(12.0).reshape(6, 2)
    assert [len(block) for block in CentredMatrix(values).blocks(4)] == [4, 2]
