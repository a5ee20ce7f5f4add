"""Resamples of the images of an analysis."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.statistics.intervals.image_bootstrap import (
    resample_counts,
    resampled_eta2,
    resampled_interval,
)
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.preference import anova

CODE = np.repeat(np.arange(4), [1, 2, 7, 20])
PLACE = np.random.default_rng(0).permutation(30)


def counts(code=CODE, place=PLACE, group=None, resamples=200, seed=3):
    return resample_counts(code, resamples=resamples, seed=seed, place=place, group=group)


def test_resample_counts__draws_one_less_than_each_class_holds():
    found = counts()
    sums = np.array([found[:, each == CODE].sum(axis=1) for each in range(4)])
    assert (sums == np.array([1, 1, 6, 19])[:, None]).all()
    assert found.dtype == np.int32


def test_resample_counts__mean_of_a_class_varies_as_the_mean_of_its_images():
    found = counts(resamples=20_000)[:, CODE == 2]
    value = np.random.default_rng(1).standard_normal(7)
    means = found @ value / 6
    assert means.mean() == pytest.approx(value.mean(), abs=0.01)
    assert means.var() == pytest.approx(value.var(ddof=1) / 7, rel=0.04)


def test_resample_counts__follows_the_ids_and_neither_order_nor_codes():
    order = np.random.default_rng(2).permutation(30)
    moved = counts(code=3 - CODE[order], place=PLACE[order])
    np.testing.assert_array_equal(moved, counts()[:, order])


def test_resample_counts__whole_groups_are_drawn():
    group = np.array([9, 4, 4, *np.repeat([7, 2, 5], [1, 2, 4]), *np.repeat([0, 1], 10)])
    found = counts(group=group)
    for each in np.unique(group):
        assert (np.ptp(found[:, group == each], axis=1) == 0).all()
    # Two of the three groups of the third class, and one of two of the last.
    leaders = found[:, [3, 4, 6]]
    assert (leaders.sum(axis=1) == 2).all()
    assert set(found[:, CODE == 3].sum(axis=1)) == {10}


def test_resample_counts__a_group_of_two_classes_is_drawn_with_its_most_frequent_one():
    group = np.array([*range(20), *np.repeat([20, 21], 5)])
    code = np.where(np.arange(30) == 29, 0, CODE)
    found = counts(code=code, group=group)
    assert (found[:, 29] == found[:, 28]).all()
    assert len(np.unique(found[:, 29])) > 1


def test_resample_counts__refuses_what_is_not_of_the_images():
    with pytest.raises(ValueError, match="expected 1 resample or more, got 0"):
        counts(resamples=0)
    with pytest.raises(ValueError, match="of each of 30 images"):
        counts(group=np.zeros(29, np.int64))


def test_resampled_eta2__is_that_of_the_drawn_images():
    rng = np.random.default_rng(4)
    responses = (1e3 + rng.standard_normal((5, 30))).astype(np.float32)
    responses[4] = 7.1
    drawn = counts(resamples=6)
    found = resampled_eta2(responses, CODE, 5, drawn)
    for row, expected in zip(drawn, found.T, strict=True):
        image = np.repeat(np.arange(30), row)
        moments = class_moments(responses[:, image], CODE[image], 5)
        np.testing.assert_allclose(expected, anova(moments).eta2, rtol=1e-9)


def test_resampled_interval__by_hand():
    low, high = resampled_interval(0.5, np.array([0.2, 0.4, 0.6]), level=0.95)
    assert (low, high) == pytest.approx((0.5 - 0.2 * 1.959964, 0.5 + 0.2 * 1.959964))
