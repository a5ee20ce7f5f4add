"""How far each pair of classes lies apart in a layer: centroids, spreads and the units that tell.

A block of units is summarised by `block_pairs`; the blocks of a layer, in the order of their
units, give one row per pair by `class_pair_rows`. The rows do not depend on how the units were
divided into blocks. Responses are standardised: each unit has overall mean 0 and standard
deviation 1 over all images, and units that never change are left out of all that is measured on
centroids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import pdist, squareform

from activarium.tasks.statistics.layers.pair_preference import pair_p, pair_separation
from activarium.tasks.statistics.testing.multiple_testing import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.ranks.pair_ranks import PairRanks

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

_ROUNDING = 64 * float(np.finfo(np.float64).eps)
_VALUES = 1 << 20
"""Values per step, so that temporary arrays stay small."""


@dataclass(frozen=True)
class BlockPairs:
    """What a block of units contributes to the pairs of classes of its layer."""

    pair: NDArray[np.int64]
    """Codes a < b, shape (pair, 2)."""
    count: NDArray[np.int64]
    """Images per class, shape (class,)."""
    centroid: NDArray[np.float64]
    """Standardised class means of the units that vary, shape (varying unit, class)."""
    spread: NDArray[np.float64]
    """Standardised variances within classes, shape (varying unit, class)."""
    p: NDArray[np.float64]
    """Mann-Whitney p-values of all units, shape (pair, unit)."""
    best_auroc: NDArray[np.float64]
    """Largest max(A, 1 - A) of an AUROC A, shape (pair,)."""
    best_unit: NDArray[np.int64]
    """The unit that has it, the first of several, counted from the block's first, shape (pair,)."""


@dataclass(frozen=True)
class ClassPairs:
    """Measures of each pair of classes in a layer, each of shape (pair,) but for `pair`."""

    pair: NDArray[np.int64]
    """Codes a < b, shape (pair, 2)."""
    centroid_cosine: NDArray[np.float64]
    """Cosine of the two centroids, in [-1, 1]."""
    centroid_distance: NDArray[np.float64]
    """Root mean square over units of the difference of the centroids."""
    fisher_ratio: NDArray[np.float64]
    """Squared distance of the centroids over the variance within both classes."""
    best_auroc: NDArray[np.float64]
    """How well the best unit tells the two apart, in [0.5, 1]."""
    best_unit: NDArray[np.int64]
    """The best unit, counted from the layer's first; -1 where none tells the two apart."""
    separating_units: NDArray[np.int64]
    """Units that differ between the two at the false discovery rate."""


def standardised_centroids(moments: ClassMoments) -> Array:
    """Return (class mean - overall mean) / overall sd of the units that vary.

    Differences from the overall mean that are within rounding of the responses are exactly 0.
    Blocks of units are put together along the first axis.

    Returns
    -------
    Centroids, shape (varying unit, class); NaN for a class without images.
    """
    varies = ~moments.is_constant
    shift = moments.deviation[varies]
    size = np.maximum(np.abs(moments.low), np.abs(moments.high))[varies, None]
    return np.where(np.abs(shift) <= _ROUNDING * size, 0.0, shift) / _sd(moments)


def _sd(moments: ClassMoments) -> Array:
    """Return the overall standard deviation of the units that vary, shape (varying unit, 1)."""
    return moments.overall_sd[~moments.is_constant, None]


def nearest_pairs(centroids: Array, *, neighbours: int = 10) -> Codes:
    """Return the pairs of each class with the classes whose centroids are nearest to its own.

    For many classes, of which most pairs are far apart. Equal distances go to the lower code.
    Classes without images are left out.

    Parameters
    ----------
    centroids
        Standardised centroids of a layer, shape (unit, class); NaN for a class without images.
    neighbours
        Nearest classes per class; all others where there are fewer.

    Returns
    -------
    Codes a < b in ascending order, each pair once, shape (pair, 2).

    Raises
    ------
    ValueError
        Where `neighbours` is below 1.
    """
    if neighbours < 1:
        msg = f"neighbours must be at least 1, got {neighbours}"
        raise ValueError(msg)
    code = np.flatnonzero(~np.isnan(centroids).any(axis=0))
    # Not by the product of centroids, which would cancel between near ones.
    distance = squareform(pdist(centroids[:, code].T)) if code.size > 1 else np.zeros((1, 1))
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, : min(neighbours, code.size - 1)]
    one = np.repeat(code, nearest.shape[1])
    other = code[nearest].ravel()
    ends = np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)
    return np.unique(ends, axis=0).astype(np.int64).reshape(-1, 2)


def block_pairs(moments: ClassMoments, ranks: PairRanks) -> BlockPairs:
    """Summarise the pairs of classes of one block of units.

    The p-values of all units are kept, since a false discovery rate needs those of the whole
    layer: 8 bytes for each unit and pair. All else is small.

    Parameters
    ----------
    moments
        Moments of the block's units.
    ranks
        Pairs of classes with U and tie sums of the same units and images.
    """
    area = pair_separation(ranks, moments.count)
    pairs = np.arange(len(ranks.pair))
    unit = area.argmax(axis=0) if len(area) else np.zeros(len(pairs), np.int64)
    varies = ~moments.is_constant
    degrees = np.where(moments.count > 1, moments.count - 1.0, np.nan)
    return BlockPairs(
        pair=ranks.pair,
        count=moments.count,
        centroid=standardised_centroids(moments),
        spread=moments.m2[varies] / degrees / _sd(moments) ** 2,
        p=np.ascontiguousarray(pair_p(ranks, moments.count).p.T),
        best_auroc=area[unit, pairs] if len(area) else np.full(len(pairs), 0.5),
        best_unit=unit,
    )


