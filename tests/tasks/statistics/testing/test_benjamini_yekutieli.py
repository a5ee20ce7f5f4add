"""False discovery rates under dependence against SciPy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from statsmodels.stats.multitest import multipletests

from activarium.tasks.statistics.testing.benjamini_yekutieli import benjamini_yekutieli
from activarium.tasks.statistics.testing.multiple_testing import benjamini_hochberg

p_values = hnp.arrays(
    np.float64,
    st.integers(1, 40),
    # What lies below the normal range of a double has too few digits to compare.
    elements=st.one_of(
        st.floats(0, 1, allow_subnormal=False), st.sampled_from([0.0, 1e-300, 0.01, 0.5, 1.0])
    ),
)


def test_benjamini_yekutieli__hand_worked_case():
    # 1 + 1/2 + 1/3 + 1/4 = 25/12 times 0.04, 0.04, 0.04 and 0.5.
    got = benjamini_yekutieli(np.array([0.5, 0.02, 0.01, 0.03]))
    np.testing.assert_allclose(got, [1, 1 / 12, 1 / 12, 1 / 12], rtol=1e-12)


@given(p_values)
@settings(deadline=None, max_examples=60)
def test_benjamini_yekutieli__equals_scipy_and_statsmodels(p):
    q = benjamini_yekutieli(p)
    np.testing.assert_allclose(q, stats.false_discovery_control(p, method="by"), rtol=1e-12)
    np.testing.assert_allclose(q, multipletests(p, method="fdr_by")[1], rtol=1e-12)


@given(p_values)
@settings(deadline=None, max_examples=40)
def test_benjamini_yekutieli__is_never_below_benjamini_hochberg(p):
    q = benjamini_yekutieli(p)
    assert (q >= benjamini_hochberg(p)).all()
    assert (q <= 1).all()


@given(p_values, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_benjamini_yekutieli__follows_the_order_of_the_tests(p, random):
    order = list(range(p.size))
    random.shuffle(order)
    np.testing.assert_array_equal(benjamini_yekutieli(p[order]), benjamini_yekutieli(p)[order])


def test_benjamini_yekutieli__one_test_is_its_own_q_and_none_is_empty():
    np.testing.assert_array_equal(benjamini_yekutieli(np.array([0.3])), [0.3])
    assert benjamini_yekutieli(np.empty(0)).size == 0


def test_benjamini_yekutieli__values_that_are_no_p_are_refused():
    with pytest.raises(ValueError, match="expected p from 0 to 1, got nan at index 1"):
        benjamini_yekutieli(np.array([0.1, np.nan]))
