"""Where each class stands in a unit's order of preference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def class_rank(mean: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each class by its mean response, 1 for the largest mean.

    Equal means share the smallest of their ranks and the ranks after them are left out, as in
    1, 2, 2, 4; so all classes of a constant unit have rank 1. 0 stands for undefined: classes
    without images.

    Parameters
    ----------
    mean
        Mean response, shape (unit, class).
    count
        Images per class, shape (class,).

    Returns
    -------
    Ranks, shape (unit, class), from 0 to the number of classes with images.
    """
    rank = np.zeros(mean.shape, np.int64)
    code = np.flatnonzero(count > 0)
    if code.size == 0:
        return rank
    falling = -mean if code.size == count.size else -mean[:, code]
    _fill_ranks(falling, np.argsort(falling, axis=1), code, rank)
    return rank


@njit(nogil=True, cache=True)
def _fill_ranks(
    value: NDArray[np.float64],
    order: NDArray[np.int64],
    code: NDArray[np.int64],
    rank: NDArray[np.int64],
) -> None:
    """Fill the rank of each value, the smallest first: that of the k-th in column code[k]."""
    for unit in range(value.shape[0]):
        last, shared = np.nan, 0
        for position in range(code.size):
            column = order[unit, position]
            if value[unit, column] != last:
                last, shared = value[unit, column], position + 1
            rank[unit, code[column]] = shared
