"""The columns of the smallest values of each row, by one pass over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def _sift_down(value: NDArray[np.floating], column: NDArray[np.int64], new: float, at: int) -> None:
    """Put a value in the place of the heap's largest, and move it down to where it belongs."""
    place, size = 0, value.size
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and value[child + 1] > value[child]:
            child += 1
        if value[child] <= new:
            break
        value[place], column[place] = value[child], column[child]
        place = child
    value[place], column[place] = new, at


@njit(nogil=True, cache=True)
def _fill(
    values: NDArray[np.floating], found: NDArray[np.int64], held: NDArray[np.floating]
) -> None:
    for row in range(values.shape[0]):
        given, column = values[row], found[row]
        # A heap of the smallest so far, the largest of them on top: most values are larger than
        # that, so that most of the pass is one comparison per value.
        held[:] = np.inf
        column[:] = -1
        for at in range(given.size):
            if given[at] < held[0]:
                _sift_down(held, column, given[at], at)
        column.sort()


def smallest_columns(values: NDArray[np.floating], size: int) -> NDArray[np.int64]:
    """Return the columns of the smallest values of each row, in order of the columns.

    Of equal values at the border any may count.

    Parameters
    ----------
    values
        Matrix without NaN, shape (row, column), of which at least `size` values of each row are
        finite.
    size
        How many, 1 to the number of columns.

    Returns
    -------
    Columns, shape (row, size), ascending.
    """
    found = np.empty((len(values), size), np.int64)
    _fill(values, found, np.empty(size, values.dtype))
    return found
