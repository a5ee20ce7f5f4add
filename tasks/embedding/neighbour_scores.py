"""Scores of maps from exact neighbours: class purity, and whether they are neighbours in the source.

Every score walks over blocks of images, so the peak memory is about ``block x N`` distances and
never ``N x N``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.embedding.neighbours import BLOCK, nearest_neighbours
from activarium.tasks.embedding.points import (
    blocks,
    centred,
    checked_points,
    checked_queries,
    rounding,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]


def knn_purity(
    points: Floats,
    label: NDArray[np.integer],
    *,
    k: int = 10,
    queries: Indices | None = None,
) -> float:
    """Average the share of an image's k nearest neighbours that carry its label.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite.
    label
        Class index per image, shape (N,). Images with a negative label are left out
        both as queries and as neighbours.
    k
        Number of neighbours, self excluded. With only M <= k labelled images, all
        M - 1 others are used.
    queries
        Indices of the images to average over, shape (Q,); all if None.

    Returns
    -------
    Purity from 0 to 1; NaN with fewer than two labelled images or no labelled query.

    Raises
    ------
    ValueError
        If the points are not a finite matrix, the labels do not match them, k is below 1
        or a query is out of range.
    """
    rows = checked_points(points)
    if label.shape != (len(rows),):
        raise ValueError(
            f"expected one label for each of {len(rows)} images, got shape {label.shape!r}"
        )
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k!r}")
    labelled = label >= 0
    wanted = checked_queries(queries, len(rows))
    wanted = wanted[labelled[wanted]]
    count = int(labelled.sum())
    if count <= 1 or not len(wanted):
        return float("nan")
    place = np.cumsum(labelled) - 1
    neighbour = nearest_neighbours(
        rows[labelled], k=min(k, count - 1), queries=place[wanted].astype(np.int64)
    )
    return float(np.mean(label[labelled][neighbour] == label[wanted][:, None]))


def trustworthiness(
    points: Floats,
    embedding: Floats,
    *,
    k: int = 10,
    queries: Indices | None = None,
    block: int = BLOCK,
) -> float:
    """Measure how far neighbours on a map are neighbours in the space it came from.

    An image that is among the k nearest on the map but only the r-th nearest in the
    source space costs r - k. Equal source distances share the lowest rank, so a map
    is not charged for the order among duplicates (scikit-learn's order among them is
    arbitrary).

    Parameters
    ----------
    points
        Source space, images x features, shape (N, F), finite.
    embedding
        The map, images x dimensions, shape (N, D), finite.
    k
        Number of neighbours, at least 1 and below N / 2.
    queries
        Indices of the images to average over, shape (Q,); all if None.
    block
        Number of queries compared with all images at a time.

    Returns
    -------
    Trustworthiness from 0 to 1 (all true neighbours).

    Raises
    ------
    ValueError
        If an input is not a finite matrix, they differ in their number of images, there is
        no query, or k, a query or the block is out of range.

    References
    ----------
    Venna, J. and Kaski, S. (2001). Neighborhood preservation in nonlinear projection
    methods: an experimental study. ICANN 2001, 485-491, equation 1: M1(k).
    """
    rows = checked_points(points)
    n = len(rows)
    if len(embedding) != n:
        raise ValueError(f"expected a map of {n} images, got shape {embedding.shape!r}")
    if not 1 <= k < n / 2:
        raise ValueError(f"expected k from 1 to {(n - 1) // 2} for {n} images, got {k!r}")
    wanted = checked_queries(queries, n)
    if not len(wanted):
        raise ValueError("expected at least one query, got none")
    on_map = nearest_neighbours(embedding, k=k, queries=wanted, block=block)
    moved = centred(rows)
    excess = sum(
        int(np.maximum(_source_ranks(moved, wanted[part], on_map[part]) - k, 0).sum())
        for part in blocks(len(wanted), block)
    )
    return float(1.0 - excess * 2.0 / (len(wanted) * k * (2.0 * n - 3.0 * k - 1.0)))


def _source_ranks(moved: Floats, queries: Indices, neighbours: Indices) -> Indices:
    """Rank each listed neighbour among all other images by distance, the nearest first at 1.

    Distances closer than the rounding error of the matrix product count as equal.
    """
    norm = np.einsum("if,if->i", moved, moved)
    distance = norm - 2.0 * (moved[queries] @ moved.T) + norm[queries, None]
    distance[np.arange(len(queries)), queries] = np.inf
    limit = np.take_along_axis(distance, neighbours, axis=1)
    # Of an image at the limit, the squared norm is at most 2 (norm + limit).
    limit -= rounding(moved) * (3.0 * norm[queries, None] + 2.0 * np.abs(limit))
    # Sorting whole rows is quicker than k comparisons with every row: numpy sorts with
    # vector instructions.
    distance.sort(axis=1)
    nearer = [np.searchsorted(row, edge) for row, edge in zip(distance, limit, strict=True)]
    return np.asarray(nearer, dtype=np.int64) + 1
