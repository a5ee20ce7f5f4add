"""False discovery rates that hold under any dependence between the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.testing.multiple_testing import benjamini_hochberg

if TYPE_CHECKING:
    from numpy.typing import NDArray


def benjamini_yekutieli(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the q-value of each test, valid however the tests depend on each other.

    The q-value of Benjamini and Hochberg times 1 + 1/2 + ... + 1/M of M tests, at most 1.

    Parameters
    ----------
    p
        p-values, shape (test,), in [0, 1].

    Returns
    -------
    q-values, shape (test,), in [0, 1].

    Raises
    ------
    ValueError
        Where `p` is not one-dimensional, or a value is NaN or outside [0, 1].

    References
    ----------
    Benjamini and Yekutieli (2001), The control of the false discovery rate in multiple testing
    under dependency, theorem 1.3.
    """
    return np.minimum(benjamini_hochberg(p) * _harmonic(p.size), 1.0)


def _harmonic(tests: int) -> float:
    """Return 1 + 1/2 + ... + 1/tests; 1 for no tests."""
    return float(np.sum(1.0 / np.arange(1, max(tests, 1) + 1)))
