"""Ranks of classes against SciPy, by hand, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.class_ranks import class_rank
from activarium.tasks.statistics.units.preference import preferred_classes

from ..moment_examples import (
    CLASSES,
    EMPTY,
    moments_of,
    recording,
    recordings,
    relabelled,
    reordered,
)


def rank_of(moments):
    return class_rank(moments.mean, moments.count)


def test_class_rank__hand_worked_case():
    mean = np.array([[3.0, 7, 7, np.nan, -1], [5, 4, 3, np.nan, 2], [0, -0.0, 0, np.nan, 1e-45]])
    got = class_rank(mean, np.array([2, 1, 5, 0, 1]))
    assert got.tolist() == [[3, 1, 1, 0, 4], [1, 2, 3, 0, 4], [2, 2, 2, 0, 1]]


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_class_rank__equals_scipy(sample):
    moments = class_moments(*sample, CLASSES)
    filled = moments.count > 0
    got = rank_of(moments)
    expected = stats.rankdata(-moments.mean[:, filled], method="min", axis=1)
    np.testing.assert_array_equal(got[:, filled], expected)
    np.testing.assert_array_equal(got[:, ~filled], 0)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
@pytest.mark.parametrize("images", [2, 3, 1001])
def test_class_rank__classes_of_a_constant_unit_share_the_first(value, images):
    got = rank_of(moments_of([value] * images, np.arange(images) % 3))[0]
    filled = min(images, 3)
    assert got.tolist() == [1] * filled + [0] * (CLASSES - filled)


def test_class_rank__one_class_is_first_and_no_images_have_no_rank():
    assert rank_of(moments_of([1, 2, 5], [1, 1, 1])).tolist() == [[0, 1, 0, 0, 0]]
    empty = class_moments(np.empty((2, 0), np.float32), np.empty(0, np.int64), 3)
    assert rank_of(empty).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_class_rank__the_preferred_class_is_first():
    moments = class_moments(*recording(), CLASSES)
    preferred = preferred_classes(moments.mean, moments.count).preferred
    got = rank_of(moments)
    np.testing.assert_array_equal(got[np.arange(len(got)), preferred], 1)
    np.testing.assert_array_equal(got[:, EMPTY], 0)


@given(recordings(), st.randoms(use_true_random=False), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=40)
def test_class_rank__follows_order_and_names(sample, random, names):
    whole = rank_of(class_moments(*sample, CLASSES))
    np.testing.assert_array_equal(rank_of(reordered(*sample, random)), whole)
    np.testing.assert_array_equal(rank_of(relabelled(*sample, names))[:, names], whole)
