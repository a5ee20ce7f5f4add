"""UMAP's weights of nearest neighbours: among the images of a map, and towards further ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]

# umap-learn's constants (umap.umap_.SMOOTH_K_TOLERANCE, MIN_K_DIST_SCALE).
WIDTH_TOLERANCE = 1e-5
SMALLEST_WIDTH = 1e-3
WIDTH_STEPS = 64


def fuzzy_graph(neighbours: Indices, distances: Floats) -> csr_array:
    """Weigh the edges between neighbours as UMAP does, and join both directions.

    An image's nearest neighbour that is not at distance 0 gets weight 1; the others
    fall off exponentially, at a width such that the weights sum to log2(K + 1).

    Parameters
    ----------
    neighbours
        Indices of the K nearest other images of every image, shape (N, K).
    distances
        Their distances, shape (N, K), ascending.

    Returns
    -------
    Symmetric weights from 0 to 1, shape (N, N), sparse, zero diagonal.

    References
    ----------
    McInnes, L., Healy, J. and Melville, J. (2018). arXiv:1802.03426, algorithms 2 and 3;
    the two directions join by the probabilistic union a + b - a b.
    """
    n, count = neighbours.shape
    scaled = distances / (distances.mean() or 1.0)
    nearest = np.where(scaled > 0, scaled, np.inf).min(axis=1, keepdims=True)
    nearest[np.isinf(nearest)] = 0.0
    excess = np.maximum(scaled - nearest, 0.0)
    width = _smooth_widths(excess, target=np.log2(count + 1))
    # umap-learn takes these means over the neighbourhood with the image itself in it.
    mean = np.where(nearest > 0, scaled.mean(axis=1, keepdims=True), scaled.mean())
    width = np.maximum(width, SMALLEST_WIDTH * mean * count / (count + 1))
    weight = np.exp(-excess / np.where(width > 0, width, 1.0))
    row = np.repeat(np.arange(n), count)
    one_way = coo_array((weight.ravel(), (row, neighbours.ravel())), shape=(n, n)).tocsr()
    other_way = one_way.T.tocsr()
    return (one_way + other_way - one_way * other_way).tocsr()


def memberships(distances: Floats) -> Floats:
    """Weigh the nearest images of a map for points that are no part of it, as UMAP does.

    exp(-distance / width), at a width such that the weights but for the nearest sum to log2(K).

    Parameters
    ----------
    distances
        From each of M points to its K nearest images, shape (M, K), ascending, K at least 2.

    Returns
    -------
    Weights from 0 to 1, shape (M, K); 1 where the distance is 0.

    References
    ----------
    McInnes, L., Healy, J. and Melville, J. (2018). arXiv:1802.03426; umap-learn's `transform`,
    which takes a local connectivity of 0.
    """
    size = distances.mean(axis=1, keepdims=True)
    scaled = distances / np.where(size > 0, size, 1.0)
    target = float(np.log2(distances.shape[1]))
    width = _smooth_widths(scaled[:, 1:], target=target)
    weight: Floats = np.exp(-scaled / np.maximum(width, SMALLEST_WIDTH))
    return weight


def _smooth_widths(excess: Floats, *, target: float) -> Floats:
    """Bisect for the width w of each row at which the sum of exp(-excess / w) meets the target."""
    low = np.zeros((len(excess), 1))
    high = np.full((len(excess), 1), np.inf)
    width = np.ones((len(excess), 1))
    for _ in range(WIDTH_STEPS):
        surplus = np.exp(-excess / width).sum(axis=1, keepdims=True) - target
        high = np.where(surplus > WIDTH_TOLERANCE, width, high)
        low = np.where(surplus < -WIDTH_TOLERANCE, width, low)
        middle = np.where(np.isinf(high), 2.0 * width, 0.5 * (low + high))
        width = np.where(np.abs(surplus) > WIDTH_TOLERANCE, middle, width)
    return width
