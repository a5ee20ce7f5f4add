"""Procrustes similarity: how well the best rotation carries one layer's images onto another's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.similarity.centred_kernel_alignment import normalised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


def nuclear_norm(product: Matrix) -> float:
    """Return the sum of the singular values of a matrix.

    By a decomposition of the matrix itself: the roots of the eigenvalues of its square would
    lose half the digits of the small ones.

    Parameters
    ----------
    product
        X^T Y, shape (unit, other unit).
    """
    return float(np.linalg.svd(product, compute_uv=False).sum())


def procrustes_similarity(
    nuclear: Matrix, total: NDArray[np.float64], other_total: NDArray[np.float64]
) -> Matrix:
    """Return the cosine of two layers after the best orthogonal map, from 0 to 1.

    1 - similarity is half the squared orthogonal Procrustes distance of responses that are
    centred and scaled to norm 1 (Ding et al. 2021), and arccos(similarity) is the angular shape
    metric of Williams et al. (2021). The square is the share of variance of the one that the
    best orthogonal map of the other, with one scale, explains. Layers of fewer units count as if
    they had further ones that are 0.

    Parameters
    ----------
    nuclear
        Nuclear norm of X^T Y, shape (layer, other layer).
    total
        Sum of squares of X, shape (layer,).
    other_total
        Sum of squares of Y, shape (other layer,).

    Returns
    -------
    Shape (layer, other layer); NaN where a layer is constant.

    References
    ----------
    Schönemann (1966), A generalized solution of the orthogonal Procrustes problem. Ding, Denain
    and Steinhardt (2021), Grounding representation similarity through statistical testing,
    section 2. Williams, Kunz, Kornblith and Linderman (2021), Generalized shape metrics on
    neural representations, equations 5 to 7.
    """
    return np.minimum(normalised(nuclear, total, other_total), 1.0)
