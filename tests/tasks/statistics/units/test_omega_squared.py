"""Omega squared against statsmodels, by hand, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.oneway import _fstat2effectsize

from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.omega_squared import omega2
from activarium.tasks.statistics.units.preference import anova

from ..moment_examples import (
    CLASSES,
    groups,
    moments_of,
    recording,
    recordings,
    relabelled,
    reordered,
    rounded_constant,
    unitless,
)


@pytest.mark.parametrize("unit", [0, 1, 2, 3, 4, 5, 6, 8])
def test_omega2__equals_statsmodels(unit):
    responses, label = recording()
    parts = groups(unitless(responses[unit]), label)
    f = stats.f_oneway(*parts).statistic
    expected = _fstat2effectsize(f, (len(parts) - 1, label.size - len(parts))).omega2
    got = omega2(class_moments(responses, label, CLASSES))[unit]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_omega2__hand_worked_case():
    # Means 2, 6, 4 about 4: between 16 on 2, within 6 on 3: (16 - 2 x 2) / (22 + 2).
    np.testing.assert_allclose(omega2(moments_of([1, 3, 5, 7, 3, 5], [0, 0, 1, 1, 2, 2])), [0.5])


def test_omega2__smallest_value_is_that_of_equal_means():
    # No difference of means: -(K - 1) / (N - K + 1), here below -1.
    got = omega2(moments_of([1, 3, 2, 2, 2, 2], [0, 0, 1, 2, 3, 4]))
    np.testing.assert_allclose(got, [-4 / 2], rtol=1e-14)


def test_omega2__means_without_variance_within_are_one():
    np.testing.assert_array_equal(omega2(moments_of([1, 1, 2, 2, 2], [0, 0, 1, 1, 2])), [1])


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
@pytest.mark.parametrize("images", [2, 3, 1001])
def test_omega2__constant_unit_is_zero(value, images):
    np.testing.assert_array_equal(omega2(moments_of([value] * images, np.arange(images) % 3)), [0])


def test_omega2__rounding_in_moments_of_a_constant_unit_is_no_difference():
    np.testing.assert_array_equal(omega2(rounded_constant()), [0])


@pytest.mark.parametrize("label", [[1, 1, 1], [0, 1, 2]])
def test_omega2__one_class_or_as_many_classes_as_images_is_zero(label):
    np.testing.assert_array_equal(omega2(moments_of([1, 2, 5], label)), [0])


def test_omega2__no_images_is_zero():
    moments = class_moments(np.empty((2, 0), np.float32), np.empty(0, np.int64), 3)
    np.testing.assert_array_equal(omega2(moments), [0, 0])


def test_omega2__is_zero_on_average_where_eta_squared_is_not():
    rng = np.random.default_rng(0)
    moments = class_moments(
        rng.standard_normal((2000, 60)).astype(np.float32), np.arange(60) % CLASSES, CLASSES
    )
    assert abs(omega2(moments).mean()) < 0.01
    assert anova(moments).eta2.mean() > 0.05


@given(recordings(), st.randoms(use_true_random=False), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=40)
def test_omega2__does_not_depend_on_order_or_names(sample, random, names):
    whole = omega2(class_moments(*sample, CLASSES))
    np.testing.assert_allclose(omega2(reordered(*sample, random)), whole, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(omega2(relabelled(*sample, names)), whole, rtol=1e-9, atol=1e-9)


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_omega2__stays_in_its_range_and_below_eta_squared(sample):
    moments = class_moments(*sample, CLASSES)
    classes = np.unique(sample[1]).size
    got = omega2(moments)
    lowest = min(0.0, -(classes - 1) / (moments.images - classes + 1))
    assert (got >= lowest - 1e-12).all()
    assert (got <= anova(moments).eta2 + 1e-12).all()


@pytest.mark.parametrize("block", [1, 2, 4])
def test_omega2__does_not_depend_on_block_size(block):
    responses, label = recording()
    whole = omega2(class_moments(responses, label, CLASSES))
    for start in range(0, len(responses), block):
        part = omega2(class_moments(responses[start : start + block], label, CLASSES))
        np.testing.assert_array_equal(part, whole[start : start + block])
