"""Exact nearest neighbours of images, among themselves or among others.

The search walks over blocks of images, so the peak memory is about
``block x N`` distances and never ``N x N``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from activarium.tasks.embedding.points import (
    MATRIX_DIMENSIONS,
    blocks,
    centred,
    checked_points,
    checked_queries,
    rounding,
)
from activarium.tasks.embedding.smallest_columns import smallest_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]

BLOCK = 256
# Candidates beyond k. With a few to spare, rounding in the quick pass hardly ever
# decides which images are candidates, so almost no image needs the slow pass.
SPARE = 8


def nearest_neighbours(
    points: Floats, *, k: int, queries: Indices | None = None, block: int = BLOCK
) -> Indices:
    """Find the k nearest other images of each query image, exactly.

    Candidates come from float32 matrix products whose rounding error is bounded; their
    distances are then computed anew from float64 differences. An image whose
    candidates the bound cannot vouch for is searched again in float64, and at last
    without matrix products, so the result never depends on rounding in a product.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite.
    k
        Number of neighbours, 1 to N - 1.
    queries
        Indices of the query images, shape (Q,); all images in order if None.
    block
        Number of queries compared with all images at a time.

    Returns
    -------
    Indices of shape (Q, k), the nearest first (Euclidean distance), the image itself
    left out, the lower index first among equal distances.

    Raises
    ------
    ValueError
        If the points are not a finite matrix, or k, a query or the block is out of range.
    """
    rows = checked_points(points)
    wanted = checked_queries(queries, len(rows))
    if not 1 <= k < len(rows):
        raise ValueError(f"expected k from 1 to {len(rows) - 1} for {len(rows)} images, got {k!r}")
    rows = _scaled(rows, rows)
    return _found(_Search(rows, rows[wanted], wanted), k=k, block=block)


def nearest_references(points: Floats, new: Floats, *, k: int, block: int = BLOCK) -> Indices:
    """Find the k images that lie nearest to each of some other points, exactly.

    As `nearest_neighbours`, but no image is left out.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite.
    new
        Other points x features, shape (M, F), finite.
    k
        Number of images, 1 to N.
    block
        Number of points compared with all images at a time.

    Returns
    -------
    Indices of shape (M, k), the nearest first, the lower index first among equal distances.

    Raises
    ------
    ValueError
        If an input is not a finite matrix, they differ in features, or k or the block is out of
        range.
    """
    rows, others = checked_points(points), checked_points(new)
    if rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"expected points of {rows.shape[1]} features as the images, got {others.shape[1]}"
        )
    if not 1 <= k <= len(rows):
        raise ValueError(f"expected k from 1 to {len(rows)} for {len(rows)} images, got {k!r}")
    search = _Search(_scaled(rows, rows, others), _scaled(others, rows, others), None)
    return _found(search, k=k, block=block)


def neighbour_distances(
    points: Floats, neighbours: Indices, *, new: Floats | None = None, block: int = BLOCK
) -> Floats:
    """Measure the Euclidean distances from every image to its listed neighbours.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite.
    neighbours
        Indices of shape (M, k): row i lists images near point i.
    new
        The points that `neighbours` belongs to, shape (M, F); the images themselves if None.
    block
        Number of images at a time.

    Returns
    -------
    Distances, float64, shape (M, k), at least 0.

    Raises
    ------
    ValueError
        If the points are not a finite matrix or the number of rows differs.
    """
    rows = checked_points(points)
    near = rows if new is None else checked_points(new)
    if neighbours.ndim != MATRIX_DIMENSIONS or len(neighbours) != len(near):
        raise ValueError(
            f"expected neighbours of {len(near)} images, got shape {neighbours.shape!r}"
        )
    distance = np.empty(neighbours.shape)
    for part in blocks(len(near), block):
        distance[part] = _squared_distances(rows, near[part], neighbours[part])
    return np.sqrt(distance)


def sample_queries(n: int, *, most: int, seed: int) -> Indices:
    """Draw the images that stand for all where a measure over all would be too slow.

    Parameters
    ----------
    n
        Number of images.
    most
        Largest size of the sample, at least 1.
    seed
        Seed of the draw: the same seed draws the same images.

    Returns
    -------
    Sorted distinct indices below n, shape (min(n, most),); all of them if n <= most.

    Raises
    ------
    ValueError
        If n is negative or `most` below 1.
    """
    if n < 0 or most < 1:
        raise ValueError(
            f"expected n of at least 0 and most of at least 1, got n={n!r}, most={most!r}"
        )
    if n <= most:
        return np.arange(n, dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(n, size=most, replace=False)
    return np.sort(drawn).astype(np.int64)


@dataclass(frozen=True)
class _Search:
    """Points whose neighbours are looked for, and the images among which they are."""

    rows: Floats
    """(image, feature)."""
    queries: Floats
    """(query, feature)."""
    own: Indices | None
    """The image that each query is, shape (query,); None where they are other points."""

    @property
    def others(self) -> int:
        """Images that may be a query's neighbours."""
        return len(self.rows) - (self.own is not None)

    def leave_out(self, distance: Floats, places: Indices) -> None:
        """Move each query's own image out of reach."""
        if self.own is not None:
            distance[np.arange(len(places)), self.own[places]] = np.inf


