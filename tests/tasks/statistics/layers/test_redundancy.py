"""Groups of copies against a slow reading of the rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.tasks.statistics.layers.layer_rows import ArrayRows
from activarium.tasks.statistics.layers.redundancy import redundancy_groups
from activarium.tasks.statistics.layers.spectrum import covariance

from .layer_examples import CONSTANT, awkward_layer


def slow_groups(values, threshold):
    """Read the rule unit by unit, with NumPy's correlation of each pair."""
    copies, correlation, leaders = [], [], []
    for unit in range(values.shape[1]):
        best, best_r = -1, np.nan
        if np.ptp(values[:, unit]) > 0:
            for leader in leaders:
                r = np.corrcoef(values[:, unit], values[:, leader])[0, 1]
                larger = best < 0 or abs(r) > abs(best_r) + 1e-12
                if abs(r) >= threshold - 1e-12 and larger:
                    best, best_r = leader, r
            if best < 0:
                leaders.append(unit)
        copies.append(best)
        correlation.append(best_r)
    return copies, correlation


def mixture(seed, units=14, images=50):
    """Units made of a few sources, so that many pairs correlate to all degrees."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((images, 3))
    weight = rng.choice([-2.0, -1, 0, 1, 3], (3, units))
    noise = rng.choice([0.0, 0.1, 0.5], units)
    return (sources @ weight + noise * rng.standard_normal((images, units))).astype(np.float32)


def groups_of(values, **settings_):
    return redundancy_groups(covariance(ArrayRows(values)), **settings_)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), threshold=st.sampled_from([0.3, 0.8, 0.95, 1.0]))
def test_redundancy__equals_a_slow_reading_of_the_rule(seed, threshold):
    values = mixture(seed)
    found = groups_of(values, threshold=threshold)
    copies, correlation = slow_groups(values.astype(np.float64), threshold)
    assert found.copies.tolist() == copies
    np.testing.assert_allclose(found.copies_r, correlation, rtol=1e-9)
    expected = [unit if copy < 0 else copy for unit, copy in enumerate(copies)]
    assert found.group.tolist() == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_redundancy__follows_neither_order_of_images_nor_scale_of_units(seed):
    values = mixture(seed)
    rng = np.random.default_rng(seed)
    scale = 2.0 ** rng.integers(-20, 20, values.shape[1])
    changed = (values[rng.permutation(len(values))] * scale).astype(np.float32)
    found, again = groups_of(values), groups_of(changed)
    np.testing.assert_array_equal(again.copies, found.copies)
    np.testing.assert_allclose(again.copies_r, found.copies_r, rtol=1e-9)


def test_redundancy__by_hand():
    r = np.array([
        [1, 0.2, 0.96, 0.90, -0.97],
        [0.2, 1, 0.98, 0.1, 0.0],
        [0.96, 0.98, 1, 0.99, 0.0],
        [0.90, 0.1, 0.99, 1, 0.0],
        [-0.97, 0.0, 0.0, 0.0, 1],
    ])  # fmt: skip
    sd = np.array([1, 2, 4, 8, 16.0])
    found = redundancy_groups(r * np.outer(sd, sd))
    # Unit 2 is nearer to leader 1; unit 3 resembles only the copy 2 and so leads its own.
    assert found.group.tolist() == [0, 1, 1, 3, 0]
    assert found.copies.tolist() == [-1, -1, 1, -1, 0]
    np.testing.assert_allclose(found.copies_r, [np.nan, np.nan, 0.98, np.nan, -0.97])


def test_redundancy__of_equal_correlations_the_lowest_channel_leads():
    r = np.array([[1, 0, 0.96], [0, 1, -0.96], [0.96, -0.96, 1]])
    assert redundancy_groups(r).copies.tolist() == [-1, -1, 0]
    r[2, 1] = r[1, 2] = -0.96 - 1e-15
    assert redundancy_groups(r).copies.tolist() == [-1, -1, 0]


def test_redundancy__threshold_itself_is_reached():
    r = np.array([[1, 0.95], [0.95, 1]])
    assert redundancy_groups(r, threshold=0.95).copies.tolist() == [-1, 0]
    assert redundancy_groups(r, threshold=0.9500001).copies.tolist() == [-1, -1]


def test_redundancy__exact_copies_of_awkward_units_are_found_at_threshold_one():
    values, _ = awkward_layer()
    varying = np.delete(values, [*CONSTANT, 6], axis=1)
    found = groups_of(np.concatenate([varying, -varying], axis=1), threshold=1.0)
    units = varying.shape[1]
    assert found.copies.tolist() == [-1] * units + list(range(units))
    np.testing.assert_allclose(found.copies_r[units:], -1, rtol=1e-12)
    assert (np.abs(found.copies_r[units:]) <= 1).all()


def test_redundancy__constant_units_lead_groups_of_their_own():
    values, _ = awkward_layer()
    found = groups_of(values)
    assert found.group[CONSTANT].tolist() == CONSTANT
    assert found.copies[CONSTANT].tolist() == [-1, -1]
    assert np.isnan(found.copies_r[CONSTANT]).all()
    assert (found.copies[6], found.copies_r[6]) == (1, pytest.approx(-1, rel=1e-9))
    assert groups_of(np.ones((4, 3), np.float32)).group.tolist() == [0, 1, 2]


def test_redundancy__two_images_make_all_varying_units_copies_of_the_first():
    values = np.array([[5, 1, 0, 3], [5, 2, 7, 2]], np.float32)
    found = groups_of(values)
    assert found.copies.tolist() == [-1, -1, 1, 1]
    np.testing.assert_allclose(found.copies_r[2:], [1, -1], rtol=1e-12)


def test_redundancy__without_units():
    assert redundancy_groups(np.zeros((0, 0))).group.shape == (0,)


def test_redundancy__misfits_are_errors():
    with pytest.raises(ValueError, match=r"got shape \(2, 3\)"):
        redundancy_groups(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite covariance"):
        redundancy_groups(np.array([[np.inf]]))
    for threshold in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="threshold above 0 and at most 1"):
            redundancy_groups(np.eye(2), threshold=threshold)
