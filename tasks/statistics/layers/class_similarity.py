"""Whether two images of one class look more alike to a layer than two of different classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from activarium.tasks.statistics.class_order import checked_codes
from activarium.tasks.statistics.layers.layer_moments import (
    add_class_sums,
    column_moments,
    standardised,
)
from activarium.tasks.statistics.layers.layer_rows import row_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.layers.layer_moments import ColumnMoments
    from activarium.tasks.statistics.layers.layer_rows import LayerRows


class ClassSimilarity(NamedTuple):
    """Mean cosine of two images' vectors of standardised responses."""

    within: float
    """Over all pairs of different images of one class; NaN without such a pair."""
    between: float
    """Over all pairs of images of different classes; NaN without such a pair."""


def class_similarity(
    rows: LayerRows,
    code: NDArray[np.integer],
    n_classes: int,
    *,
    moments: ColumnMoments | None = None,
) -> ClassSimilarity:
    """Return the mean cosine over all pairs of images within and between classes.

    The vector of an image holds (x - mean) / sd of every unit that varies. Exact over all pairs,
    in time and memory that grow with images, not with pairs: the sum of the dot products between
    two sets of vectors is the dot product of their sums. A vector of zeros, an image at the mean
    of all units or any image where all units are constant, has cosine 0 with every other.

    Parameters
    ----------
    rows
        Finite responses of a layer.
    code
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    moments
        `column_moments(rows)`, measured here if None.

    Returns
    -------
    Mean cosines within and between classes, each in [-1, 1].

    Raises
    ------
    ValueError
        Where a response is not finite, there is not one class code per image, or one is out of
        range.
    """
    codes = checked_codes(code, rows.images, n_classes)
    scale = column_moments(rows) if moments is None else moments
    sums = np.zeros((n_classes, int((~scale.is_constant).sum())))
    count = np.bincount(codes, minlength=n_classes)
    nonzero = np.zeros(n_classes, np.int64)
    for where, chunk in row_chunks(rows):
        vectors = standardised(chunk, scale)
        length = np.sqrt(np.einsum("iu,iu->i", vectors, vectors))
        vectors /= np.where(length > 0, length, 1.0)[:, None]
        add_class_sums(sums, vectors, codes[where])
        nonzero += np.bincount(codes[where][length > 0], minlength=n_classes)
    own_pairs = int((count * (count - 1)).sum()) // 2
    all_pairs = int(count.sum()) * (int(count.sum()) - 1) // 2
    # Each image's product with itself is in the class's square: 1, or 0 for a vector of zeros.
    own = (np.einsum("cu,cu->c", sums, sums) - nonzero).sum() / 2.0
    return ClassSimilarity(
        _mean_cosine(float(own), own_pairs),
        _mean_cosine(_products_between(sums), all_pairs - own_pairs),
    )


def _products_between(sums: NDArray[np.float64]) -> float:
    """Return the sum of the dot products of all pairs of rows.

    Added up row by row: the square of the total minus the rows' own squares would lose the
    digits of a small class beside a large one.
    """
    total = 0.0
    before = np.zeros(sums.shape[1])
    for row in sums:
        total += float(before @ row)
        before += row
    return total


def _mean_cosine(total: float, pairs: int) -> float:
    # Rounding may leave a mean of ones above 1.
    return min(max(total / pairs, -1.0), 1.0) if pairs else float("nan")
