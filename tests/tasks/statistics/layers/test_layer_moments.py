"""Moments of whole layers against NumPy in extended precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from activarium.tasks.statistics.layers import layer_rows
from activarium.tasks.statistics.layers.layer_moments import (
    add_class_sums,
    column_moments,
    standardised,
)
from activarium.tasks.statistics.layers.layer_rows import ArrayRows

from .layer_examples import CONSTANT, awkward_layer, slowly_standardised


def assert_as_numpy(moments, values):
    exact = values.astype(np.longdouble)
    scale = np.abs(exact).max(axis=0).astype(float)
    error = np.abs(moments.mean - exact.mean(axis=0)).astype(float)
    assert (error <= 1e-14 * scale).all()
    constant = values.min(axis=0) == values.max(axis=0)
    np.testing.assert_array_equal(moments.is_constant, constant)
    sd = np.where(constant, 0.0, exact.std(axis=0).astype(float))
    np.testing.assert_allclose(moments.sd, sd, rtol=1e-9, atol=0)


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_column_moments__equal_numpy_for_every_block_size(block):
    values, _ = awkward_layer()
    moments = column_moments(ArrayRows(values, block))
    assert moments.images == len(values)
    assert_as_numpy(moments, values)
    assert np.flatnonzero(moments.is_constant).tolist() == CONSTANT


@settings(max_examples=60, deadline=None)
@given(data=st.data(), images=st.integers(1, 30), block=st.integers(1, 31))
def test_column_moments__equal_numpy_in_any_order(data, images, block):
    element = st.one_of(st.floats(-1e4, 1e4, width=32), st.integers(-2, 2).map(float))
    values = data.draw(hnp.arrays(np.float32, (images, 3), elements=element))
    assert_as_numpy(column_moments(ArrayRows(values, block)), values)
    order = data.draw(st.permutations(range(images)))
    assert_as_numpy(column_moments(ArrayRows(values[order], block)), values)


def test_column_moments__by_hand():
    values = np.array([[1, 5], [2, 5], [3, 5], [6, 5]], np.float32)
    mean, sd = column_moments(ArrayRows(values, 3))[1:3]
    np.testing.assert_allclose(mean, [3, 5], rtol=1e-15)
    np.testing.assert_allclose(sd, [np.sqrt(3.5), 0], rtol=1e-15)


@pytest.mark.parametrize("value", [0.1, -7.3, 1e30, 1e-45, 12345.678, -0.0])
def test_column_moments__constant_unit_is_exact(value):
    moments = column_moments(ArrayRows(np.full((1237, 2), value, np.float32), 100))
    np.testing.assert_array_equal(moments.mean, float(np.float32(value)))
    np.testing.assert_array_equal(moments.sd, 0)
    assert moments.is_constant.all()


def test_column_moments__without_images_are_nan():
    moments = column_moments(ArrayRows(np.empty((0, 2), np.float32)))
    assert moments.images == 0
    assert np.isnan(moments.mean).all()
    assert np.isnan(moments.sd).all()
    assert moments.is_constant.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_column_moments__responses_that_are_not_finite_are_an_error(bad):
    values = np.ones((5, 2), np.float32)
    values[3, 1] = bad
    with pytest.raises(ValueError, match="finite responses"):
        column_moments(ArrayRows(values, 2))


def test_standardised__equals_numpy_without_constant_units():
    values, _ = awkward_layer()
    found = standardised(values, column_moments(ArrayRows(values)))
    assert found.shape == (len(values), values.shape[1] - len(CONSTANT))
    np.testing.assert_allclose(found, slowly_standardised(values), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("block", [1, 3, 500])
def test_standardised__response_at_the_mean_is_exactly_zero(block, monkeypatch):
    monkeypatch.setattr(layer_rows, "_VALUES", 100)
    rng = np.random.default_rng(0)
    half = rng.standard_normal((500, 4)).astype(np.float32) * 1e3
    middle = np.array([[7, -3, 0.5, 1e4]], np.float32)
    values = np.concatenate([middle + half.round(), middle, middle - half.round()])
    found = standardised(values, column_moments(ArrayRows(values, block)))
    np.testing.assert_array_equal(found[500], 0)
    assert (found != 0).any(axis=1).sum() >= 990


def test_add_class_sums__adds_to_what_is_there():
    total = np.ones((4, 2))
    vectors = np.array([[1, 10], [2, 20], [4, 40]], float)
    add_class_sums(total, vectors, np.array([2, 0, 2]))
    assert total.tolist() == [[3, 21], [1, 1], [6, 51], [1, 1]]
    add_class_sums(total, vectors[:0], np.empty(0, np.int64))
    assert total.sum() == 85
