"""What a unit's binned response tells of the class, from a table of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MutualInformation(NamedTuple):
    """Mutual information of bin and class in nats, each of shape (unit,)."""

    plug_in: NDArray[np.float64]
    """Of the observed frequencies."""
    corrected: NDArray[np.float64]
    """With each entropy corrected for its bias."""


@njit(nogil=True, cache=True)
def _information(
    joint: NDArray[np.int64], plug_in: NDArray[np.float64], excess: NDArray[np.float64]
) -> None:
    """Fill the plug-in information and what the correction adds to it."""
    units, bins, classes = joint.shape
    for unit in range(units):
        in_bin = joint[unit].sum(axis=1)
        in_class = joint[unit].sum(axis=0)
        images = in_bin.sum()
        cells = 0
        total = 0.0
        for b in range(bins):
            for c in range(classes):
                n = joint[unit, b, c]
                if n > 0:
                    cells += 1
                    expected = in_bin[b] * in_class[c]
                    # The integer difference is exact, so independence gives exactly 0.
                    total += n * np.log1p((images * n - expected) / expected)
        if images > 0:
            occupied = (in_bin > 0).sum() + (in_class > 0).sum()
            plug_in[unit] = max(total / images, 0.0)
            excess[unit] = (occupied - cells - 1) / (2.0 * images)


def mutual_information(joint: NDArray[np.int64]) -> MutualInformation:
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
    plug_in = np.zeros(len(joint))
    excess = np.zeros(len(joint))
    _information(np.ascontiguousarray(joint, np.int64), plug_in, excess)
    return MutualInformation(plug_in, np.maximum(plug_in + excess, 0.0))
