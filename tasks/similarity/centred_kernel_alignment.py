"""Linear centred kernel alignment (CKA) of layers, from sums over images; debiased too.

With K = X X^T and L = Y Y^T of centred responses, tr(K L) is the sum of squares of X^T Y, the
diagonals are the squared norms of the images, and all rows add up to 0: no matrix of images is
needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Vector = NDArray[np.float64]

_ROUNDING = 1e-12
"""A debiased self-similarity below this share of its terms is 0, but for rounding."""

FEWEST_DEBIASED = 4
"""Images from which on the unbiased estimate is defined."""


@dataclass(frozen=True)
class Sums:
    """What is summed over the images of each layer alone."""

    own: Vector
    """Sum of squares of X^T X, shape (layer,)."""
    total: Vector
    """Sum of squares of X, shape (layer,)."""
    squared_norms: Vector
    """Sum over images of the squared norm of each, squared, shape (layer,)."""


def linear_cka(product: Matrix, own: Vector, other: Vector) -> Matrix:
    """Return linear CKA, from 0 to 1; NaN where a layer is constant.

    Parameters
    ----------
    product
        Sum of squares of X^T Y, shape (layer, other layer).
    own
        Sum of squares of X^T X, shape (layer,).
    other
        Sum of squares of Y^T Y, shape (other layer,).

    Returns
    -------
    |X^T Y|^2 / (|X^T X| |Y^T Y|), shape (layer, other layer).

    References
    ----------
    Kornblith, Norouzi, Lee and Hinton (2019), Similarity of neural network representations
    revisited, section 3 and table 1.
    """
    return np.minimum(normalised(product, own, other), 1.0)


def debiased_cka(
    product: Matrix, norm_products: Matrix, first: Sums, second: Sums, *, images: int
) -> Matrix:
    """Return CKA of the unbiased estimates of HSIC, from -1 to 1.

    Where the images of both layers have nothing in common it is 0 on average, whatever the
    numbers of images and units; `linear_cka` approaches 1 there with more units than images.

    Parameters
    ----------
    product
        Sum of squares of X^T Y, shape (layer, other layer).
    norm_products
        Sum over images of |x|^2 |y|^2, shape (layer, other layer).
    first
        Sums of the layers.
    second
        Sums of the other layers.
    images
        Number of images.

    Returns
    -------
    Shape (layer, other layer); NaN below 4 images, and where all images of a layer are equally
    far from one another, as in a constant one.

    References
    ----------
    Song, Smola, Gretton, Bedo and Borgwardt (2012), Feature selection via dependence
    maximization, equation 5. Nguyen, Raghu and Kornblith (2021), Do wide and deep networks learn
    the same things?, equation 3. Murphy, Zylberberg and Fyshe (2024), Correcting biased centered
    kernel alignment measures in biological and artificial neural networks.
    """
    if images < FEWEST_DEBIASED:
        return np.full(product.shape, np.nan)
    totals = first.total[:, None] * second.total
    estimate = _unbiased(product, norm_products, totals, images)
    own = [_own_unbiased(each, images) for each in (first, second)]
    return np.clip(normalised(estimate, *own), -1.0, 1.0)


def _unbiased(product: Matrix, norm_products: Matrix, totals: Matrix, images: int) -> Matrix:
    """Return the unbiased HSIC of linear kernels, times N (N - 3), which cancels.

    Centred rows add up to 0, so those of a Gram matrix without its diagonal add up to its
    diagonal's negative.
    """
    return (
        product
        - norm_products * (images / (images - 2))
        + totals / ((images - 1.0) * (images - 2.0))
    )


def _own_unbiased(sums: Sums, images: int) -> Vector:
    estimate = _unbiased(sums.own, sums.squared_norms, sums.total**2, images)
    size = sums.own + sums.squared_norms
    return np.where(estimate > _ROUNDING * size, estimate, 0.0)


def normalised(product: Matrix, own: Vector, other: Vector) -> Matrix:
    """Return product / sqrt(own other), NaN where either is 0.

    Parameters
    ----------
    product
        Shape (layer, other layer).
    own
        Of each layer with itself, not negative, shape (layer,).
    other
        Of each other layer with itself, shape (other layer,).
    """
    scale, other_scale = (np.where(each > 0, np.sqrt(each), np.nan) for each in (own, other))
    found: Matrix = product / scale[:, None] / other_scale
    return found
