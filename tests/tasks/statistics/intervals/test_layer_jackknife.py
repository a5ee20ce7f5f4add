"""Intervals of a layer's means: by leaving images out one part at a time, slowly."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import special, stats

from activarium.tasks.statistics.intervals.layer_jackknife import (
    NO_INTERVALS,
    PARTS,
    image_parts,
    layer_mean_intervals,
)
from activarium.tasks.statistics.layers.layer_moments import column_moments
from activarium.tasks.statistics.layers.layer_rows import ArrayRows
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.preference import anova
from activarium.tasks.statistics.units.selectivity import general_index

CODE = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [12, 25, 40]))


def layer(*, seed=1, negative=True, code=CODE, units=7):
    """Responses (image, unit) with a preference, one unit constant, half of them below 0."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((len(code), units)) + 0.6 * rng.standard_normal((4, units))[code]
    values[:, 2] = 3.0
    values[:, 4:] = np.abs(values[:, 4:]) if not negative else values[:, 4:]
    values[:, :2] = np.maximum(values[:, :2], 0)
    return values.astype(np.float32)


def intervals(values, code=CODE, group=None, level=0.95, block=4096):
    rows = ArrayRows(values, block)
    return layer_mean_intervals(
        rows, code, 4, moments=column_moments(rows), group=group, level=level
    )


def measured(values, code):
    moments = class_moments(np.ascontiguousarray(values.T), code, 4)
    return np.array([anova(moments).eta2.mean(), general_index(moments).mean()])


def slow_interval(values, code, part, which, level):
    """Return one interval from the measure without each part and each pair of parts."""

    def without(*parts):
        kept = ~np.isin(part, parts)
        return measured(values[kept], code[kept])[which]

    g, value = PARTS, without()
    one = np.array([without(each) for each in range(g)])
    variance = (g - 1) / g * ((one - one.mean()) ** 2).sum()
    joint = np.array(
        [
            g * value - (g - 1) * (one[a] + one[b]) + (g - 2) * without(a, b)
            for a, b in combinations(range(g), 2)
        ]
    )
    correction = ((joint - joint.mean()) ** 2).sum() / g**2
    variance -= min(correction, variance) / 2
    half = stats.t.interval(level, g - 1)[1] * np.sqrt(variance) / (value * (1 - value))
    return special.expit(special.logit(value) + np.array([-half, half]))


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_layer_mean_intervals__equal_those_of_the_images_without_each_part(
    level, negative, grouped
):
    values = layer(negative=negative)
    group = np.arange(len(CODE)) // 2 if grouped else None
    found = intervals(values, group=group, level=level)
    part = image_parts(CODE, group)
    for which, ends in enumerate(found):
        np.testing.assert_allclose(ends, slow_interval(values, CODE, part, which, level), rtol=1e-9)


def test_layer_mean_intervals__hold_the_means_and_do_not_depend_on_blocks():
    values = layer()
    whole = intervals(values)
    np.testing.assert_allclose(intervals(values, block=11), whole, rtol=1e-9)
    for (low, high), value in zip(whole, measured(values, CODE), strict=True):
        assert low < value < high


def test_image_parts__spread_every_class_and_keep_groups_together():
    part = image_parts(CODE)
    for code, size in ((0, 12), (1, 25), (3, 40)):
        counts = np.bincount(part[code == CODE], minlength=PARTS)
        assert counts.sum() == size
        assert np.ptp(counts) <= 1
    group = np.random.default_rng(2).permutation(np.arange(len(CODE)) // 4)
    part = image_parts(CODE, group)
    assert all(len(np.unique(part[group == each])) == 1 for each in np.unique(group))
    assert len(np.unique(part)) == PARTS


def test_layer_mean_intervals__few_images_or_few_active_ones_have_none():
    values = layer()
    assert intervals(values)[0][0] > 0
    small = np.where(np.arange(len(CODE)) < 9, 2, CODE)
    assert intervals(values, code=small) == NO_INTERVALS
    assert intervals(np.full_like(values, 2.0)) == NO_INTERVALS
    assert intervals(values, code=np.ones(len(CODE), np.int64)) == NO_INTERVALS
    # The largest class does not count: a tenth of 37 others are fewer than ten.
    rare = np.where(np.random.default_rng(3).random(values.shape) < 0.1, np.abs(values), 0)
    assert intervals(rare.astype(np.float32)) == NO_INTERVALS


@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0])
def test_layer_mean_intervals__cover_the_mean_over_recordings(effect):
    rng = np.random.default_rng(4)
    code = np.repeat(np.arange(4), 30)
    loading, prefers = rng.standard_normal((3, 16)), effect * rng.standard_normal((4, 16))
    found, values = [], []
    for _ in range(300):
        shared = rng.standard_normal((120, 3)) @ loading * 0.5 + prefers[code]
        one = np.maximum(shared + rng.standard_normal((120, 16)), 0).astype(np.float32)
        found.append(intervals(one, code=code))
        values.append(measured(one, code))
    truth = np.mean(values, axis=0)
    low, high = np.moveaxis(np.array(found), -1, 0)
    covered = ((low <= truth) & (truth <= high)).mean(axis=0)
    # Four standard errors of a share of 0.95 are 0.05; a maximum over classes is not smooth, and
    # the interval of the selectivity somewhat narrow where classes differ much.
    assert covered[0] > 0.9
    assert covered[1] > 0.86