def _found(search: _Search, *, k: int, block: int) -> Indices:
    found = np.empty((len(search.queries), k), dtype=np.int64)
    places = np.arange(len(found))
    for precision in (np.float32, np.float64):
        parts = [places[part] for part in blocks(len(places), block)]
        places = _fill_certain(found, parts, search, precision)
    for place in places:
        distance = cdist(search.queries[[place]], search.rows, "sqeuclidean")
        search.leave_out(distance, np.array([place]))
        found[place] = np.argsort(distance[0], kind="stable")[:k]
    return found


def _fill_certain(
    found: Indices, parts: list[Indices], search: _Search, precision: type[np.floating]
) -> Indices:
    """Fill `found` at the places whose neighbours are certain; return the other places."""
    rows, k = search.rows, found.shape[1]
    size = min(k + SPARE, search.others)
    mean = rows.mean(axis=0)
    moved = centred(rows)
    norm = np.einsum("if,if->i", moved, moved)
    narrow = moved.astype(precision)
    slack = rounding(narrow)
    underflow = float(np.finfo(precision).tiny) * (rows.shape[1] + 8)
    # What centring itself can add to a distance, by rounding every feature of both images.
    shift = 4.0 * np.finfo(np.float64).eps * np.sqrt(rows.shape[1])
    key_norm = (norm * (1.0 - slack)).astype(precision)
    doubtful = [np.empty(0, dtype=np.int64)]
    for places in parts:
        query = search.queries[places] - mean
        query_norm = np.einsum("qf,qf->q", query, query)
        # With the slack taken off, the key plus the query's own share is a lower bound of
        # the squared distance, so images that are not candidates are known to be farther.
        key = (-2 * query).astype(precision) @ narrow.T
        key += key_norm
        search.leave_out(key, places)
        candidate = smallest_columns(key, size)
        border = np.take_along_axis(key, candidate, axis=1).max(axis=1).astype(np.float64)
        border += query_norm * (1.0 - slack) - underflow
        distance = _squared_distances(rows, search.queries[places], candidate)
        order = np.argsort(distance, axis=1, kind="stable")[:, :k]
        found[places] = np.take_along_axis(candidate, order, axis=1)
        last = np.take_along_axis(distance, order[:, -1:], axis=1)[:, 0]
        if size < search.others:
            certain = np.sqrt(last) < np.sqrt(np.maximum(border, 0.0)) - shift
            doubtful.append(places[~certain])
    return np.concatenate(doubtful)


def _squared_distances(rows: Floats, queries: Floats, neighbours: Indices) -> Floats:
    """Sum squared float64 differences, neighbour by neighbour to keep the block small."""
    distance = np.empty(neighbours.shape)
    for column in range(neighbours.shape[1]):
        difference = rows[neighbours[:, column]] - queries
        distance[:, column] = np.einsum("qf,qf->q", difference, difference)
    return distance


def _scaled(rows: Floats, *every: Floats) -> Floats:
    """Bring values to at most 1 in all, so that float32 squares stay finite, without rounding."""
    largest = max(float(np.abs(each).max()) for each in every)
    scaled: Floats = np.ldexp(rows, -int(np.frexp(largest)[1]))
    return scaled
