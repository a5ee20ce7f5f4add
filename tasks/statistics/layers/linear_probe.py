"""How well a linear classifier reads the class of an image from all units of a layer."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from activarium.tasks.statistics.class_order import checked_codes
from activarium.tasks.statistics.layers.layer_moments import (
    add_class_sums,
    column_moments,
    standardised,
)
from activarium.tasks.statistics.layers.layer_rows import row_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from activarium.tasks.statistics.layers.layer_moments import ColumnMoments
    from activarium.tasks.statistics.layers.layer_rows import LayerRows

FOLDS = 5
PENALTY = 0.01
"""Ridge penalty as a share of a standardised unit's variance.

A direction among the units keeps half its weight where its variance is a hundredth of one unit's.
Large enough to damp the fit of noise where there are about as many images as units; with many
more images a smaller one gives about the same accuracy.
"""

_MOST = 5 * 2**22
"""Values of all folds' products that may be held together: five folds of 2,048 units."""
_TIE = 1e-9
"""Scores, which are around 1 in size, closer than this are equal."""


class ProbeAccuracy(NamedTuple):
    """Cross-validated accuracy of the linear probe of a layer."""

    accuracy: float
    """Share of images whose class is predicted while their fold is held out."""
    chance: float
    """Share of the largest class: the accuracy of always naming it. NaN without images."""
    right: NDArray[np.bool_]
    """Whether each image's class was predicted, shape (image,); empty where that is undefined."""


class _Sums(NamedTuple):
    """Sums over a set of images that suffice for the fit."""

    gram: NDArray[np.float64]
    """Products of units, shape (unit, unit); only its lower triangle is filled."""
    by_class: NDArray[np.float64]
    """Sum of each class's vectors, shape (class, unit)."""
    images: NDArray[np.int64]
    """Images per class, shape (class,)."""


def probe_accuracy(  # noqa: PLR0913 - data and labels, and the method's own settings
    rows: LayerRows,
    code: NDArray[np.integer],
    n_classes: int,
    *,
    folds: int = FOLDS,
    penalty: float = PENALTY,
    moments: ColumnMoments | None = None,
) -> ProbeAccuracy:
    """Return the cross-validated accuracy of a ridge classifier on all units of a layer.

    The share of images that `probe_predictions` gets right. NaN where that is undefined: fewer
    than two classes with images, or no class with two. Where other classes have two, the one
    image of a class is always wrong, for nothing is left to learn its class from.

    Parameters
    ----------
    rows
        Finite responses of a layer, images in an order that does not depend on how they were read.
    code
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    folds
        Number of folds, at least 2.
    penalty
        Ridge penalty per training image, above 0.
    moments
        `column_moments(rows)`, measured here if None.

    Raises
    ------
    ValueError
        Where a response is not finite, a class code, `folds` or `penalty` is out of range, or
        there is not one code per image.
    """
    predicted = probe_predictions(
        rows, code, n_classes, folds=folds, penalty=penalty, moments=moments
    )
    if not predicted.size:
        return ProbeAccuracy(float("nan"), float("nan"), np.zeros(0, bool))
    chance = float(np.bincount(code).max()) / predicted.size
    if predicted[0] < 0:
        return ProbeAccuracy(float("nan"), chance, np.zeros(0, bool))
    right = predicted == code
    return ProbeAccuracy(float(right.mean()), chance, right)


def probe_predictions(  # noqa: PLR0913 - data and labels, and the method's own settings
    rows: LayerRows,
    code: NDArray[np.integer],
    n_classes: int,
    *,
    folds: int = FOLDS,
    penalty: float = PENALTY,
    moments: ColumnMoments | None = None,
) -> NDArray[np.int64]:
    """Return the class that a ridge classifier predicts for each image while it is held out.

    Least squares on one target per class (1 for its images, 0 for others) with an intercept and
    an L2 penalty of `penalty` times the number of training images; the class of the largest
    score is predicted, of equal scores (to 1e-9) the lowest code. A class without training images
    is never predicted. Units are standardised over all images, those held out too, which tells
    the classifier nothing of their classes; constant units are left out, and where no unit varies
    the largest training class is predicted.

    Folds are stratified and drawn by position: the k-th image of its class (from 0) is held out
    in fold k mod `folds`. Another order of images is another division, so callers give images in
    a canonical order.

    Memory is three matrices (unit, unit) in float64, or `folds` + 3 of up to 2,048 units, and
    about 2 `folds` + 2 matrices (unit, class). The products of a training set are those of all images
    minus those of the fold, so each image is multiplied once or twice, not `folds` times.

    Parameters
    ----------
    rows
        Finite responses of a layer, images in an order that does not depend on how they were read.
    code
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    folds
        Number of folds, at least 2.
    penalty
        Ridge penalty per training image, above 0.
    moments
        `column_moments(rows)`, measured here if None.

    Returns
    -------
    Predicted class codes, shape (image,); all -1 with fewer than two classes with images, or
    where no class has two images.

    Raises
    ------
    ValueError
        Where a response is not finite, a class code, `folds` or `penalty` is out of range, or
        there is not one code per image.

    References
    ----------
    Alain and Bengio (2017), Understanding intermediate layers using linear classifier probes;
    Hoerl and Kennard (1970), Ridge regression: biased estimation for nonorthogonal problems. The
    same as scikit-learn's `RidgeClassifier` with alpha = `penalty` times training images.
    """
    codes = checked_codes(code, rows.images, n_classes)
    if folds < 2 or not penalty > 0:
        msg = f"expected at least 2 folds and a penalty above 0, got {folds!r} and {penalty!r}"
        raise ValueError(msg)
    count = np.bincount(codes, minlength=n_classes)
    if (count > 0).sum() < 2 or count.max() < 2:
        return np.full(rows.images, -1, np.int64)
    scale = column_moments(rows) if moments is None else moments
    fold = _folds(codes, n_classes, folds)
    training = _training_sums(rows, scale, codes, n_classes, fold)
    fits = [_fit(sums, penalty) for sums in training]
    predicted = np.empty(rows.images, np.int64)
    for where, chunk in row_chunks(rows):
        for held_out in np.unique(fold[where]):
            own = np.flatnonzero(fold[where] == held_out)
            weight, intercept = fits[held_out]
            score = standardised(chunk[own], scale) @ weight + intercept
            near = score >= score.max(axis=1, keepdims=True) - _TIE
            predicted[where.start + own] = near.argmax(axis=1)
    return predicted


