"""False discovery rates against SciPy and statsmodels, and beyond the range of a double."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from statsmodels.stats.multitest import multipletests

from activarium.tasks.statistics.testing.multiple_testing import (
    benjamini_hochberg,
    benjamini_hochberg_log10,
)

p_values = hnp.arrays(
    np.float64,
    st.integers(1, 40),
    elements=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-300, 0.01, 0.5, 1.0])),
)


def test_benjamini_hochberg__hand_worked_case():
    # 0.01 x 4/1 = 0.04; 0.02 x 4/2 = 0.04; 0.03 x 4/3 = 0.04; 0.5 x 4/4 = 0.5.
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.5, 0.02, 0.01, 0.03])),
                               [0.5, 0.04, 0.04, 0.04], rtol=1e-12)  # fmt: skip


@given(p_values)
@settings(deadline=None, max_examples=80)
def test_benjamini_hochberg__equals_scipy_and_statsmodels(p):
    q = benjamini_hochberg(p)
    # Subnormal numbers have few digits: there a last one may differ.
    near = {"rtol": 1e-12, "atol": 1e-322}
    np.testing.assert_allclose(q, stats.false_discovery_control(p), **near)
    np.testing.assert_allclose(q, multipletests(p, method="fdr_bh")[1], **near)


@given(p_values)
@settings(deadline=None, max_examples=40)
def test_benjamini_hochberg__never_below_p_and_in_its_order(p):
    q = benjamini_hochberg(p)
    assert (q >= p * (1 - 1e-15)).all()
    assert (np.diff(q[np.argsort(p)]) >= 0).all()


@given(p_values.filter(lambda p: (p > 1e-300).all()))
@settings(deadline=None, max_examples=40)
def test_benjamini_hochberg_log10__equals_the_linear_form(p):
    q = benjamini_hochberg_log10(np.log10(p))
    np.testing.assert_allclose(q, np.log10(benjamini_hochberg(p)), rtol=1e-9, atol=1e-12)


def test_benjamini_hochberg_log10__underflowed_values_keep_order_and_size():
    log10_p = np.array([-1.0, -5000.0, -np.inf, -400.0])
    expected = [-1.0, -5000 + np.log10(2), -np.inf, -400 + np.log10(4 / 3)]
    np.testing.assert_allclose(benjamini_hochberg_log10(log10_p), expected, rtol=1e-14)


@pytest.mark.parametrize("adjust", [benjamini_hochberg, benjamini_hochberg_log10])
def test_benjamini_hochberg__no_tests_give_no_values(adjust):
    assert adjust(np.empty(0)).shape == (0,)


@pytest.mark.parametrize("p", [[0.1, np.nan], [0.1, 1.5], [-0.1, 0.5], [[0.1], [0.2]]])
def test_benjamini_hochberg__what_is_no_p_value_is_an_error(p):
    with pytest.raises(ValueError, match="expected p "):
        benjamini_hochberg(np.array(p))


@pytest.mark.parametrize("log10_p", [[-1, np.nan], [0.5, -1], [[-1.0]]])
def test_benjamini_hochberg_log10__what_is_no_logarithm_of_one_is_an_error(log10_p):
    with pytest.raises(ValueError, match="expected log10_p "):
        benjamini_hochberg_log10(np.array(log10_p))
