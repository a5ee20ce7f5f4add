"""A network among draws: p-values that are exact where all are drawn alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.tasks.statistics.testing.monte_carlo import (
    apart_p,
    monte_carlo_max_p,
    monte_carlo_p,
)


def networks(rng, count, layers=12):
    """Return layers that depend on their neighbours, and lie high or low together."""
    common = rng.normal(size=(count, 1))
    steps = rng.normal(size=(count, layers)).cumsum(axis=1)
    return 0.3 + 0.1 * np.arange(layers) + common + 0.3 * steps


def test_monte_carlo_p__counts_draws_that_reach_it():
    draws = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, np.nan]])
    p = monte_carlo_p(np.array([0.2, 0.9]), draws)
    assert p[0] == pytest.approx(3 / 4)
    assert np.isnan(p[1])
    assert monte_carlo_p(np.array([0.4]), draws[:, :1]) == [0.25]


@pytest.mark.parametrize("draws", [1, 19, 39])
def test_monte_carlo__keeps_its_level_however_layers_depend(draws):
    rng = np.random.default_rng(draws)
    found = [networks(rng, draws + 1) for _ in range(1500)]
    smallest = np.array([monte_carlo_max_p(each[0], each[1:]).min() for each in found])
    single = np.array([monte_carlo_p(each[0], each[1:])[5] for each in found])
    for p in (smallest, single):
        for level in (0.05, 0.1, 0.5):
            # Three standard errors of 1,500 trials.
            assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 1500)
    if draws == 1:  # both deviate alike: ties count against
        return
    # Exact where the level is a step of it.
    steps = np.round(smallest * (draws + 1))
    assert abs((steps <= 1).mean() - 1 / (draws + 1)) < 4 * np.sqrt(1 / (draws + 1) / 1500)


def test_monte_carlo_max_p__says_yes_to_a_network_apart_in_all_layers():
    rng = np.random.default_rng(0)
    table = networks(rng, 20)
    table[0] += 30
    assert (monte_carlo_max_p(table[0], table[1:]) == 1 / 20).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_monte_carlo_max_p__does_not_hang_on_a_layers_scale(seed, scale, shift):
    table = networks(np.random.default_rng(seed), 8)
    before = monte_carlo_max_p(table[0], table[1:])
    table[:, 3] = table[:, 3] * scale + shift
    np.testing.assert_allclose(monte_carlo_max_p(table[0], table[1:]), before)


def test_monte_carlo_max_p__unknown_and_equal_layers_take_no_part():
    table = networks(np.random.default_rng(1), 20, layers=3)
    table[4, 0], table[:, 1] = np.nan, 0.5
    p = monte_carlo_max_p(table[0], table[1:])
    assert np.isnan(p[0])
    assert p[2] == monte_carlo_p(table[0, 2:], table[1:, 2:])[0] or p[2] >= 1 / 20
    assert np.isnan(monte_carlo_max_p(np.full(2, np.nan), np.zeros((3, 2)))).all()


def test_apart_p__is_two_sided_and_keeps_its_level():
    assert apart_p(5.0, np.arange(19) / 19) == 1 / 20
    assert apart_p(-5.0, np.arange(19) / 19) == 1 / 20
    assert np.isnan(apart_p(np.nan, np.zeros(3)))
    rng = np.random.default_rng(2)
    p = np.array([apart_p(each[0], each[1:]) for each in rng.normal(size=(2000, 20))])
    assert abs((p <= 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)
