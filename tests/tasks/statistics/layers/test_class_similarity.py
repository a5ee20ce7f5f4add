"""Mean cosines against all pairs of images one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from activarium.tasks.statistics.layers.class_similarity import class_similarity
from activarium.tasks.statistics.layers.layer_moments import column_moments
from activarium.tasks.statistics.layers.layer_rows import ArrayRows

from .layer_examples import CLASSES, awkward_layer, clear_layer, slowly_standardised


def all_pairs(vectors, code):
    length = np.sqrt((vectors**2).sum(axis=1))
    # Whatever is left of a vector of zeros is rounding.
    unit = vectors / np.where(length > 1e-9, length, np.inf)[:, None]
    cosine = unit @ unit.T
    pair = ~np.eye(len(code), dtype=bool)
    same = code[:, None] == code
    return [cosine[pair & mask].mean() if (pair & mask).any() else np.nan for mask in (same, ~same)]


@pytest.mark.parametrize("block", [1, 10, 4096])
def test_class_similarity__equals_all_pairs(block):
    values, code = awkward_layer()
    found = class_similarity(ArrayRows(values, block), code, CLASSES)
    expected = all_pairs(slowly_standardised(values), code)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.within > found.between


@settings(max_examples=60, deadline=None)
@given(data=st.data(), images=st.integers(2, 20), block=st.integers(1, 21))
def test_class_similarity__follows_neither_labels_nor_order_nor_blocks(data, images, block):
    element = st.one_of(st.integers(-2, 2).map(float), st.floats(-8, 8, width=16))
    values = data.draw(hnp.arrays(np.float32, (images, 3), elements=element))
    code = data.draw(hnp.arrays(np.int64, images, elements=st.integers(0, 2)))
    found = class_similarity(ArrayRows(values, block), code, 3)
    expected = all_pairs(slowly_standardised(values), code)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    order = data.draw(st.permutations(range(images)))
    names = np.array(data.draw(st.permutations(range(5))))
    again = class_similarity(ArrayRows(values[order]), names[code[order]], 5)
    np.testing.assert_allclose(again, found, rtol=1e-9, atol=1e-12)


def test_class_similarity__by_hand():
    values = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    # Own pairs at right angles; of the others two are opposite and two at right angles.
    found = class_similarity(ArrayRows(values), np.array([0, 0, 1, 1]), 2)
    np.testing.assert_allclose(found, [0, -0.5], atol=1e-15)


def test_class_similarity__images_alike_but_for_size_have_cosine_one():
    values = np.array([[1, 2], [3, 6], [-1, -2], [-3, -6]], np.float32)
    found = class_similarity(ArrayRows(values), np.array([0, 0, 1, 1]), 2)
    np.testing.assert_allclose(found, [1, -1], rtol=1e-15)
    assert found.within <= 1


def test_class_similarity__vector_of_zeros_has_cosine_zero():
    values = np.array([[1], [1], [0], [-1], [-1]], np.float32)
    found = class_similarity(ArrayRows(values), np.array([0, 0, 0, 1, 1]), 2)
    np.testing.assert_allclose(found, [2 / 4, -4 / 6], rtol=1e-12)


def test_class_similarity__constant_units_change_nothing():
    values, code = clear_layer(0)
    wide = np.concatenate([values, np.full((len(values), 2), 0.1, np.float32)], axis=1)
    found = class_similarity(ArrayRows(wide), code, 3)
    np.testing.assert_allclose(found, class_similarity(ArrayRows(values), code, 3), rtol=1e-12)


def test_class_similarity__where_all_units_are_constant_it_is_zero():
    found = class_similarity(ArrayRows(np.full((4, 2), 0.1, np.float32)), np.arange(4) // 2, 2)
    assert found == (0.0, 0.0)


def test_class_similarity__without_a_pair_it_is_nan():
    values, code = clear_layer(1, images=6)
    within, between = class_similarity(ArrayRows(values), np.zeros(6, int), 2)
    assert -1 <= within <= 1
    assert np.isnan(between)
    within, between = class_similarity(ArrayRows(values), np.arange(6), 6)
    assert np.isnan(within)
    assert -1 <= between <= 1
    for images in (0, 1):
        few = class_similarity(ArrayRows(values[:images]), code[:images], 3)
        assert np.isnan(few).all()


def test_class_similarity__two_images_are_opposite():
    values, _ = clear_layer(2, images=2)
    within, between = class_similarity(ArrayRows(values), np.array([0, 1]), 2)
    assert np.isnan(within)
    assert between == pytest.approx(-1, abs=1e-15)


def test_class_similarity__small_class_beside_a_large_one_keeps_its_digits():
    rng = np.random.default_rng(5)
    values = (rng.standard_normal((4000, 3)) + 30).astype(np.float32)
    code = np.zeros(4000, int)
    code[17] = 1
    found = class_similarity(ArrayRows(values), code, 2)
    np.testing.assert_allclose(found, all_pairs(slowly_standardised(values), code), rtol=1e-9)


def test_class_similarity__takes_moments_measured_before():
    values, code = awkward_layer()
    rows = ArrayRows(values)
    given_moments = class_similarity(rows, code, CLASSES, moments=column_moments(rows))
    assert given_moments == class_similarity(rows, code, CLASSES)
