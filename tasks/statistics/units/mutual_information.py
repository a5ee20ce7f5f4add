"""What a unit's binned response tells of the class, from a table of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


_CELLS = 2**15
"""Cells of so many units are looked at together that they stay in the cache."""


class MutualInformation(NamedTuple):
    """Mutual information of bin and class in nats, each of shape (unit,)."""

    plug_in: NDArray[np.float64]
    """Of the observed frequencies."""
    corrected: NDArray[np.float64]
    """With each entropy corrected for its bias."""


@njit(nogil=True, cache=True)
def _margins(
    joint: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return images by bin, shape (unit, bin), and by class, and the cells that are not empty."""
    units, bins, classes = joint.shape
    in_bin = np.zeros((units, bins), np.int64)
    in_class = np.zeros((units, classes), np.int64)
    cells = np.zeros(units, np.int64)
    for unit in range(units):
        for b in range(bins):
            counts, by_class = joint[unit, b], in_class[unit]
            images, occupied = np.int64(0), np.int64(0)
            for c in range(classes):
                n = np.int64(counts[c])
                by_class[c] += n
                images += n
                occupied += np.int64(n > 0)
            in_bin[unit, b] = images
            cells[unit] += occupied
    return in_bin, in_class, cells


# Division by 0 gives infinity, as in NumPy: without a check the loops are vectorised.
@njit(nogil=True, cache=True, error_model="numpy")
def _beyond_expected(
    joint: NDArray[np.integer], in_bin: NDArray[np.int64], in_class: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (observed - expected) / expected of each cell, 0 where it is empty."""
    beyond = np.empty(joint.shape)
    for unit in range(joint.shape[0]):
        images = in_bin[unit].sum()
        for b in range(joint.shape[1]):
            observed, filled = joint[unit, b], beyond[unit, b]
            for c in range(joint.shape[2]):
                n = np.int64(observed[c])
                expected = in_bin[unit, b] * in_class[unit, c]
                # The integer difference is exact, so independence gives exactly 0.
                share = np.float64(images * n - expected) / np.float64(expected)
                filled[c] = share if n > 0 else 0.0
    return beyond


def _information(joint: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the plug-in information and what the correction adds to it, each of shape (unit,)."""
    in_bin, in_class, cells = _margins(joint)
    images = np.maximum(in_bin.sum(axis=1), 1)
    terms = _beyond_expected(joint, in_bin, in_class)
    # By NumPy, whose logarithms are vectorised, and in place.
    np.log1p(terms, out=terms)
    np.multiply(terms, joint, out=terms)
    total = terms.reshape(len(joint), -1).sum(axis=1)
    occupied = np.count_nonzero(in_bin, axis=1) + np.count_nonzero(in_class, axis=1)
    excess = np.where(cells > 0, (occupied - cells - 1) / (2.0 * images), 0.0)
    return np.maximum(total / images, 0.0), excess


def mutual_information(joint: NDArray[np.integer]) -> MutualInformation:
    """Return the mutual information of bin and class, as observed and corrected for bias.

    The plug-in estimate sums p(b, c) ln(p(b, c) / (p(b) p(c))) over observed frequencies; it is
    too large on average, by more the fewer images there are per cell. The corrected estimate is
    H(bin) + H(class) - H(bin, class), each entropy with Miller's correction of (m - 1) / (2 N) for
    m occupied cells and N images: the plug-in estimate + (m_bin + m_class - m_joint - 1) / (2 N),
    and 0 where that is negative. Where bin and class nearly determine each other the correction
    is upwards, as it is for the entropies themselves. Both are 0 where all images are in one bin
    or one class, as for constant units, and without images.

    Parameters
    ----------
    joint
        Images per unit, bin and class, shape (unit, bin, class); at most 3e9 per unit.

    Returns
    -------
    Plug-in and corrected information in nats, shape (unit,): 0 or more, and at most the smaller
    of the entropies of bin and class, plug-in and corrected.

    Raises
    ------
    ValueError
        Where `joint` is not a table of integers of three dimensions, or a count is negative.

    References
    ----------
    Miller (1955), Note on the bias of information estimates; Paninski (2003), Estimation of
    entropy and mutual information, section 4.
    """
    if joint.ndim != 3 or not np.issubdtype(joint.dtype, np.integer):
        msg = (
            "expected integer counts of shape (unit, bin, class), "
            f"got {joint.dtype} of shape {joint.shape}"
        )
        raise ValueError(msg)
    if joint.size and joint.min() < 0:
        msg = f"expected counts of 0 or more, got {joint.min()}"
        raise ValueError(msg)
    plug_in, excess = np.zeros((2, len(joint)))
    counts = np.ascontiguousarray(joint)
    step = max(_CELLS // max(counts[:1].size, 1), 1)
    for first in range(0, len(counts), step):
        units = slice(first, first + step)
        plug_in[units], excess[units] = _information(counts[units])
    return MutualInformation(plug_in, np.maximum(plug_in + excess, 0.0))
