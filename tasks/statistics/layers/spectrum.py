"""How many dimensions the responses of a layer use, from the covariance of its units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigvalsh

from activarium.tasks.statistics.layers.layer_moments import column_moments
from activarium.tasks.statistics.layers.layer_rows import row_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.layers.layer_moments import ColumnMoments
    from activarium.tasks.statistics.layers.layer_rows import LayerRows


def covariance(rows: LayerRows, *, moments: ColumnMoments | None = None) -> NDArray[np.float64]:
    """Return the covariance of all pairs of units, of the population (divided by N).

    Deviations from the mean are multiplied, in a pass of their own: a large mean does not
    swallow a small variance. Rows and columns of constant units are exactly 0, and so is
    everything without images.

    Parameters
    ----------
    rows
        Finite responses of a layer.
    moments
        `column_moments(rows)`, measured here if None.

    Returns
    -------
    Covariance, shape (unit, unit), float64.

    Raises
    ------
    ValueError
        Where a response is not finite, or the blocks do not fit the rows' size.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance:
    the two-pass algorithm.
    """
    scale = column_moments(rows) if moments is None else moments
    products = np.zeros((rows.units, rows.units))
    for _, chunk in row_chunks(rows):
        centred = chunk.astype(np.float64)
        centred -= scale.mean
        products += centred.T @ centred
    # The rounding of the mean enters squared, far below the rounding of the products.
    products /= max(rows.images, 1)
    return products


def effective_dimension(covariance: NDArray[np.float64]) -> float:
    """Return the participation ratio of the covariance's eigenvalues.

    (sum of eigenvalues)^2 / (sum of their squares), from 1 (one direction holds all variance) to
    the number of units; NaN where nothing varies.

    Parameters
    ----------
    covariance
        Covariance of the units, shape (unit, unit).

    Raises
    ------
    ValueError
        Where the covariance is not a finite square matrix.

    References
    ----------
    Gao et al. (2017), A theory of multineuronal dimensionality, equation 1.
    """
    scaled = _scaled(covariance)
    trace = float(np.trace(scaled))
    # The squares of all entries of a symmetric matrix add up to those of its eigenvalues.
    return trace**2 / float(np.einsum("uv,uv->", scaled, scaled)) if trace > 0 else float("nan")


def sufficient_dimensions(covariance: NDArray[np.float64], *, share: float = 0.99) -> int:
    """Return the smallest number of principal components that explain a share of the variance.

    Far fewer than units where units repeat one another. 0 where nothing varies. Eigenvalues
    within rounding of 0 count as 0, and a share missed by rounding only is reached.

    Parameters
    ----------
    covariance
        Covariance of the units, shape (unit, unit).
    share
        Share of the variance to explain, above 0, at most 1.

    Raises
    ------
    ValueError
        Where the covariance is not a finite square matrix, or the share is out of range.

    References
    ----------
    Jolliffe (2002), Principal component analysis, section 6.1.1: cumulative percentage of total
    variation.
    """
    if not 0 < share <= 1:
        msg = f"expected a share above 0 and at most 1, got {share!r}"
        raise ValueError(msg)
    scaled = _scaled(covariance)
    if not scaled.any():
        return 0
    value = eigvalsh(scaled)[::-1]
    rounding = value.size * float(np.finfo(np.float64).eps)
    explained = np.cumsum(np.where(value > rounding * value[0], value, 0.0))
    return int(np.searchsorted(explained, (share - rounding) * explained[-1])) + 1


def _scaled(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance with a largest variance of 1, so that squares stay in range."""
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        msg = f"expected a covariance of shape (unit, unit), got shape {covariance.shape}"
        raise ValueError(msg)
    if not np.isfinite(covariance).all():
        raise ValueError("expected a finite covariance, got NaN or infinity")
    largest = float(np.diag(covariance).max(initial=0.0))
    return covariance / largest if largest > 0 else np.zeros_like(covariance)
