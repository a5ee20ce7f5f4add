"""Covariance and dimensions against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.tasks.statistics.layers.layer_moments import column_moments
from activarium.tasks.statistics.layers.layer_rows import ArrayRows
from activarium.tasks.statistics.layers.spectrum import (
    covariance,
    effective_dimension,
    sufficient_dimensions,
)

from .layer_examples import CONSTANT, awkward_layer, clear_layer


def slow_covariance(values):
    exact = values.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    return centred.T @ centred / len(values)


def rotated(eigenvalues, seed=0):
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    return basis @ np.diag(eigenvalues) @ basis.T


@pytest.mark.parametrize("block", [1, 13, 4096])
def test_covariance__equals_numpy(block):
    values, _ = awkward_layer()
    rows = ArrayRows(values, block)
    found = covariance(rows)
    expected = slow_covariance(values)
    size = np.sqrt(np.diag(expected))
    error = np.abs(found - expected)
    assert (error <= 1e-9 * np.abs(expected) + 1e-12 * np.outer(size, size)).all()
    np.testing.assert_array_equal(found[CONSTANT], 0)
    np.testing.assert_array_equal(found[:, CONSTANT], 0)
    np.testing.assert_allclose(np.sqrt(np.diag(found)), column_moments(rows).sd, rtol=1e-12)


def test_covariance__does_not_depend_on_order_or_on_who_measured_the_moments():
    values, _ = awkward_layer()
    found = covariance(ArrayRows(values))
    order = np.random.default_rng(0).permutation(len(values))
    rows = ArrayRows(values[order], 17)
    size = np.sqrt(np.outer(np.diag(found), np.diag(found)))
    again = covariance(rows, moments=column_moments(rows))
    assert (np.abs(again - found) <= 1e-13 * size).all()


def test_covariance__large_mean_does_not_swallow_a_small_variance():
    rng = np.random.default_rng(1)
    values = (1e4 + 0.05 * rng.standard_normal((3000, 4))).astype(np.float32)
    expected = slow_covariance(values).astype(float)
    np.testing.assert_allclose(covariance(ArrayRows(values, 100)), expected, rtol=1e-9)


@pytest.mark.parametrize("images", [0, 1])
def test_covariance__without_two_images_is_zero(images):
    found = covariance(ArrayRows(np.ones((images, 3), np.float32)))
    np.testing.assert_array_equal(found, np.zeros((3, 3)))
    assert np.isnan(effective_dimension(found))
    assert sufficient_dimensions(found) == 0


def test_covariance__of_two_images_has_one_dimension():
    values, _ = clear_layer(0, images=2)
    found = covariance(ArrayRows(values))
    assert effective_dimension(found) == pytest.approx(1, rel=1e-12)
    assert sufficient_dimensions(found, share=1) == 1


@pytest.mark.parametrize("shape", [(300, 8), (6, 40)])
def test_effective_dimension__equals_that_of_the_responses(shape):
    values = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    found = effective_dimension(covariance(ArrayRows(values, 7)))
    eigenvalues = np.linalg.eigvalsh(np.cov(values.T.astype(float)))
    assert found == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-85, 1.0, 1e70])
def test_dimensions__do_not_depend_on_scale(scale):
    matrix = rotated([5.0, 3, 1, 0.5]) * scale
    assert effective_dimension(matrix) == pytest.approx(9.5**2 / 35.25, rel=1e-12)
    assert sufficient_dimensions(matrix, share=0.9) == 3


@settings(max_examples=60, deadline=None)
@given(
    eigenvalues=st.lists(st.floats(1e-3, 10), min_size=1, max_size=8),
    share=st.floats(0.01, 0.999),
    seed=st.integers(0, 99),
)
def test_sufficient_dimensions__is_the_smallest_number_that_reaches_the_share(
    eigenvalues, share, seed
):
    explained = np.cumsum(sorted(eigenvalues, reverse=True)) / np.sum(eigenvalues)
    found = sufficient_dimensions(rotated(eigenvalues, seed), share=share)
    assert explained[found - 1] >= share - 1e-12
    assert found == 1 or explained[found - 2] < share + 1e-12


def test_sufficient_dimensions__share_reached_exactly_is_reached():
    for seed in range(20):
        equal = rotated([2.0] * 4 + [0.0] * 3, seed)
        assert sufficient_dimensions(equal, share=0.75) == 3
        assert sufficient_dimensions(equal, share=0.7500001) == 4
        assert sufficient_dimensions(equal, share=1.0) == 4


def test_sufficient_dimensions__share_missed_by_rounding_only_is_reached():
    found = [
        sufficient_dimensions(rotated([3.0, 1.0, 0.0], seed), share=0.75) for seed in range(30)
    ]
    assert set(found) == {1}


def test_sufficient_dimensions__eigenvalues_within_rounding_count_as_zero():
    variance = np.full(21, 15 * np.finfo(float).eps)
    variance[4] = 1
    assert sufficient_dimensions(np.diag(variance), share=1.0) == 1


def test_sufficient_dimensions__copies_of_units_add_none():
    values, _ = clear_layer(3, images=200, units=5)
    copies = np.concatenate([values, 2 * values, -values], axis=1)
    assert sufficient_dimensions(covariance(ArrayRows(values)), share=1) == 5
    assert sufficient_dimensions(covariance(ArrayRows(copies)), share=1) == 5


def test_dimensions__without_units_or_variance():
    for nothing in (np.zeros((0, 0)), np.zeros((3, 3))):
        assert np.isnan(effective_dimension(nothing))
        assert sufficient_dimensions(nothing) == 0


def test_dimensions__misfits_are_errors():
    for measure in (effective_dimension, sufficient_dimensions):
        with pytest.raises(ValueError, match=r"shape \(unit, unit\), got shape \(2, 3\)"):
            measure(np.zeros((2, 3)))
        with pytest.raises(ValueError, match="finite covariance"):
            measure(np.array([[np.nan]]))
    for share in (0.0, 1.01, float("nan")):
        with pytest.raises(ValueError, match="share above 0 and at most 1"):
            sufficient_dimensions(np.eye(2), share=share)
