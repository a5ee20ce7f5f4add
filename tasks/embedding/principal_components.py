"""Principal components, exact at any number of images.

The covariance is summed over blocks of rows, so that memory does not grow with the images. Each
block is taken around its own mean and merged: a large mean does not swallow a small variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import eigh

from activarium.tasks.embedding.points import checked_points
from activarium.tasks.statistics.layers.layer_rows import row_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from activarium.tasks.statistics.layers.layer_rows import LayerRows

    Floats = NDArray[np.floating]

FEWEST_IMAGES = 3
_ROWS = 4_096
"""Rows of a matrix in memory that are copied at a time."""


@dataclass(frozen=True)
class PrincipalComponents:
    """Directions of most variance among images of F features."""

    explained_variance_ratio: NDArray[np.float64]
    """Share of the total variance per dimension, shape (D,), 0 to 1, falling."""
    mean: NDArray[np.float64]
    """Mean of every feature, shape (F,)."""
    components: NDArray[np.float64]
    """Unit vectors, shape (D, F); zero where no variance is left."""

    def project(self, points: Floats) -> NDArray[np.float32]:
        """Return the coordinates of images (N, F) by the components, shape (N, D)."""
        coordinates = np.empty((len(points), len(self.components)), np.float32)
        for start in range(0, len(points), _ROWS):
            rows = points[start : start + _ROWS] - self.mean
            coordinates[start : start + _ROWS] = rows @ self.components.T
        return coordinates


@dataclass(frozen=True)
class PcaResult(PrincipalComponents):
    """Principal components of N images with F features, and where these lie."""

    coordinates: NDArray[np.float32]
    """Images x dimensions, shape (N, D)."""


class RowProducts(NamedTuple):
    """Sums over images from which principal components follow."""

    images: int
    mean: NDArray[np.float64]
    """Mean of every feature, shape (F,)."""
    products: NDArray[np.float64]
    """Sum over the images of the products of deviations from the mean, shape (F, F)."""


def row_products(rows: LayerRows) -> RowProducts:
    """Return means and summed products of deviations, in one pass over the rows.

    Parameters
    ----------
    rows
        Finite features of N images.

    Raises
    ------
    ValueError
        Where a feature is NaN or infinite, or the blocks do not fit the rows' size.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance: the updating
    formulae, for pairs of features.
    """
    return merged_products(_chunk_products(chunk) for _, chunk in row_chunks(rows))


def _chunk_products(chunk: Floats) -> RowProducts:
    value = chunk.astype(np.float64)
    mean = value.mean(axis=0)
    if not np.isfinite(mean).all():
        raise ValueError("expected finite features, got NaN or infinity")
    value -= mean
    return RowProducts(len(chunk), mean, value.T @ value)


def merged_products(parts: Iterable[RowProducts]) -> RowProducts:
    """Return the sums over all images from those over some, in the given order.

    Parameters
    ----------
    parts
        At least one; the first one's products are overwritten.

    Raises
    ------
    ValueError
        Where there is no part.
    """
    count, mean, products = 0, np.zeros(0), np.zeros((0, 0))
    for part in parts:
        if not count:
            count, mean, products = part
            continue
        share = part.images / (count + part.images)
        delta = part.mean - mean
        products += part.products
        products += np.outer(delta * (count * share), delta)
        mean = mean + delta * share
        count += part.images
    if not count:
        raise ValueError("expected at least one image, got none")
    return RowProducts(count, mean, products)


def principal_components(sums: RowProducts, *, dimensions: int) -> PrincipalComponents:
    """Return the components of most variance from the sums over all images.

    Parameters
    ----------
    sums
        Of at least 3 images.
    dimensions
        Number of components D, reduced to min(N, F) where there are fewer.

    Returns
    -------
    Components, the largest loading in magnitude positive.

    Raises
    ------
    ValueError
        If there are fewer than 3 images, or `dimensions` is below 1.

    References
    ----------
    Jolliffe (2002), Principal component analysis, section 1.1: eigenvectors of the covariance.
    """
    _check_size(sums.images, dimensions)
    features = len(sums.mean)
    value, vector = _largest(sums.products, min(dimensions, sums.images, features))
    varies = _varies(value, max(sums.images, features))
    return PrincipalComponents(
        explained_variance_ratio=_shares(value, varies, float(np.trace(sums.products))),
        mean=sums.mean,
        components=_upright(np.where(varies[:, None], vector, 0.0)),
    )


def pca(points: Floats, *, dimensions: int) -> PcaResult:
    """Project images on their principal components, exactly.

    Eigenvectors of the covariance, or of the Gram matrix with more features than
    images, in float64. The sign is fixed: the largest loading in magnitude is positive.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite, at least 3 images.
    dimensions
        Number of components D, reduced to min(N, F) where there are fewer.

    Returns
    -------
    Coordinates, shares of variance, mean and components. Components without
    variance (down to rounding) are zero vectors with zero coordinates.

    Raises
    ------
    ValueError
        If the points are not a finite matrix of at least 3 images, or `dimensions` is
        below 1.
    """
    rows = checked_points(points, fewest=FEWEST_IMAGES)
    _check_size(len(rows), dimensions)
    if rows.shape[1] > len(rows):
        found = _by_gram(rows, dimensions=dimensions)
    else:
        found = principal_components(_chunk_products(rows), dimensions=dimensions)
    return PcaResult(
        explained_variance_ratio=found.explained_variance_ratio,
        mean=found.mean,
        components=found.components,
        coordinates=found.project(rows),
    )


def _by_gram(rows: Floats, *, dimensions: int) -> PrincipalComponents:
    """Return the components from the products of images, of which there are fewer than features."""
    n, features = rows.shape
    mean = rows.mean(axis=0)
    moved = rows - mean
    gram = moved @ moved.T
    value, vector = _largest(gram, min(dimensions, n))
    varies = _varies(value, features)
    loading = (vector @ moved) / np.sqrt(np.where(varies, value, 1.0))[:, None]
    return PrincipalComponents(
        explained_variance_ratio=_shares(value, varies, float(np.trace(gram))),
        mean=mean,
        components=_upright(np.where(varies[:, None], loading, 0.0)),
    )


def _check_size(images: int, dimensions: int) -> None:
    if images < FEWEST_IMAGES:
        raise ValueError(f"expected at least {FEWEST_IMAGES} images, got {images!r}")
    if dimensions < 1:
        raise ValueError(f"expected at least 1 dimension, got {dimensions!r}")


def _largest(matrix: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the largest eigenvalues of a symmetric matrix, falling, and their vectors as rows."""
    size = len(matrix)
    value, vector = eigh(matrix, subset_by_index=[size - count, size - 1], driver="evr")
    return value[::-1], vector.T[::-1]


def _varies(value: Floats, size: int) -> NDArray[np.bool_]:
    """Return whether a component has variance beyond rounding."""
    varies: NDArray[np.bool_] = value > size * np.finfo(np.float64).eps * max(value[0], 0.0)
    return varies


def _shares(value: Floats, varies: NDArray[np.bool_], total: float) -> NDArray[np.float64]:
    kept = np.where(varies, value, 0.0)
    return kept / total if total > 0 else kept


def _upright(vector: Floats) -> NDArray[np.float64]:
    """Turn each vector so that its largest loading in magnitude is positive."""
    largest = np.take_along_axis(vector, np.abs(vector).argmax(axis=1)[:, None], axis=1)
    return np.where(largest < 0, -vector, vector)
