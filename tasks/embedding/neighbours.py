"""Exact nearest neighbours of images, and what they say about classes and maps.

Every measure walks over blocks of images, so the peak memory is about
``block x N`` distances and never ``N x N``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]

BLOCK = 256
# Candidates beyond k. With a few to spare, rounding in the quick pass hardly ever
# decides which images are candidates, so almost no image needs the slow pass.
SPARE = 8
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
    wanted = _checked_queries(queries, len(rows))
    if not 1 <= k < len(rows):
        raise ValueError(f"expected k from 1 to {len(rows) - 1} for {len(rows)} images, got {k!r}")
    rows = _scaled(rows)
    found = np.empty((len(wanted), k), dtype=np.int64)
    places = np.arange(len(wanted))
    for precision in (np.float32, np.float64):
        parts = [places[part] for part in _blocks(len(places), block)]
        places = _search(found, parts, wanted, rows, precision)
    for place in places:
        query = wanted[place]
        distance = cdist(rows[[query]], rows, "sqeuclidean")[0]
        distance[query] = np.inf
        found[place] = np.argsort(distance, kind="stable")[:k]
    return found


def neighbour_distances(points: Floats, neighbours: Indices, *, block: int = BLOCK) -> Floats:
    """Measure the Euclidean distances from every image to its listed neighbours.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite.
    neighbours
        Indices of shape (N, k): row i lists neighbours of image i.
    block
        Number of images at a time.

    Returns
    -------
    Distances, float64, shape (N, k), at least 0.

    Raises
    ------
    ValueError
        If the points are not a finite matrix or the number of rows differs.
    """
    rows = checked_points(points)
    if neighbours.ndim != MATRIX_DIMENSIONS or len(neighbours) != len(rows):
        raise ValueError(
            f"expected neighbours of {len(rows)} images, got shape {neighbours.shape!r}"
        )
    distance = np.empty(neighbours.shape)
    every = np.arange(len(rows))
    for part in _blocks(len(rows), block):
        distance[part] = _squared_distances(rows, every[part], neighbours[part])
    return np.sqrt(distance)


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
    wanted = _checked_queries(queries, len(rows))
    wanted = wanted[labelled[wanted]]
    count = int(labelled.sum())
    if count <= 1 or not len(wanted):
        return float("nan")
    place = np.cumsum(labelled) - 1
    neighbour = nearest_neighbours(
        rows[labelled], k=min(k, count - 1), queries=place[wanted].astype(np.int64)
    )
    return float(np.mean(label[labelled][neighbour] == label[wanted][:, None]))


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
    wanted = _checked_queries(queries, n)
    if not len(wanted):
        raise ValueError("expected at least one query, got none")
    on_map = nearest_neighbours(embedding, k=k, queries=wanted, block=block)
    centred = _centred(rows)
    excess = sum(
        int(np.maximum(_source_ranks(centred, wanted[part], on_map[part]) - k, 0).sum())
        for part in _blocks(len(wanted), block)
    )
    return float(1.0 - excess * 2.0 / (len(wanted) * k * (2.0 * n - 3.0 * k - 1.0)))


def _source_ranks(centred: Floats, queries: Indices, neighbours: Indices) -> Indices:
    """Rank each listed neighbour among all other images by distance, the nearest first at 1.

    Distances closer than the rounding error of the matrix product count as equal.
    """
    norm = np.einsum("if,if->i", centred, centred)
    distance = norm - 2.0 * (centred[queries] @ centred.T) + norm[queries, None]
    distance[np.arange(len(queries)), queries] = np.inf
    limit = np.take_along_axis(distance, neighbours, axis=1)
    # Of an image at the limit, the squared norm is at most 2 (norm + limit).
    limit -= _rounding(centred) * (3.0 * norm[queries, None] + 2.0 * np.abs(limit))
    # Sorting whole rows is quicker than k comparisons with every row: numpy sorts with
    # vector instructions.
    distance.sort(axis=1)
    nearer = [np.searchsorted(row, edge) for row, edge in zip(distance, limit, strict=True)]
    return np.asarray(nearer, dtype=np.int64) + 1


def _search(
    found: Indices,
    parts: list[Indices],
    queries: Indices,
    rows: Floats,
    precision: type[np.floating],
) -> Indices:
    """Fill `found` at the places whose neighbours are certain; return the other places."""
    others, k = len(rows) - 1, found.shape[1]
    size = min(k + SPARE, others)
    centred = _centred(rows)
    norm = np.einsum("if,if->i", centred, centred)
    narrow = centred.astype(precision)
    slack = _rounding(narrow)
    underflow = float(np.finfo(precision).tiny) * (rows.shape[1] + 8)
    # What centring itself can add to a distance, by rounding every feature of both images.
    shift = 4.0 * np.finfo(np.float64).eps * np.sqrt(rows.shape[1])
    key_norm = (norm * (1.0 - slack)).astype(precision)
    doubtful = [np.empty(0, dtype=np.int64)]
    for places in parts:
        query = queries[places]
        # With the slack taken off, the key plus the query's own share is a lower bound of
        # the squared distance, so images that are not candidates are known to be farther.
        key = key_norm - 2 * (narrow[query] @ narrow.T)
        key[np.arange(len(query)), query] = np.inf
        candidate = np.sort(np.argpartition(key, size - 1, axis=1)[:, :size], axis=1)
        border = np.take_along_axis(key, candidate, axis=1).max(axis=1).astype(np.float64)
        border += norm[query] * (1.0 - slack) - underflow
        distance = _squared_distances(rows, query, candidate)
        order = np.argsort(distance, axis=1, kind="stable")[:, :k]
        found[places] = np.take_along_axis(candidate, order, axis=1)
        last = np.take_along_axis(distance, order[:, -1:], axis=1)[:, 0]
        if size < others:
            certain = np.sqrt(last) < np.sqrt(np.maximum(border, 0.0)) - shift
            doubtful.append(places[~certain])
    return np.concatenate(doubtful)


def _squared_distances(rows: Floats, queries: Indices, neighbours: Indices) -> Floats:
    """Sum squared float64 differences, neighbour by neighbour to keep the block small."""
    distance = np.empty(neighbours.shape)
    for column in range(neighbours.shape[1]):
        difference = rows[neighbours[:, column]] - rows[queries]
        distance[:, column] = np.einsum("qf,qf->q", difference, difference)
    return distance


def _rounding(rows: Floats) -> float:
    """Bound the error of a squared distance by a product, as a share of both squared norms."""
    return float((rows.shape[1] + 8) * np.finfo(rows.dtype).eps)


def _centred(rows: Floats) -> Floats:
    """Move the mean to 0: a far-away mean would drown the distances in rounding."""
    centred: Floats = rows - rows.mean(axis=0)
    return centred


def _scaled(rows: Floats) -> Floats:
    """Bring values to at most 1, so that float32 squares stay finite, without rounding."""
    exponent = int(np.frexp(np.abs(rows).max())[1])
    scaled: Floats = np.ldexp(rows, -exponent)
    return scaled


def _blocks(count: int, block: int) -> Iterator[slice]:
    if block < 1:
        raise ValueError(f"expected a block of at least 1, got {block!r}")
    return (slice(start, start + block) for start in range(0, count, block))


def _checked_queries(queries: Indices | None, n: int) -> Indices:
    if queries is None:
        return np.arange(n, dtype=np.int64)
    wanted = np.asarray(queries, dtype=np.int64)
    if wanted.ndim != 1 or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < n):
        raise ValueError(f"expected a list of indices from 0 to {n - 1}, got {queries!r}")
    return wanted
