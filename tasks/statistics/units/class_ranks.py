"""Where each class stands in a unit's order of preference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    falling = -mean[:, code]
    order = np.argsort(falling, axis=1)
    ordered = np.take_along_axis(falling, order, axis=1)
    first = np.ones(ordered.shape, np.bool_)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    position = np.where(first, np.arange(1, code.size + 1), 0)
    filled = np.empty(order.shape, np.int64)
    np.put_along_axis(filled, order, np.maximum.accumulate(position, axis=1), axis=1)
    rank[:, code] = filled
    return rank
