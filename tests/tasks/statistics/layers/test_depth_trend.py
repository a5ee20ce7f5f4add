"""The correlation of a measure with depth, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activarium.tasks.statistics.layers.depth_trend import depth_correlation


@pytest.mark.parametrize("layers", [3, 11, 300])
@pytest.mark.parametrize("slope", [0.0, 0.03, -0.1])
@pytest.mark.parametrize("step", [0.01, 2.0])
def test_depth_correlation__equals_scipy(layers, slope, step):
    rng = np.random.default_rng(layers)
    depth = np.arange(layers) // 2
    value = np.round((10 * slope * depth + 9 * rng.standard_normal(layers)) / step) * step
    expected = stats.spearmanr(depth, value).statistic
    assert depth_correlation(depth, value) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.integers(0, 4), min_size=3, max_size=8), data=st.data())
def test_depth_correlation__follows_ranks_and_the_sign_alone(values, data):
    value = np.array(values, float)
    depth = np.array(data.draw(st.permutations(range(len(values)))))
    found = depth_correlation(depth, value)
    if np.ptp(value) == 0:
        assert np.isnan(found)
        return
    assert depth_correlation(depth, np.exp(value)) == found
    assert depth_correlation(depth, -value) == -found


def test_depth_correlation__layers_without_a_value_are_left_out():
    depth, value = np.arange(5), np.array([1.0, np.nan, 2.0, 3.0, np.nan])
    assert depth_correlation(depth, value) == 1
    assert np.isnan(depth_correlation(depth[:3], value[:3]))


def test_depth_correlation__shapes_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="one depth and one value per layer"):
        depth_correlation(np.arange(3), np.zeros(2))
