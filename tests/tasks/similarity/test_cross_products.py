from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activarium.tasks.similarity.centred_responses import CentredMatrix
from activarium.tasks.similarity.cross_products import (
    Part,
    divide,
    panel_products,
    part_slices,
    squared_product,
    vector_products,
)


@given(units=st.lists(st.integers(1, 30), max_size=12), most=st.integers(1, 20))
def test_divide__covers_every_unit_once_in_order(units, most):
    panels = divide(units, most=most, whole=25)
    covered = [
        (part.layer, unit)
        for panel in panels
        for part in panel
        for unit in range(part.start, part.stop)
    ]
    assert covered == [(layer, unit) for layer, size in enumerate(units) for unit in range(size)]
    for panel in panels:
        size = sum(part.stop - part.start for part in panel)
        assert size <= most or (len(panel) == 1 and panel[0].is_whole and size <= 25)
        assert all(part.is_whole == (units[part.layer] <= 25) for part in panel)


def test_divide__fills_panels_with_layers():
    assert divide([3, 4, 9, 2, 30], most=10, whole=20) == [
        (Part(0, 0, 3, True), Part(1, 0, 4, True)),
        (Part(2, 0, 9, True),),
        (Part(3, 0, 2, True),),
        (Part(4, 0, 10, False),),
        (Part(4, 10, 20, False),),
        (Part(4, 20, 30, False),),
    ]


def layers(images, *units):
    rng = np.random.default_rng(sum(units))
    return {
        place: CentredMatrix(rng.normal(size=(images, size))) for place, size in enumerate(units)
    }


def test_panel_products__are_those_of_the_whole_matrices():
    first, second = layers(3_000, 3, 5), layers(3_000, 4, 6)
    (panel,), (other,) = divide([3, 5]), divide([4, 6])
    x, y = (np.hstack([each.values for each in side.values()]) for side in (first, second))
    np.testing.assert_allclose(panel_products(first, panel, second, other), x.T @ y, atol=1e-10)
    own = panel_products(first, panel, first, panel)
    np.testing.assert_allclose(own, x.T @ x, atol=1e-10)
    assert part_slices(panel) == [slice(0, 3), slice(3, 8)]


def test_panel_products__of_parts_of_a_divided_layer():
    first, second = layers(50, 7), layers(50, 4)
    part, other = (Part(0, 2, 6, False),), (Part(0, 0, 4, True),)
    expected = first[0].values[:, 2:6].T @ second[0].values
    np.testing.assert_allclose(panel_products(first, part, second, other), expected, atol=1e-12)


def test_panel_products__other_images_are_refused():
    panel = (Part(0, 0, 3, True),)
    with pytest.raises(ValueError, match=r"zip|mismatch"):
        panel_products(layers(20, 3), panel, layers(5_000, 3), panel)


def test_squared_product__of_a_layer_larger_than_any_panel():
    first, second = layers(9, 4_100)[0], layers(9, 6)[0]
    # The scalar products of the images have the same sum.
    grams = [each.values @ each.values.T for each in (first, second)]
    assert squared_product(first, second) == pytest.approx((grams[0] * grams[1]).sum(), rel=1e-12)
    assert squared_product(first, first) == pytest.approx((grams[0] ** 2).sum(), rel=1e-12)


def test_vector_products__of_integers_longer_than_a_block():
    rng = np.random.default_rng(0)
    vectors = [rng.integers(-9, 9, 70_000).astype(np.int32) for _ in range(3)]
    whole = np.array(vectors, np.int64)
    np.testing.assert_array_equal(vector_products(vectors, vectors[:2]), whole @ whole[:2].T)
    assert vector_products([], vectors).shape == (0, 3)
