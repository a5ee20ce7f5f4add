"""Whether units of one layer have larger values than those of another, where units depend.

Units of a layer that share what they answer to also share what the class explains of them, and as
many copies as one likes of one unit are one unit. So units count here by how many independent ones
they are worth, such as the effective dimension of their layer; at most their number, and at least 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def exceeds_p(
    own: NDArray[np.float64], other: NDArray[np.float64], *, own_size: float, other_size: float
) -> float:
    """Return the one-sided p-value of `own` being no larger than `other`.

    Mann and Whitney's test with the units counted by what they are worth. 1 where all values are
    equal; NaN where one is unknown.

    Parameters
    ----------
    own, other
        Values, shape (unit,).
    own_size, other_size
        Independent units that each is worth.

    References
    ----------
    Mann and Whitney (1947); Kish (1965), Survey sampling, section 8.2, for effective sizes.
    """
    if np.isnan(own).any() or np.isnan(other).any():
        return float("nan")
    if np.ptp(np.concatenate([own, other])) == 0:
        return 1.0
    n, m = _counted(own, own_size), _counted(other, other_size)
    sd = np.sqrt((n + m + 1.0) / (12.0 * n * m))
    return float(stats.norm.sf((_share_larger(own, np.sort(other)) - 0.5) / sd))


def rises_z(groups: Sequence[NDArray[np.float64]], sizes: Sequence[float]) -> float:
    """Return how far values rise over ordered groups, in standard deviations of no trend.

    Jonckheere and Terpstra's statistic with the units of each group counted by what they are worth.
    0 for fewer than two groups and where all values are equal.

    Parameters
    ----------
    groups
        Values of each group, shape (unit,), in order.
    sizes
        Independent units that each group is worth.

    References
    ----------
    Jonckheere (1954), A distribution-free k-sample test against ordered alternatives; Kish (1965),
    Survey sampling, section 8.2.
    """
    if len(groups) < 2 or np.ptp(np.concatenate(groups)) == 0:
        return 0.0
    count = np.array([_counted(*each) for each in zip(groups, sizes, strict=True)])
    ordered = [np.sort(group) for group in groups]
    total = 0.0
    for later in range(1, len(groups)):
        for earlier in range(later):
            share = _share_larger(groups[later], ordered[earlier])
            total += count[earlier] * count[later] * (share - 0.5)
    whole = count.sum()
    variance = (whole**2 * (2.0 * whole + 3.0) - (count**2 * (2.0 * count + 3.0)).sum()) / 72.0
    return float(total / np.sqrt(variance))


def _counted(values: NDArray[np.float64], size: float) -> float:
    return float(np.clip(np.nan_to_num(size, nan=1.0), 1.0, len(values)))


def _share_larger(values: NDArray[np.float64], ordered: NDArray[np.float64]) -> float:
    """Return the share of pairs in which `values` is larger, ties one half."""
    below = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    return float(below.mean() / 2.0 / len(ordered))
