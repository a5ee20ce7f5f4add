"""False discovery rates over many tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the q-value of each test: the smallest false discovery rate that accepts it.

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
    Benjamini and Hochberg (1995), Controlling the false discovery rate, procedure 1.
    """
    _check(p, low=0.0, high=1.0, name="p")
    order = np.argsort(p)  # equal p-values have equal q-values in any order
    scaled = p.size / np.arange(1, p.size + 1)
    scaled *= p[order]
    return _smallest_from_here(scaled, order, 1.0)


def benjamini_hochberg_log10(log10_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log10 of the q-value of each test from log10 of its p-value.

    Equal to `benjamini_hochberg`, but p-values smaller than a double can hold keep their order
    and size.

    Parameters
    ----------
    log10_p
        log10 of the p-values, shape (test,), in [-inf, 0].

    Returns
    -------
    log10 of the q-values, shape (test,), in [-inf, 0].

    Raises
    ------
    ValueError
        Where `log10_p` is not one-dimensional, or a value is NaN or above 0.

    References
    ----------
    Benjamini and Hochberg (1995), Controlling the false discovery rate, procedure 1.
    """
    _check(log10_p, low=-np.inf, high=0.0, name="log10_p")
    order = np.argsort(log10_p)
    scaled = log10_p[order] + np.log10(log10_p.size / np.arange(1, log10_p.size + 1))
    return _smallest_from_here(scaled, order, 0.0)


@njit(nogil=True, cache=True)
def _smallest_from_here(
    values: NDArray[np.float64], order: NDArray[np.int64], most: float
) -> NDArray[np.float64]:
    """Return the least of each value, those after it and `most`, the i-th of them at order[i]."""
    least = np.empty(values.size)
    for i in range(values.size - 1, -1, -1):
        most = min(most, values[i])
        least[order[i]] = most
    return least


def _check(values: NDArray[np.float64], *, low: float, high: float, name: str) -> None:
    if values.ndim != 1:
        msg = f"expected {name} of shape (test,), got shape {values.shape}"
        raise ValueError(msg)
    # Written so that NaN, which compares as false, is caught too.
    outside = ~((values >= low) & (values <= high))
    if outside.any():
        at = int(np.argmax(outside))
        msg = f"expected {name} from {low:g} to {high:g}, got {float(values[at])!r} at index {at}"
        raise ValueError(msg)
