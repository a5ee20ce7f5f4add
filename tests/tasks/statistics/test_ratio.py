"""Division with a stated result where the denominator is 0."""

from __future__ import annotations

import numpy as np

from activarium.tasks.statistics.ratio import ratio


def test_ratio__divides_and_has_its_rule_where_the_denominator_is_zero():
    got = ratio(np.array([1.0, 2.0, 0.0, -3.0]), np.array([4.0, 0.0, -0.0, 2.0]), otherwise=7.0)
    np.testing.assert_array_equal(got, [0.25, 7.0, 7.0, -1.5])


def test_ratio__broadcasts_and_leaves_its_arguments_alone():
    numerator, denominator = np.array([[1.0], [2.0]]), np.array([2.0, 0.0, 4.0])
    got = ratio(numerator, denominator, otherwise=np.inf)
    np.testing.assert_array_equal(got, [[0.5, np.inf, 0.25], [1.0, np.inf, 0.5]])
    np.testing.assert_array_equal(denominator, [2.0, 0.0, 4.0])


def test_ratio__integers_divide_as_floats():
    got = ratio(np.array([1, 3]), np.array([2, 0]), otherwise=0.0)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, [0.5, 0.0])
