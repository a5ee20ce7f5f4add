"""Points: matrices of images x features, checked, divided into blocks and moved to their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]

MATRIX_DIMENSIONS = 2


def checked_points(points: Floats, *, fewest: int = 1) -> Floats:
    """Parse a matrix of images x features.

    Parameters
    ----------
    points
        Images x features, shape (N, F).
    fewest
        Smallest number of images allowed.

    Returns
    -------
    The points in float64.

    Raises
    ------
    ValueError
        If the points are not a matrix, not finite, or fewer than `fewest`.
    """
    rows = np.asarray(points, dtype=np.float64)
    if rows.ndim != MATRIX_DIMENSIONS or len(rows) < fewest or not rows.shape[1]:
        raise ValueError(
            f"expected a matrix of images x features, images at least {fewest}, "
            f"got shape {rows.shape!r}"
        )
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"expected finite values, got NaN or infinity in image {int(np.argmin(finite))}"
        )
    return rows


def checked_queries(queries: Indices | None, n: int) -> Indices:
    """Parse the images that a measure is about: all of N if None.

    Raises
    ------
    ValueError
        If they are not a list of indices below N.
    """
    if queries is None:
        return np.arange(n, dtype=np.int64)
    wanted = np.asarray(queries, dtype=np.int64)
    if wanted.ndim != 1 or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < n):
        raise ValueError(f"expected a list of indices from 0 to {n - 1}, got {queries!r}")
    return wanted


def blocks(count: int, block: int) -> Iterator[slice]:
    """Divide so many images into blocks.

    Raises
    ------
    ValueError
        If the block is below 1.
    """
    if block < 1:
        raise ValueError(f"expected a block of at least 1, got {block!r}")
    return (slice(start, start + block) for start in range(0, count, block))


def centred(rows: Floats) -> Floats:
    """Move the mean to 0: a far-away mean would drown the distances in rounding."""
    moved: Floats = rows - rows.mean(axis=0)
    return moved


def rounding(rows: Floats) -> float:
    """Bound the error of a squared distance by a product, as a share of both squared norms."""
    return float((rows.shape[1] + 8) * np.finfo(rows.dtype).eps)
