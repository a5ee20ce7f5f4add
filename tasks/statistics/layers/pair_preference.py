"""How a unit's response differs between two classes: p-values and areas for pairs of classes.

`ranks` is what `pair_u` returns, and `count` (class,) the images per class, the same for all
units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.tail_probabilities import normal_two_sided_log10_p
from activarium.tasks.statistics.units.preference import PValue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.ranks.pair_ranks import PairRanks

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

_VALUES = 1 << 20
"""p-values per step, so that temporary arrays stay small."""


def _pair_images(ranks: PairRanks, count: Codes) -> tuple[Array, Array]:
    """Return n_a n_b and n_a + n_b of every pair, each of shape (pair,)."""
    n = count[ranks.pair].astype(np.float64)
    return n[:, 0] * n[:, 1], n[:, 0] + n[:, 1]


def pair_p(ranks: PairRanks, count: Codes) -> PValue:
    """Return the two-sided p-value of each pair's U: normal, corrected for ties and continuity.

    1 where all responses of the two classes are equal, and for a pair with an empty class.

    Parameters
    ----------
    ranks
        Pairs of classes with U and tie sums, shape (unit, pair).
    count
        Images per class, shape (class,).

    Returns
    -------
    p and log10 p, shape (unit, pair).

    References
    ----------
    Mann and Whitney (1947); the same as `scipy.stats.mannwhitneyu(method="asymptotic")`.
    """
    products, images = _pair_images(ranks, count)
    cube = images * images * images - images
    scale = products / 12.0 / np.maximum(images * (images - 1.0), 1.0)
    log10_p = np.empty_like(ranks.u)
    step = max(1, _VALUES // max(len(ranks.pair), 1))
    for start in range(0, len(ranks.u), step):
        rows = slice(start, start + step)
        # Both are rounded above 2^53, where equal responses must not leave a negative difference.
        sd = np.sqrt(scale * np.maximum(cube - ranks.tie_sum[rows], 0.0))
        # Below half a step the continuity correction would pass the centre, where p is 1.
        distance = np.maximum(np.abs(ranks.u[rows] - products / 2.0) - 0.5, 0.0)
        z = np.divide(distance, sd, out=np.zeros_like(sd), where=sd > 0)
        log10_p[rows] = normal_two_sided_log10_p(z)
    return PValue(10.0**log10_p, log10_p)


def pair_auroc(ranks: PairRanks, count: Codes) -> Array:
    """Return the area under the ROC curve of class a over class b, U / (n_a n_b).

    0.5 for constant units and for a pair with an empty class. Of all units the one with the
    largest abs(A - 0.5) tells the two classes apart best.

    Parameters
    ----------
    ranks
        Pairs of classes with their U, shape (unit, pair).
    count
        Images per class, shape (class,).

    Returns
    -------
    Area, shape (unit, pair), in [0, 1].

    References
    ----------
    Hanley and McNeil (1982), The meaning and use of the area under a ROC curve.
    """
    return _share(ranks.u, _pair_images(ranks, count)[0])


def pair_separation(ranks: PairRanks, count: Codes) -> Array:
    """Return max(A, 1 - A) of the AUROC A of each pair, whichever class responds more.

    The same number for either order of the two classes, to the last digit. 0.5 for constant units
    and for a pair with an empty class.

    Parameters
    ----------
    ranks
        Pairs of classes with their U, shape (unit, pair).
    count
        Images per class, shape (class,).

    Returns
    -------
    Larger area, shape (unit, pair), in [0.5, 1].
    """
    products, _ = _pair_images(ranks, count)
    return _share(np.maximum(ranks.u, products - ranks.u), products)


def _share(u: Array, products: Array) -> Array:
    area: Array = np.divide(u, products, out=np.full_like(u, 0.5), where=products > 0)
    return area
