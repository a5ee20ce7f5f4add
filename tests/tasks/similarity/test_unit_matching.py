from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activarium.tasks.similarity.centred_responses import centre
from activarium.tasks.similarity.unit_matching import match_units, unit_correlations
from activarium.tasks.statistics.layers.layer_rows import ArrayRows


def correlations(x, y):
    return unit_correlations(*(centre(ArrayRows(each.astype(np.float32), 7)) for each in (x, y)))


def test_unit_correlations__equal_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) * 1e-20
    y = rng.normal(size=(50, 3)) + 1e20 * x[:, :3]
    expected = np.corrcoef(x.T.astype(np.float32), y.T.astype(np.float32))[:4, 4:]
    np.testing.assert_allclose(correlations(x, y), expected, atol=1e-12)


def test_unit_correlations__of_constant_units_are_undefined():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    x[:, 1], y[:, 2] = 0.1, 0.0
    assert np.isnan(correlations(x, y)).tolist() == [
        [False, False, True],
        [True, True, True],
        [False, False, True],
    ]


def test_match_units__permuted_units_are_found_again():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8))
    order = rng.permutation(8)
    found = match_units(correlations(x, x[:, order] * 3 + 1))
    expected = np.argsort(order)
    assert found.best.tolist() == found.assigned.tolist() == expected.tolist()
    np.testing.assert_allclose(found.assigned_r, 1, atol=1e-6)
    np.testing.assert_allclose(found.same_r[order == np.arange(8)], 1, atol=1e-6)


def test_match_units__a_negative_is_the_best_partner_and_not_assigned():
    r = np.array([[0.1, -0.9], [0.2, 0.3]])
    found = match_units(r)
    assert (found.best.tolist(), found.best_r.tolist()) == ([1, 1], [-0.9, 0.3])
    assert (found.assigned.tolist(), found.assigned_r.tolist()) == ([0, 1], [0.1, 0.3])
    assert found.same_r.tolist() == [0.1, 0.3]


def test_match_units__constant_units_take_no_part():
    nan = np.nan
    found = match_units(np.array([[nan, nan, nan], [nan, -0.5, -0.6], [nan, 0.1, 0.2]]))
    assert found.best.tolist() == [-1, 2, 2]
    # Each varying unit has a partner, even where they are opposed.
    assert found.assigned.tolist() == [-1, 1, 2]
    np.testing.assert_array_equal(found.assigned_r, [nan, -0.5, 0.2])
    np.testing.assert_array_equal(found.same_r, [nan, -0.5, 0.2])


def test_match_units__of_layers_of_different_size():
    r = np.array([[0.1, 0.2, 0.9]])
    wide, tall = match_units(r), match_units(r.T)
    assert (wide.best.tolist(), wide.assigned.tolist()) == ([2], [2])
    assert tall.best.tolist() == [0, 0, 0]
    assert tall.assigned.tolist() == [-1, -1, 0]
    np.testing.assert_array_equal(tall.same_r, [0.1, np.nan, np.nan])


def test_match_units__equal_correlations_go_to_the_lower_channel():
    assert match_units(np.array([[0.5, 0.5 + 1e-15, -0.5]])).best.tolist() == [0]


@given(seed=st.integers(0, 1_000), units=st.integers(1, 5))
def test_match_units__assignment_has_the_largest_sum(seed, units):
    r = np.random.default_rng(seed).uniform(-1, 1, (units, units))
    largest = max(sum(r[range(units), order]) for order in permutations(range(units)))
    assert match_units(r).assigned_r.sum() == pytest.approx(largest)
