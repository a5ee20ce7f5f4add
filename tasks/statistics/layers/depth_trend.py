"""Whether a measure rises or falls with the depth of layers."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def depth_correlation(depth: NDArray[np.number], value: NDArray[np.floating]) -> float:
    """Return Spearman's rank correlation of a measure of layers with their depth.

    A description alone: layers of one network resemble their neighbours, so that a large correlation
    is common without any cause; whether it is uncommon, other networks tell. Layers whose value is
    NaN are left out.

    Parameters
    ----------
    depth
        Depth of each layer, shape (layer,).
    value
        Measure of each layer, shape (layer,); NaN where it has none.

    Returns
    -------
    rho in [-1, 1]; NaN with fewer than three layers, or where all depths or all values are equal.

    Raises
    ------
    ValueError
        Where there is not one depth per value, or a depth is NaN.

    References
    ----------
    Spearman (1904), The proof and measurement of association between two things.
    """
    if value.ndim != 1 or depth.shape != value.shape or np.isnan(depth).any():
        msg = (
            "expected one depth and one value per layer, "
            f"got depths of shape {depth.shape} and values of shape {value.shape}"
        )
        raise ValueError(msg)
    kept = ~np.isnan(value)
    x, y = _doubled_ranks(depth[kept]), _doubled_ranks(value[kept])
    # Whole numbers, so correlations that are equal compare as equal.
    size = int(x @ x) * int(y @ y)
    return int(x @ y) / sqrt(size) if kept.sum() >= 3 and size else float("nan")


def _doubled_ranks(value: NDArray[np.number]) -> NDArray[np.int64]:
    """Return twice the midranks less their mean: whole numbers that add up to 0."""
    # A second of import, which who only looks for what is there goes without.
    from scipy.stats import rankdata

    doubled: NDArray[np.int64] = (2.0 * rankdata(value)).astype(np.int64) - (value.size + 1)
    return doubled
