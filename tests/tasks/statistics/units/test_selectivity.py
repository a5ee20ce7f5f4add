"""Selectivity indices against their definitions in rational arithmetic, and at their edges."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.negative_responses import negative_shift
from activarium.tasks.statistics.units.selectivity import ccmas, general_index, morcos_index

from ..moment_examples import (
    CLASSES,
    groups,
    moments_of,
    recording,
    recordings,
    relabelled,
    reordered,
    rounded_constant,
)

INDICES = [morcos_index, general_index, ccmas]


def class_values(values, label):
    """Return the responses of each class that has images, shifted where some are negative."""
    lowest = min(Fraction(float(values.min())), Fraction(0))
    return [[Fraction(float(v)) - lowest for v in part] for part in groups(values, label)]


def index(best, rest):
    return float((best - rest) / (best + rest)) if best + rest else 0.0


def exact_general(values, label):
    means = sorted(sum(part) / len(part) for part in class_values(values, label))
    return index(means[-1], sum(means[:-1]) / (len(means) - 1))


def exact_ccmas(values, label):
    parts = class_values(values, label)
    means = [sum(part) / len(part) for part in parts]
    found = []
    for at, mean in enumerate(means):
        outside = [v for other, part in enumerate(parts) if other != at for v in part]
        if mean == max(means):
            found.append(index(mean, sum(outside) / len(outside)))
    return min(found)


@pytest.mark.parametrize("unit", range(9))
def test_indices__equal_their_definitions(unit):
    responses, label = recording()
    moments = class_moments(responses, label, CLASSES)
    general = exact_general(responses[unit], label)
    np.testing.assert_allclose(general_index(moments)[unit], general, rtol=1e-9)
    published = np.nan if responses[unit].min() < 0 else general
    np.testing.assert_allclose(morcos_index(moments)[unit], published, rtol=1e-9)
    np.testing.assert_allclose(ccmas(moments)[unit], exact_ccmas(responses[unit], label), rtol=1e-9)


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_indices__equal_their_definitions_for_any_recording(sample):
    responses, label = sample
    moments = class_moments(*sample, CLASSES)
    if np.unique(label).size < 2:
        return
    for unit, values in enumerate(responses):
        got = [general_index(moments)[unit], ccmas(moments)[unit]]
        expected = [exact_general(values, label), exact_ccmas(values, label)]
        # An index of almost equal means has lost the digits that those share.
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-14)


def test_indices__hand_worked_case():
    # Means 2, 6 and 4 of 2, 2 and 1 images: rest (2 + 4) / 2, outside (1 + 3 + 4) / 3.
    moments = moments_of([1, 3, 5, 7, 4], [0, 0, 1, 1, 2])
    np.testing.assert_allclose(morcos_index(moments), [(6 - 3) / (6 + 3)], rtol=1e-14)
    np.testing.assert_allclose(general_index(moments), [(6 - 3) / (6 + 3)], rtol=1e-14)
    np.testing.assert_allclose(ccmas(moments), [(6 - 8 / 3) / (6 + 8 / 3)], rtol=1e-14)


@given(recordings(lowest=0))
@settings(deadline=None, max_examples=40)
def test_general_index__is_the_published_one_without_negative_responses(sample):
    moments = class_moments(*sample, CLASSES)
    np.testing.assert_array_equal(general_index(moments), morcos_index(moments))


def test_morcos_index__one_negative_response_makes_it_undefined():
    moments = class_moments(
        np.array([[0, 1, 2, -1e-45], [0, 1, 2, -0.0]], np.float32), np.array([0, 0, 1, 1]), 2
    )
    assert np.isnan(morcos_index(moments)[0])
    np.testing.assert_allclose(morcos_index(moments)[1], 0.5 / 1.5, rtol=1e-14)


def test_general_index__negative_responses_are_shifted_first():
    shifted = general_index(moments_of([-2, 0, 2, 4], [0, 0, 1, 1]))
    np.testing.assert_allclose(shifted, [(5 - 1) / (5 + 1)], rtol=1e-14)


def test_ccmas__is_the_general_index_where_classes_are_equally_large():
    rng = np.random.default_rng(0)
    moments = class_moments(
        rng.standard_normal((50, 60)).astype(np.float32), np.arange(60) % CLASSES, CLASSES
    )
    np.testing.assert_allclose(ccmas(moments), general_index(moments), rtol=1e-12)


def test_ccmas__of_equal_means_the_class_with_fewest_images_is_the_best():
    # Best class 1 of one image: outside (5 + 5 + 0 + 0) / 4; class 0 would leave (5 + 0 + 0) / 3.
    moments = moments_of([5, 5, 5, 0, 0], [0, 0, 1, 2, 2])
    np.testing.assert_allclose(ccmas(moments), [(5 - 2.5) / (5 + 2.5)], rtol=1e-14)


@pytest.mark.parametrize("level", INDICES)
def test_indices__one_class_alone_is_one(level):
    np.testing.assert_array_equal(level(moments_of([0, 0, 0, 1e30, 1e30], [0, 1, 2, 3, 3])), [1])


@pytest.mark.parametrize("level", INDICES)
@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 1e30, 1e-45])
@pytest.mark.parametrize("images", [2, 3, 1001])
def test_indices__constant_unit_is_zero(level, value, images):
    moments = moments_of([value] * images, np.arange(images) % 3)
    np.testing.assert_array_equal(level(moments), [0])


@pytest.mark.parametrize("level", INDICES)
def test_indices__rounding_in_moments_of_a_constant_unit_is_no_selectivity(level):
    np.testing.assert_array_equal(level(rounded_constant()), [0])


def test_indices__constant_negative_unit_has_no_published_index():
    moments = moments_of([-7.3] * 6, np.arange(6) % 3)
    got = [float(level(moments)[0]) for level in INDICES]
    assert got == pytest.approx([np.nan, 0, 0], abs=0, nan_ok=True)


@pytest.mark.parametrize("level", INDICES)
def test_indices__rounding_of_equal_means_is_never_below_zero(level):
    # The mean of twelve equal class means rounds above them.
    got = level(moments_of([0.5, 0.6, 0.7] * 13, np.repeat(np.arange(13), 3), 13))[0]
    assert 0 <= got < 1e-15


@pytest.mark.parametrize("level", INDICES)
def test_indices__one_class_and_no_images_are_zero(level):
    np.testing.assert_array_equal(level(moments_of([1, 2, 5], [1, 1, 1])), [0])
    empty = class_moments(np.empty((2, 0), np.float32), np.empty(0, np.int64), 3)
    np.testing.assert_array_equal(level(empty), [0, 0])


@pytest.mark.parametrize("level", INDICES)
def test_indices__two_images_of_two_classes(level):
    np.testing.assert_allclose(level(moments_of([1, 3], [0, 1])), [0.5], rtol=1e-14)


@given(recordings(), st.randoms(use_true_random=False), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=40)
def test_indices__do_not_depend_on_order_or_names(sample, random, names):
    moments = class_moments(*sample, CLASSES)
    for other in (reordered(*sample, random), relabelled(*sample, names)):
        for level in INDICES:
            np.testing.assert_allclose(level(other), level(moments), rtol=1e-9, atol=1e-14)


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_indices__stay_in_range_for_any_recording(sample):
    moments = class_moments(*sample, CLASSES)
    for level in (general_index, ccmas):
        assert ((level(moments) >= 0) & (level(moments) <= 1)).all()


@pytest.mark.parametrize("block", [1, 2, 4])
def test_indices__do_not_depend_on_block_size(block):
    responses, label = recording()
    whole = class_moments(responses, label, CLASSES)
    for start in range(0, len(responses), block):
        part = class_moments(responses[start : start + block], label, CLASSES)
        for level in INDICES:
            np.testing.assert_array_equal(level(part), level(whole)[start : start + block])


def test_negative_shift__is_the_smallest_response_where_that_is_negative():
    moments = class_moments(
        np.array([[-2, 4], [3, 5], [-0.0, 1], [-1e30, -1]], np.float32), np.array([0, 1]), 2
    )
    expected = [-2, 0, 0, float(np.float32(-1e30))]
    np.testing.assert_array_equal(negative_shift(moments), expected)
