"""The sparseness of Treves and Rolls against its definition, by hand, and at its edges."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.preference import lifetime_sparseness
from activarium.tasks.statistics.units.sparseness import treves_rolls

from ..moment_examples import (
    CLASSES,
    moments_of,
    recording,
    recordings,
    relabelled,
    reordered,
    rounded_constant,
)


def exact(values):
    """Return 1 - a in rational arithmetic."""
    r = [Fraction(float(v)) for v in values]
    lowest = min(*r, Fraction(0))
    r = [v - lowest for v in r]
    return float(1 - sum(r) ** 2 / (len(r) * sum(v * v for v in r)))


@pytest.mark.parametrize("unit", range(9))
def test_treves_rolls__equals_its_definition(unit):
    responses, label = recording()
    got = treves_rolls(class_moments(responses, label, CLASSES))[unit]
    np.testing.assert_allclose(got, exact(responses[unit]), rtol=1e-9)


def test_treves_rolls__hand_worked_case():
    # Sum 24, squares 118: a = (24/6)^2 / (118/6).
    got = treves_rolls(moments_of([1, 3, 5, 7, 3, 5], [0, 0, 1, 1, 2, 2]))
    np.testing.assert_allclose(got, [1 - 16 / (118 / 6)], rtol=1e-14)


@pytest.mark.parametrize("answered", [1, 7, 99])
def test_treves_rolls__equal_answers_to_k_images_leave_the_share_of_the_others(answered):
    values = np.zeros(100)
    values[:answered] = 3
    got = treves_rolls(moments_of(values, np.arange(100) % CLASSES))
    np.testing.assert_allclose(got, [1 - answered / 100], rtol=1e-12)


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_treves_rolls__is_the_index_of_vinje_and_gallant_before_it_is_stretched(sample):
    moments = class_moments(*sample, CLASSES)
    expected = lifetime_sparseness(moments) * (1 - 1 / moments.images)
    np.testing.assert_allclose(treves_rolls(moments), expected, rtol=1e-12)


def test_treves_rolls__negative_responses_are_shifted_first():
    label = [0, 0, 1, 1]
    shifted = treves_rolls(moments_of([-2, 0, 2, 4], label))
    np.testing.assert_allclose(shifted, treves_rolls(moments_of([0, 2, 4, 6], label)), rtol=1e-14)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
@pytest.mark.parametrize("images", [1, 2, 1001])
def test_treves_rolls__constant_unit_is_zero(value, images):
    got = treves_rolls(moments_of([value] * images, np.arange(images) % 3))
    np.testing.assert_array_equal(got, [0])


def test_treves_rolls__rounding_in_moments_of_a_constant_unit_is_no_sparseness():
    np.testing.assert_array_equal(treves_rolls(rounded_constant()), [0])


def test_treves_rolls__no_images_is_zero():
    moments = class_moments(np.empty((2, 0), np.float32), np.empty(0, np.int64), 3)
    np.testing.assert_array_equal(treves_rolls(moments), [0, 0])


@given(recordings(), st.randoms(use_true_random=False), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=40)
def test_treves_rolls__does_not_depend_on_order_or_names(sample, random, names):
    whole = treves_rolls(class_moments(*sample, CLASSES))
    np.testing.assert_allclose(treves_rolls(reordered(*sample, random)), whole, rtol=1e-9)
    np.testing.assert_allclose(treves_rolls(relabelled(*sample, names)), whole, rtol=1e-9)
    assert ((whole >= 0) & (whole <= 1 - 1 / sample[1].size)).all()


@pytest.mark.parametrize("block", [1, 2, 4])
def test_treves_rolls__does_not_depend_on_block_size(block):
    responses, label = recording()
    whole = treves_rolls(class_moments(responses, label, CLASSES))
    for start in range(0, len(responses), block):
        part = treves_rolls(class_moments(responses[start : start + block], label, CLASSES))
        np.testing.assert_array_equal(part, whole[start : start + block])
