"""Mean and standard deviation of every unit over all images, and responses standardised by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from activarium.tasks.statistics.layers.layer_rows import row_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.layers.layer_rows import LayerRows

_ROUNDING = 64 * float(np.finfo(np.float64).eps)
"""Rounding of a mean over many chunks, as a share of its size and the standard deviation."""


class ColumnMoments(NamedTuple):
    """Moments of every unit over all images; without images NaN, and all units are constant."""

    images: int
    """Number of images."""
    mean: NDArray[np.float64]
    """Mean response, shape (unit,)."""
    sd: NDArray[np.float64]
    """Standard deviation of the population (divided by N), shape (unit,); 0 where constant."""
    is_constant: NDArray[np.bool_]
    """Whether all responses of a unit are equal, shape (unit,)."""


def column_moments(rows: LayerRows) -> ColumnMoments:
    """Return mean and standard deviation of every unit, in one pass over the rows.

    Chunk by chunk, each with its own mean, merged in float64: a large mean does not swallow a
    small variance, and the mean of a constant unit is exact.

    Parameters
    ----------
    rows
        Finite responses of a layer.

    Returns
    -------
    Moments of every unit.

    Raises
    ------
    ValueError
        Where a response is NaN or infinite, or the blocks do not fit the rows' size.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance:
    the corrected two-pass algorithm and the updating formulae.
    """
    count = 0
    mean, m2 = np.zeros(rows.units), np.zeros(rows.units)
    low, high = np.full(rows.units, np.inf), np.full(rows.units, -np.inf)
    for _, chunk in row_chunks(rows):
        low, high = np.minimum(low, chunk.min(axis=0)), np.maximum(high, chunk.max(axis=0))
        if not np.isfinite(low).all() or not np.isfinite(high).all():
            raise ValueError("expected finite responses, got NaN or infinity")
        chunk_mean, chunk_m2 = _mean_and_m2(chunk)
        share = len(chunk) / (count + len(chunk))
        delta = chunk_mean - mean
        m2 += chunk_m2 + delta**2 * (count * share)
        mean = mean + delta * share
        count += len(chunk)
    constant = low >= high
    if count == 0:
        undefined = np.full(rows.units, np.nan)
        return ColumnMoments(0, undefined, undefined.copy(), np.ones(rows.units, np.bool_))
    return ColumnMoments(count, mean, np.where(constant, 0.0, np.sqrt(m2 / count)), constant)


def _mean_and_m2(chunk: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    value = chunk.astype(np.float64)
    # A sum of equal float32 values is exact in float64, and so is the mean of a constant unit.
    mean: NDArray[np.float64] = value.mean(axis=0)
    value -= mean
    residue = value.sum(axis=0)
    m2 = np.einsum("iu,iu->u", value, value) - residue**2 / len(value)
    return mean, np.maximum(m2, 0.0)


def standardised(chunk: NDArray[np.float32], moments: ColumnMoments) -> NDArray[np.float64]:
    """Return responses as (x - mean) / sd, without the constant units.

    A response that differs from the mean by no more than the mean's rounding is 0, so that an
    image of mean responses has no direction made of rounding.

    Parameters
    ----------
    chunk
        Responses, shape (image, unit).
    moments
        Moments of the units over all images of the layer.

    Returns
    -------
    Standardised responses, shape (image, varying unit).
    """
    varies = ~moments.is_constant
    mean, sd = moments.mean[varies], moments.sd[varies]
    value = np.compress(varies, chunk, axis=1).astype(np.float64)
    value -= mean
    value[np.abs(value) <= _ROUNDING * (np.abs(mean) + sd)] = 0.0
    value /= sd
    return value


def add_class_sums(
    total: NDArray[np.float64], vectors: NDArray[np.float64], code: NDArray[np.int64]
) -> None:
    """Add to each class the sum of its images' vectors, in place.

    Parameters
    ----------
    total
        Sums so far, shape (class, dimension).
    vectors
        One vector per image, shape (image, dimension).
    code
        Class code of each image, shape (image,).
    """
    if not code.size:
        return
    order = np.argsort(code, kind="stable")
    classes, start = np.unique(code[order], return_index=True)
    total[classes] += np.add.reduceat(vectors[order], start, axis=0)