def class_pair_rows(blocks: Sequence[BlockPairs], *, fdr: float) -> ClassPairs:
    """Return the measures of each pair of classes over all units of a layer.

    With z the standardised responses of the V units that vary, m_a the centroid of class a and
    v_a its variances (n - 1):

    - `centroid_cosine` is the cosine of m_a and m_b; 0 where one lies at the overall mean.
    - `centroid_distance` is |m_a - m_b| / sqrt(V), in standard deviations per unit, so that
      layers of different width compare; 0 where no unit varies.
    - `fisher_ratio` is |m_a - m_b|^2 / sum(v_a + v_b), the trace form of Fisher's criterion;
      0 where both are 0, infinity where only the variances are, NaN where a class has fewer than
      two images.
    - `best_auroc` is the largest max(A, 1 - A) over units and `best_unit` the first that has it;
      0.5 and -1 where every A is 0.5.
    - `separating_units` counts the units whose q-value among all units of the layer, for this
      pair alone, is at most `fdr`. Units that never change take part with p = 1.

    A pair with an empty class has NaN for the first three, 0.5, -1 and 0.

    Parameters
    ----------
    blocks
        The blocks of a layer in the order of their units, at least one, all with equal pairs.
    fdr
        False discovery rate, in [0, 1].

    Raises
    ------
    ValueError
        Where there is no block, or blocks differ in their pairs or in the images per class.

    References
    ----------
    Fisher (1936), The use of multiple measurements in taxonomic problems;
    Benjamini and Hochberg (1995), Controlling the false discovery rate, procedure 1.
    """
    _check(blocks)
    pair = blocks[0].pair
    # One class after the other in memory, so that the sums run over units.
    centroid = np.ascontiguousarray(np.concatenate([block.centroid for block in blocks]).T)
    within = np.concatenate([block.spread for block in blocks]).sum(axis=0)
    cosine, squares = _between_centroids(centroid, pair)
    ratio = _fisher_ratio(squares, within[pair[:, 0]] + within[pair[:, 1]])
    distance = np.sqrt(squares / max(centroid.shape[1], 1))
    best_auroc, best_unit = _best(blocks)
    smaller = blocks[0].count[pair].min(axis=1)
    return ClassPairs(
        pair=pair,
        centroid_cosine=np.where(smaller > 0, cosine, np.nan),
        centroid_distance=np.where(smaller > 0, distance, np.nan),
        fisher_ratio=np.where(smaller > 1, ratio, np.nan),
        best_auroc=best_auroc,
        best_unit=best_unit,
        separating_units=_separating_units(blocks, fdr),
    )


def _check(blocks: Sequence[BlockPairs]) -> None:
    if not blocks:
        raise ValueError("expected at least one block of units")
    for block in blocks:
        if not np.array_equal(block.pair, blocks[0].pair):
            raise ValueError("blocks of a layer must have the same pairs of classes")
        if not np.array_equal(block.count, blocks[0].count):
            raise ValueError("blocks of a layer must have the same images per class")


def _between_centroids(centroid: Array, pair: Codes) -> tuple[Array, Array]:
    """Return cosine and squared distance of each pair of centroids, given as (class, unit)."""
    norm = np.sqrt((centroid**2).sum(axis=1))
    products, squares = np.empty(len(pair)), np.empty(len(pair))
    step = max(1, _VALUES // max(centroid.shape[1], 1))
    for start in range(0, len(pair), step):
        rows = slice(start, start + step)
        a, b = centroid[pair[rows, 0]], centroid[pair[rows, 1]]
        products[rows] = (a * b).sum(axis=1)
        squares[rows] = ((a - b) ** 2).sum(axis=1)
    length = norm[pair[:, 0]] * norm[pair[:, 1]]
    cosine = np.divide(products, length, out=np.zeros(len(pair)), where=length != 0)
    return np.clip(cosine, -1.0, 1.0), squares


def _fisher_ratio(between: Array, within: Array) -> Array:
    otherwise = np.where(between > 0, np.inf, 0.0)
    ratio: Array = np.divide(between, within, out=otherwise, where=within != 0)
    return ratio


def _best(blocks: Sequence[BlockPairs]) -> tuple[Array, Codes]:
    """Return the largest area over the units of all blocks, and its unit within the layer."""
    first = np.cumsum([0] + [block.p.shape[1] for block in blocks])
    area = np.stack([block.best_auroc for block in blocks])
    unit = np.stack([block.best_unit + first[i] for i, block in enumerate(blocks)])
    pairs = np.arange(area.shape[1])
    block = area.argmax(axis=0)
    best = area[block, pairs]
    return best, np.where(best > 0.5, unit[block, pairs], -1)


def _separating_units(blocks: Sequence[BlockPairs], fdr: float) -> Codes:
    units = np.zeros(len(blocks[0].pair), np.int64)
    for i in range(len(units)):
        p = np.concatenate([block.p[i] for block in blocks])
        units[i] = (benjamini_hochberg(p) <= fdr).sum()
    return units
