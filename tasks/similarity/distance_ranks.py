"""Representational similarity analysis (RSA): whether layers order the pairs of images alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import pdist

from activarium.tasks.similarity.centred_kernel_alignment import normalised
from activarium.tasks.statistics.units.spearman import centred_ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


def distance_ranks(responses: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the ranks of the Euclidean distances between all pairs of images.

    Each distance is summed over the units in their order, so equal images are at equal distances
    from a third to the last bit; ties share their mean rank.

    Parameters
    ----------
    responses
        Finite responses, shape (image, unit).

    Returns
    -------
    Twice the midrank less its mean, a whole number, shape (image (image - 1) / 2,), pairs in the
    order of `scipy.spatial.distance.pdist`.

    References
    ----------
    Kriegeskorte, Mur and Bandettini (2008), Representational similarity analysis.
    """
    if len(responses) < 2:
        return np.zeros(0, np.int32)
    # Squares have the same ranks.
    return centred_ranks(pdist(responses.astype(np.float64), "sqeuclidean")).astype(np.int32)


def rank_correlation(
    products: Matrix, own: NDArray[np.float64], other: NDArray[np.float64]
) -> Matrix:
    """Return Spearman's correlation of layers' distances, from -1 to 1.

    Parameters
    ----------
    products
        Scalar products of the centred ranks, shape (layer, other layer).
    own
        Those of each layer with itself, shape (layer,).
    other
        Those of each other layer with itself, shape (other layer,).

    Returns
    -------
    Shape (layer, other layer); NaN where all distances of a layer are equal.
    """
    return np.clip(normalised(products, own, other), -1.0, 1.0)
