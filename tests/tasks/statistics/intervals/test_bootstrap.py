"""Bootstrap intervals of a mean against SciPy, their coverage, and their edges."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from activarium.tasks.statistics.intervals import bootstrap
from activarium.tasks.statistics.intervals.bootstrap import bootstrap_mean_interval

SAMPLES = {
    "normal": lambda rng: rng.standard_normal(80),
    "skewed": lambda rng: rng.exponential(size=40) ** 2,
    "offset": lambda rng: 1e4 + 0.1 * rng.exponential(size=60),
    "large": lambda rng: 1e30 * rng.standard_normal(30),
}


def sample(name):
    return SAMPLES[name](np.random.default_rng(3))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("level", [0.8, 0.99])
def test_bootstrap_mean_interval__equals_scipy_on_the_same_resamples(name, level):
    values = np.sort(sample(name))
    # The means of the same draws, seen by SciPy as its own.
    shifts = bootstrap._resampled_means(values - values.mean(), 999, seed=5)
    drawn = SimpleNamespace(bootstrap_distribution=values.mean() + shifts)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=0, confidence_level=level, bootstrap_result=drawn
    ).confidence_interval
    got = bootstrap_mean_interval(values, level=level, resamples=999, seed=5)
    spread = np.ptp(values)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * spread)


@pytest.mark.parametrize("name", SAMPLES)
def test_bootstrap_mean_interval__is_distributed_as_scipys(name):
    values = sample(name)
    error = values.std() / np.sqrt(values.size)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4999, rng=np.random.default_rng(0)
    ).confidence_interval
    got = [bootstrap_mean_interval(values, resamples=4999, seed=seed) for seed in range(5)]
    # An end moves between seeds by some hundredths of the mean's standard error.
    np.testing.assert_allclose(np.array(got) / error, np.array([expected] * 5) / error, atol=0.25)
    assert len(set(got)) == 5


@pytest.mark.parametrize("values", [[0.3, 0.3], [-0.0, 0.0], [1e30] * 100, [5e-324] * 3])
def test_bootstrap_mean_interval__equal_values_give_that_value(values):
    assert bootstrap_mean_interval(np.array(values), seed=0) == (values[0], values[0])


@pytest.mark.parametrize("values", [[], [3.0]])
def test_bootstrap_mean_interval__fewer_than_two_values_are_undefined(values):
    assert np.isnan(bootstrap_mean_interval(np.array(values), seed=0)).all()


def test_bootstrap_mean_interval__two_values():
    # A resample has the mean 0, 1/2 or 1; a quarter of them lies at each end.
    assert bootstrap_mean_interval(np.array([0.0, 1.0]), seed=0) == (0, 1)
    assert bootstrap_mean_interval(np.array([0.0, 1.0]), level=0.3, seed=0) == (0.5, 0.5)


@pytest.mark.parametrize("divisor", [1, 3, 7, 49])
def test_bootstrap_mean_interval__ties_with_the_mean_count_one_half(divisor):
    # Of 999 resamples 157 have the mean of the values, 1/3, which is no
    # double: rounding must not decide on which side of it they are.
    values = np.array([0.0, 0.0, 1.0] * 9)
    got = bootstrap_mean_interval(values / divisor, level=0.9, resamples=999, seed=0)
    expected = bootstrap_mean_interval(values * 3, level=0.9, resamples=999, seed=0)
    np.testing.assert_allclose(np.array(got) * divisor * 3, expected, rtol=1e-9)


@pytest.mark.parametrize("resamples", [1, 2, 5])
def test_bootstrap_mean_interval__few_resamples_stay_among_the_values(resamples):
    values = np.append(np.zeros(99), 1.0)
    for seed in range(20):
        low, high = bootstrap_mean_interval(values, resamples=resamples, level=1 - 1e-9, seed=seed)
        assert 0 <= low <= high <= 1


@given(
    hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(-1e6, 1e6)),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=40)
def test_bootstrap_mean_interval__does_not_depend_on_order(values, random):
    order = list(range(values.size))
    random.shuffle(order)
    got = bootstrap_mean_interval(values, resamples=99, seed=1)
    assert bootstrap_mean_interval(values[order], resamples=99, seed=1) == got
    assert values.min() <= got.low <= got.high <= values.max()


def test_bootstrap_mean_interval__draws_do_not_depend_on_what_is_held_at_a_time(monkeypatch):
    values = sample("skewed")
    whole = bootstrap_mean_interval(values, resamples=501, seed=2)
    monkeypatch.setattr(bootstrap, "_DRAWS", 100)
    assert bootstrap_mean_interval(values, resamples=501, seed=2) == whole


def test_bootstrap_mean_interval__covers_the_mean():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(400):
        values = rng.exponential(size=50)
        low, high = bootstrap_mean_interval(values, resamples=499, level=0.9, seed=seed)
        held += low <= 1 <= high
    # BCa of 50 skewed values covers a little less than it says; four standard errors are 24.
    assert 330 <= held <= 384


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, np.nan], {}, "expected finite values"),
        ([1.0, np.inf], {}, "expected finite values"),
        ([[1.0, 2.0]], {}, r"got shape \(1, 2\)"),
        ([1.0, 2.0], {"level": 1.0}, "expected a level between 0 and 1"),
        ([1.0, 2.0], {"resamples": 0}, "expected 1 resample or more, got 0"),
    ],
)
def test_bootstrap_mean_interval__other_arguments_are_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean_interval(np.array(values), seed=0, **options)
