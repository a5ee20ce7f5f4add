"""p-values from the first two moments that permuted labels give a sum of squares, in closed form.

The textbook's chi-squared and normal tails take every response for small beside the whole. After a
ReLU that fails: where a unit answers to few images, one of them in a small class makes up most of a
statistic. The mean and the variance over all permutations of the labels are known exactly, from the
sizes of the classes and the fourth moment of the values; a beta distribution with the same two takes
the place of the permutations, also far in the tail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.preference import PValue
from activarium.tasks.statistics.ratio import ratio
from activarium.tasks.statistics.tail_probabilities import f_log10_sf

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


def share_variance(count: NDArray[np.integer], fourth: ArrayLike) -> Array:
    """Return the variance of the share of squares between classes, over all permuted labels.

    The share is sum(S_c^2 / n_c) / sum(y^2) of values y with mean 0 and their sums S_c by class; its
    mean is (K - 1) / (N - 1) for K classes of N images.

    Parameters
    ----------
    count
        Images per class, along the last axis; classes without images are left out. Leading axes
        broadcast against `fourth`.
    fourth
        sum(y^4) / sum(y^2)^2, from 1 / N on.

    Returns
    -------
    Variance, at least 0; 0 where there are fewer than four images.

    References
    ----------
    Pitman (1938), Significance tests which may be applied to samples from any populations: III, for
    the moments; Box and Andersen (1955), Permutation theory in the derivation of robust criteria and
    the study of departures from assumption.
    """
    n = count.astype(np.float64)
    images = n.sum(axis=-1)
    classes = (n > 0).sum(axis=-1).astype(np.float64)
    inverse = ratio(1.0, n, otherwise=0.0).sum(axis=-1)
    squares = (n * n).sum(axis=-1)
    g = np.asarray(fourth, np.float64)
    pairs = images * (images - 1.0)
    triples = pairs * (images - 2.0)
    quadruples = triples * (images - 3.0)
    # Means over ordered choices of different images of y1^4, y1^3 y2, y1^2 y2^2, y1^2 y2 y3 and
    # y1 y2 y3 y4, of values whose squares add up to 1.
    e4, e31, e22 = g / images, -g / pairs, (1.0 - g) / pairs
    e211 = ratio(2.0 * g - 1.0, triples, otherwise=0.0)
    e1111 = ratio(3.0 - 6.0 * g, quadruples, otherwise=0.0)
    # How often each occurs in the square of sum(S_c^2 / n_c): within classes, then between two.
    within = (
        e4 * inverse
        + (4.0 * e31 + 3.0 * e22) * (classes - inverse)
        + 6.0 * e211 * (images - 3.0 * classes + 2.0 * inverse)
        + e1111 * (squares - 6.0 * images + 11.0 * classes - 6.0 * inverse)
    )
    others = squares - 2.0 * images + classes
    between = (
        e22 * classes * (classes - 1.0)
        + 2.0 * e211 * (classes - 1.0) * (images - classes)
        + e1111 * ((images - classes) ** 2 - others)
    )
    mean = (classes - 1.0) / (images - 1.0)
    variance: Array = np.where(images < 4, 0.0, np.maximum(within + between - mean * mean, 0.0))
    return variance


def beta_p(share: Array, count: NDArray[np.integer], fourth: ArrayLike) -> PValue:
    """Return the p-value of a share of squares by the beta distribution of equal mean and variance.

    Without ties in unequal classes it is close to the textbook's. 1 where no permutation changes
    the share: fewer than two classes with images, classes of one image each, constant units.

    Parameters
    ----------
    share
        Share of the squares between classes, from 0 to 1; 0 for constant units.
    count, fourth
        As `share_variance` has them.

    Returns
    -------
    p and log10 p, of the broadcast shape.

    References
    ----------
    Box and Andersen (1955); Wallace (1959), Simplified beta-approximations to the Kruskal-Wallis H
    test.
    """
    variance = share_variance(count, fourth)
    images = count.sum(axis=-1)
    mean = ((count > 0).sum(axis=-1) - 1.0) / np.maximum(images - 1.0, 1.0)
    shape = np.broadcast_shapes(np.shape(share), np.shape(variance))
    share, variance, mean = (np.broadcast_to(each, shape) for each in (share, variance, mean))
    room = mean * (1.0 - mean)
    # Two values of the share, at its ends, have all the room; the beta has no such shape.
    known = (variance > 1e-12 * room) & (variance < room) & (room > 0)
    size = ratio(room, np.where(known, variance, 1.0), otherwise=1.0) - 1.0
    first, second = mean * size, (1.0 - mean) * size
    first, second = (np.where(known, each, 1.0) for each in (first, second))
    odds = ratio(share * second, (1.0 - share) * first, otherwise=np.inf)
    log10_p = np.where(known, f_log10_sf(odds, 2.0 * first, 2.0 * second), 0.0)
    return PValue(10.0**log10_p, log10_p)
