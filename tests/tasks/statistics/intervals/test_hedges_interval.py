"""Intervals of Hedges' g by hand and from responses, their coverage, and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.intervals.confidence import two_sided_z
from activarium.tasks.statistics.intervals.hedges_interval import hedges_g_interval
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.preference import hedges_g

from ..moment_examples import (
    CLASSES,
    EMPTY,
    moments_of,
    recording,
    recordings,
    relabelled,
    reordered,
)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_hedges_g_interval__equals_its_definition(level):
    responses, label = recording()
    low, high = hedges_g_interval(class_moments(responses, label, CLASSES), level=level)
    for unit in (0, 1, 2, 3, 6, 8):
        for c in np.unique(label):
            values = responses[unit].astype(np.float64)
            one, rest = values[label == c], values[label != c]
            n, m = one.size, rest.size
            squares = ((one - one.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
            d = (one.mean() - rest.mean()) / np.sqrt(squares / (n + m - 2))
            g = d * (1 - 3 / (4 * (n + m - 2) - 1))
            sd = np.sqrt((n + m) / (n * m) + g**2 / (2 * (n + m)))
            expected = stats.norm.interval(level, g, sd)
            np.testing.assert_allclose([low[unit, c], high[unit, c]], expected, rtol=1e-9)


def test_hedges_g_interval__hand_worked_case():
    # Class 1: 6 - 3; squares 2 + 8 on 4 degrees of freedom; correction 1 - 3/15; 1/2 + 1/4.
    low, high = hedges_g_interval(moments_of([1, 3, 5, 7, 3, 5], [0, 0, 1, 1, 2, 2]))
    g = 3 / np.sqrt(2.5) * 0.8
    half = 1.959963984540054 * np.sqrt(0.75 + g * g / 12)
    np.testing.assert_allclose([low[0, 1], high[0, 1]], [g - half, g + half], rtol=1e-12)


def test_hedges_g_interval__empty_class_is_undefined_and_one_of_one_image_is_not():
    low, high = hedges_g_interval(class_moments(*recording(), CLASSES))
    assert np.isnan(low[:, EMPTY]).all()
    assert np.isnan(high[:, EMPTY]).all()
    # Unit 7 is 1 on class 2 and 0 elsewhere, without variance on either side.
    assert np.argwhere(np.isnan(np.delete(low, EMPTY, axis=1))).tolist() == [[7, 2]]


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ([0.1] * 6, [0, 0, 1, 1, 2, 2]),
        ([-0.0] * 6, [0, 0, 1, 1, 2, 2]),
        ([1, 2, 5, 7], [1, 1, 1, 1]),
        ([1, 2, 5], [0, 0, 1]),
        ([1, 2], [0, 1]),
    ],
)
def test_hedges_g_interval__constant_unit_one_class_and_few_images_are_undefined(values, label):
    low, high = hedges_g_interval(moments_of(values, label))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_hedges_g_interval__no_images_are_undefined():
    low, _ = hedges_g_interval(class_moments(np.empty((2, 0), np.float32), np.empty(0, int), 3))
    assert np.isnan(low).all()


def test_hedges_g_interval__no_variance_on_either_side_is_undefined():
    low, high = hedges_g_interval(moments_of([1, 1, 2, 2, 2], [0, 0, 1, 1, 2]))
    assert np.isnan([low[0, 0], high[0, 0]]).all()
    assert np.isfinite([low[0, 1], high[0, 1]]).all()


@pytest.mark.parametrize("delta", [0.0, 0.8, 2.0])
def test_hedges_g_interval__covers_the_true_difference(delta):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [40, 160])
    responses = rng.standard_normal((4000, 200)) + delta * (label == 0)
    low, high = hedges_g_interval(class_moments(responses.astype(np.float32), label, 2))
    covered = ((low[:, 0] <= delta) & (delta <= high[:, 0])).mean()
    # Four standard errors of a share of 0.95 are 0.014.
    assert 0.936 < covered < 0.964


@given(recordings(), st.randoms(use_true_random=False), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=40)
def test_hedges_g_interval__follows_order_and_names(sample, random, names):
    whole = hedges_g_interval(class_moments(*sample, CLASSES))
    again = hedges_g_interval(reordered(*sample, random))
    renamed = hedges_g_interval(relabelled(*sample, names))
    for one, same, other in zip(whole, again, renamed, strict=True):
        np.testing.assert_allclose(same, one, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(other[:, names], one, rtol=1e-9, atol=1e-12)


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_hedges_g_interval__holds_g_and_grows_with_the_level(sample):
    moments = class_moments(*sample, CLASSES)
    g, narrow, wide = (
        hedges_g(moments),
        hedges_g_interval(moments, level=0.8),
        hedges_g_interval(moments, level=0.99),
    )
    defined = ~np.isnan(narrow.low)
    assert (wide.low < narrow.low)[defined].all()
    assert ((narrow.low < g) & (g < narrow.high) & (narrow.high < wide.high))[defined].all()


@pytest.mark.parametrize("block", [1, 4])
def test_hedges_g_interval__does_not_depend_on_block_size(block):
    responses, label = recording()
    whole = hedges_g_interval(class_moments(responses, label, CLASSES))
    for start in range(0, len(responses), block):
        part = hedges_g_interval(class_moments(responses[start : start + block], label, CLASSES))
        for one, two in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, two[start : start + block])


def test_two_sided_z__equals_scipy():
    for level in (0.01, 0.5, 0.95, 1 - 1e-6):
        np.testing.assert_allclose(two_sided_z(level), stats.norm.interval(level)[1], rtol=1e-9)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, float("nan")])
def test_two_sided_z__other_levels_are_refused(level):
    with pytest.raises(ValueError, match=r"expected a level between 0 and 1, such as 0\.95, got"):
        two_sided_z(level)
