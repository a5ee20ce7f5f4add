"""How well a map keeps what the source space shows: neighbours and distances.

Every measure walks over blocks of images or pairs, so the peak memory is about
``block x N`` distances and never ``N x N``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.embedding.neighbour_scores import trustworthiness
from activarium.tasks.embedding.neighbours import BLOCK
from activarium.tasks.embedding.points import checked_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]

FEWEST_IMAGES = 2
PAIRS = 100_000
PAIRS_AT_ONCE = 4_096


def continuity(
    points: Floats,
    embedding: Floats,
    *,
    k: int = 10,
    queries: Indices | None = None,
    block: int = BLOCK,
) -> float:
    """Measure how far neighbours in the source space are still neighbours on the map.

    Trustworthiness with the spaces exchanged: an image that is among the k nearest in the
    source space but only the r-th nearest on the map costs r - k. Equal map distances share the
    lowest rank, so a map that collapses to a point tears no neighbours apart; its
    trustworthiness shows that it is worthless.

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
    Continuity from 0 to 1 (all neighbours kept).

    Raises
    ------
    ValueError
        If an input is not a finite matrix, they differ in their number of images, there is
        no query, or k, a query or the block is out of range.

    References
    ----------
    Venna, J. and Kaski, S. (2001). Neighborhood preservation in nonlinear projection
    methods: an experimental study. ICANN 2001, 485-491: M2(k).
    """
    _check_same_images(points, embedding)
    return trustworthiness(embedding, points, k=k, queries=queries, block=block)


def normalised_stress(
    points: Floats,
    embedding: Floats,
    *,
    queries: Indices | None = None,
    block: int = BLOCK,
) -> float:
    """Measure the misfit of map distances d to source distances s, at the best scale.

    Stress-1 of ratio scaling, the least over b of sqrt(sum (d - b s)^2 / sum d^2), which is
    sqrt(1 - (sum d s)^2 / (sum d^2 sum s^2)): the same whichever space is scaled, and whatever
    the units of either.

    Parameters
    ----------
    points
        Source space, images x features, shape (N, F), finite, at least 2 images.
    embedding
        The map, images x dimensions, shape (N, D), finite.
    queries
        Indices of distinct images, shape (Q,): only their distances to all other images enter;
        all pairs if None.
    block
        Number of queries compared with all images at a time.

    Returns
    -------
    Stress from 0 (distances in proportion) to 1. 1 where all images coincide on one side only,
    NaN where they do on both. Rounding leaves about 1e-7 where it is 0.

    Raises
    ------
    ValueError
        If an input is not a finite matrix, they differ in their number of images, there is
        no query, or a query or the block is out of range.

    References
    ----------
    Kruskal, J. (1964). Multidimensional scaling by optimizing goodness of fit to a nonmetric
    hypothesis. Psychometrika 29, 1-27. Borg, I. and Groenen, P. (2005). Modern multidimensional
    scaling, 2nd edition, section 11.1: at the best scale, normalised stress is the square of
    stress-1. Smelser, K. et al. (2024). "Normalized stress" is not normalized: how to interpret
    stress correctly. arXiv:2408.07724: why the scale must be the best one.
    """
    _check_same_images(points, embedding)
    source, flat = _positions(points), _positions(embedding)
    wanted = _checked_queries(queries, len(source))
    if block < 1:
        raise ValueError(f"expected a block of at least 1, got {block!r}")
    source_square = flat_square = product = 0.0
    for start in range(0, len(wanted), block):
        query = wanted[start : start + block]
        s, d = _distances(source, query), _distances(flat, query)
        source_square += float(np.vdot(s, s))
        flat_square += float(np.vdot(d, d))
        product += float(np.vdot(s, d))
    if source_square == 0.0 and flat_square == 0.0:
        return float("nan")
    if source_square == 0.0 or flat_square == 0.0:
        return 1.0
    # Divided one by one: the product of both sums may overflow or vanish.
    agreement = (product / source_square) * (product / flat_square)
    return float(np.sqrt(max(1.0 - agreement, 0.0)))


def shepard_correlation(
    points: Floats, embedding: Floats, *, seed: int, pairs: int = PAIRS
) -> float:
    """Correlate the order of map distances with that of source distances.

    Spearman's rank correlation over the points of a Shepard diagram: one for each pair of images,
    or for each of a sample of pairs.

    Parameters
    ----------
    points
        Source space, images x features, shape (N, F), finite, at least 2 images.
    embedding
        The map, images x dimensions, shape (N, D), finite.
    seed
        Seed of the sample: the same seed draws the same pairs.
    pairs
        Largest number of distinct pairs; all N (N - 1) / 2 if they are no more.

    Returns
    -------
    Correlation from -1 to 1 (the same order); NaN where either side has but one distance.

    Raises
    ------
    ValueError
        If an input is not a finite matrix, they differ in their number of images, or `pairs` is
        below 1.

    References
    ----------
    Shepard, R. (1962). The analysis of proximities: multidimensional scaling with an unknown
    distance function. Psychometrika 27, 125-140. Espadoto, M. et al. (2021). Toward a
    quantitative survey of dimension reduction techniques. IEEE Trans. Vis. Comput. Graph. 27,
    2153-2173: Shepard diagram correlation.
    """
    _check_same_images(points, embedding)
    first, second = _pairs(len(points), most=pairs, seed=seed)
    source = _pair_distances(points, first, second)
    flat = _pair_distances(embedding, first, second)
    if (source == source[0]).all() or (flat == flat[0]).all():
        return float("nan")
    # A second of import, which who only looks for what is there goes without.
    from scipy.stats import spearmanr

    return float(spearmanr(source, flat).statistic)


def _check_same_images(points: Floats, embedding: Floats) -> None:
    if len(embedding) != len(points):
        raise ValueError(f"expected a map of {len(points)} images, got shape {embedding.shape!r}")


def _checked_queries(queries: Indices | None, n: int) -> Indices:
    wanted = np.arange(n) if queries is None else np.asarray(queries, dtype=np.int64)
    if wanted.ndim != 1 or not len(wanted) or not 0 <= wanted.min() <= wanted.max() < n:
        raise ValueError(f"expected at least one index, from 0 to {n - 1}, got {queries!r}")
    return wanted


def _unit_size(points: Floats) -> Floats:
    """Bring values to at most 1 without rounding, so that squares neither overflow nor vanish."""
    rows = checked_points(points, fewest=FEWEST_IMAGES)
    scaled: Floats = np.ldexp(rows, -int(np.frexp(np.abs(rows).max())[1]))
    return scaled


def _positions(points: Floats) -> Floats:
    """Move the mean to 0, where products are exact enough; images that coincide go to 0 exactly."""
    rows = _unit_size(points)
    rows -= rows[0].copy()
    rows -= rows.mean(axis=0)
    return rows


def _distances(rows: Floats, queries: Indices) -> Floats:
    """Measure the Euclidean distances from the queries to all images, shape (Q, N), by products."""
    norm = np.einsum("if,if->i", rows, rows)
    square = norm + norm[queries, None] - 2.0 * (rows[queries] @ rows.T)
    square[np.arange(len(queries)), queries] = 0.0
    distance: Floats = np.sqrt(np.maximum(square, 0.0, out=square), out=square)
    return distance


def _pairs(n: int, *, most: int, seed: int) -> tuple[Indices, Indices]:
    """Draw pairs of images, the lower index first, without repetition."""
    count = n * (n - 1) // 2
    if most < 1 or n < FEWEST_IMAGES:
        raise ValueError(
            f"expected at least 1 pair of at least {FEWEST_IMAGES} images, got {most!r} of {n!r}"
        )
    if count <= most:
        chosen = np.arange(count)
    else:
        chosen = np.random.default_rng(seed).choice(count, size=most, replace=False)
    # Pair number p of column j counts from j (j - 1) / 2; the root may be off by one.
    second = ((1.0 + np.sqrt(1.0 + 8.0 * chosen)) / 2.0).astype(np.int64)
    second -= second * (second - 1) // 2 > chosen
    second += second * (second + 1) // 2 <= chosen
    return chosen - second * (second - 1) // 2, second


def _pair_distances(points: Floats, first: Indices, second: Indices) -> Floats:
    """Measure the distances of pairs from their differences, so that equal ones come out equal."""
    rows = _unit_size(points)
    distance = np.empty(len(first))
    for start in range(0, len(first), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        difference = rows[first[part]] - rows[second[part]]
        distance[part] = np.sqrt(np.einsum("pf,pf->p", difference, difference))
    return distance