def _folds(codes: NDArray[np.int64], n_classes: int, folds: int) -> NDArray[np.int64]:
    """Return the fold that holds out each image: its position within its class, mod `folds`."""
    count = np.bincount(codes, minlength=n_classes)
    first = np.cumsum(count) - count
    position = np.empty(codes.size, np.int64)
    position[np.argsort(codes, kind="stable")] = np.arange(codes.size)
    fold: NDArray[np.int64] = (position - first[codes]) % folds
    return fold


def _training_sums(
    rows: LayerRows,
    scale: ColumnMoments,
    codes: NDArray[np.int64],
    n_classes: int,
    fold: NDArray[np.int64],
) -> Iterator[_Sums]:
    """Return the sums over the images outside each fold that holds images, in order of folds."""
    filled = int(fold.max()) + 1
    units = int((~scale.is_constant).sum())
    if filled * units**2 <= _MOST:
        parts = _sums_by_part(rows, scale, codes, n_classes, fold)
        everything = reduce(_together, parts)
        for part in parts:
            yield _without(everything, part)
        return
    (everything,) = _sums_by_part(rows, scale, codes, n_classes, np.zeros_like(fold))
    for held_out in range(filled):
        own = np.where(fold == held_out, 0, -1)
        (part,) = _sums_by_part(rows, scale, codes, n_classes, own)
        yield _without(everything, part)


def _sums_by_part(
    rows: LayerRows,
    scale: ColumnMoments,
    codes: NDArray[np.int64],
    n_classes: int,
    part: NDArray[np.int64],
) -> list[_Sums]:
    """Return the sums over the images of each part, in one pass; part -1 is left out."""
    units = int((~scale.is_constant).sum())
    sums = [
        _Sums(
            np.zeros((units, units)),
            np.zeros((n_classes, units)),
            np.bincount(codes[part == number], minlength=n_classes),
        )
        for number in range(int(part.max()) + 1)
    ]
    for where, chunk in row_chunks(rows):
        for number, held in enumerate(sums):
            own = part[where] == number
            vectors = standardised(chunk[own], scale)
            _add_products(held.gram, vectors)
            add_class_sums(held.by_class, vectors, codes[where][own])
    return sums


def _add_products(gram: NDArray[np.float64], vectors: NDArray[np.float64]) -> None:
    """Add the vectors' products of units to the lower triangle, in place."""
    if vectors.size:
        # BLAS counts by columns: what it takes for the upper triangle of the transpose. With the
        # product as a matrix of its own, allocating and adding it took longer than making it.
        dsyrk(1.0, vectors.T, beta=1.0, c=gram.T, overwrite_c=True)


def _together(one: _Sums, other: _Sums) -> _Sums:
    return _Sums(one.gram + other.gram, one.by_class + other.by_class, one.images + other.images)


def _without(everything: _Sums, part: _Sums) -> _Sums:
    """Return the sums over all images but the part's, in the part's own memory."""
    return _Sums(
        np.subtract(everything.gram, part.gram, out=part.gram),
        np.subtract(everything.by_class, part.by_class, out=part.by_class),
        everything.images - part.images,
    )


def _fit(sums: _Sums, penalty: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights (unit, class) and intercepts (class,), in the memory of the sums."""
    total = int(sums.images.sum())
    mean = sums.by_class.sum(axis=0) / total
    frequency = sums.images / total
    gram = sums.gram
    gram -= np.outer(mean * total, mean)
    gram[np.diag_indices_from(gram)] += penalty * total
    target = sums.by_class - sums.images[:, None] * mean
    if not mean.size:
        weight = np.zeros((0, frequency.size))
    else:
        # LAPACK too counts by columns, and reads the upper triangle only.
        weight = cho_solve(cho_factor(gram.T, overwrite_a=True), target.T)
    # The scores of an image add up to 1, so the largest is never that of a class without training
    # images, which is 0.
    return weight, frequency - mean @ weight
