"""Intervals of Hedges' g by their definition, their coverage, and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.intervals.confidence import few_active
from activarium.tasks.statistics.intervals.hedges_interval import hedges_g_interval
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.shape_moments import shape_moments
from activarium.tasks.statistics.units.preference import hedges_g

from .slow_intervals import slow_hedges


def interval(responses, label, classes, level=0.95, few=None):
    """Return g and its intervals; none of them is refused for few active images by default."""
    moments = class_moments(responses, label, classes)
    g = hedges_g(moments)
    few = np.zeros(g.shape, bool) if few is None else few
    shapes = shape_moments(responses, label, moments)
    return g, hedges_g_interval(g, moments, shapes, few, level=level)


def example(units=6, seed=0):
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1, 2], [25, 60, 115])
    responses = rng.gamma(1.5, size=(units, 200)) * np.where(label == 0, 2.5, 1) + 3
    return responses.astype(np.float32), label


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_hedges_g_interval__equals_its_definition(level):
    responses, label = example()
    _, (low, high) = interval(responses, label, 3, level)
    for unit, row in enumerate(responses.astype(np.float64)):
        for code in range(3):
            expected = slow_hedges(row[label == code], row[label != code], level)
            np.testing.assert_allclose([low[unit, code], high[unit, code]], expected, rtol=1e-9)


def test_hedges_g_interval__hand_worked_case():
    # Both classes hold -1 and 1 ten times each: g 0, and twice 20 / 19 of pooled variance 40 / 38.
    _, (low, high) = interval(np.float32([[-1, 1] * 20]), np.repeat([0, 1], 20), 2)
    half = stats.t.ppf(0.975, 40) * np.sqrt(2 / 20)
    np.testing.assert_allclose([low, high], [[[-half] * 2], [[half] * 2]], rtol=1e-9)


def test_hedges_g_interval__two_classes_mirror():
    responses, label = example(40)
    _, (low, high) = interval(responses, np.minimum(label, 1), 2)
    np.testing.assert_allclose(low[:, 0], -high[:, 1], rtol=1e-9)


def test_hedges_g_interval__few_images_constant_units_and_no_variance_are_undefined():
    responses, label = example(4)
    label = np.where(np.arange(200) < 9, 3, label)
    responses[1] = 0.1
    responses[2] = label == 1
    few = np.zeros((4, 5), bool)
    few[3, 2] = True
    _, (low, high) = interval(responses, label, 5, few=few)
    expected = np.zeros((4, 5), bool)
    expected[:, 3:] = expected[1] = expected[3, 2] = expected[2, 1] = True
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == expected.tolist()


@pytest.mark.parametrize("values", [[1, 2], [1, 2, 5], []])
def test_hedges_g_interval__hardly_any_images_are_undefined(values):
    _, (low, _) = interval(np.float32([values]), np.minimum(np.arange(len(values)), 1), 2)
    assert np.isnan(low).all()


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("delta", [0.0, 1.0, 2.0])
def test_hedges_g_interval__covers_the_true_difference(delta, zeros):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [100, 300])
    edge = stats.norm.ppf(zeros) if zeros else -np.inf
    responses = np.maximum(rng.standard_normal((1_500, 400)) + delta * (label == 0), edge)
    grid = np.linspace(-9, 11, 200_001)
    value = np.maximum(grid, edge)
    own, rest = (
        weight / weight.sum() for weight in (stats.norm.pdf(grid, delta), stats.norm.pdf(grid))
    )
    apart = value @ (own - rest)
    pooled = (
        99 * (value**2 @ own - (value @ own) ** 2) + 299 * (value**2 @ rest - (value @ rest) ** 2)
    ) / 398
    true = apart / np.sqrt(pooled)
    responses = responses.astype(np.float32)
    few = few_active(rank_units(responses, label, 2).lowest, np.array([100, 300]))
    _, (low, high) = interval(responses, label, 2, few=few)
    held = ((low[:, 0] <= true) & (true <= high[:, 0]))[~few[:, 0]]
    # Four standard errors of a share of 0.95 are 0.023; at ten images that activate a unit on
    # average, those with nine or fewer would miss.
    assert 0.92 < held.mean() < 0.99
    assert held.size > 700


@given(st.permutations(range(3)), st.integers(0, 1_000))
@settings(deadline=None, max_examples=20)
def test_hedges_g_interval__follows_order_and_names(names, seed):
    responses, label = example(3, seed)
    order = np.random.default_rng(seed).permutation(200)
    _, whole = interval(responses, label, 3)
    _, moved = interval(responses[:, order], np.array(names)[label[order]], 3)
    for one, other in zip(whole, moved, strict=True):
        np.testing.assert_allclose(other[:, names], one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block", [1, 4])
def test_hedges_g_interval__does_not_depend_on_block_size(block):
    responses, label = example(9)
    _, whole = interval(responses, label, 3)
    for start in range(0, 9, block):
        _, part = interval(responses[start : start + block], label, 3)
        for one, two in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, two[start : start + block])


def test_hedges_g_interval__holds_g_and_grows_with_the_level():
    responses, label = example(20)
    g, narrow = interval(responses, label, 3, 0.8)
    _, wide = interval(responses, label, 3, 0.99)
    assert (wide.low < narrow.low).all()
    assert ((narrow.low < g) & (g < narrow.high) & (narrow.high < wide.high)).all()
