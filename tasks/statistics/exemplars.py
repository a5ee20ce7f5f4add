"""Exemplars: the images that each unit answers most and least, overall and within each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Extremes(NamedTuple):
    """Image positions in order of rank; -1 where there are fewer images than ranks."""

    overall: NDArray[np.int64]
    """Shape (unit, rank)."""
    by_class: NDArray[np.int64]
    """Shape (unit, class, rank)."""


@njit(nogil=True, cache=True)
def _insert(value: float, image: int, best: NDArray[np.float32], ranked: NDArray[np.int64]) -> None:
    ranks = len(best)
    if ranks == 0 or (ranked[ranks - 1] >= 0 and value <= best[ranks - 1]):
        return
    place = ranks - 1
    while place > 0 and (ranked[place - 1] < 0 or value > best[place - 1]):
        best[place] = best[place - 1]
        ranked[place] = ranked[place - 1]
        place -= 1
    best[place] = value
    ranked[place] = image


@njit(nogil=True, cache=True)
def _scan(  # noqa: PLR0913, PLR0917 - the matrix, its labels and order, and what to fill
    responses: NDArray[np.float32],
    label: NDArray[np.int64],
    order: NDArray[np.int64],
    sign: float,
    overall: NDArray[np.int64],
    by_class: NDArray[np.int64],
) -> None:
    units, images = responses.shape
    best = np.empty(overall.shape[1], np.float32)
    class_best = np.empty(by_class.shape[1:], np.float32)
    for unit in range(units):
        for k in range(images):
            image = order[k]
            value = sign * responses[unit, image]
            _insert(value, image, best, overall[unit])
            if label[image] >= 0:
                code = label[image]
                _insert(value, image, class_best[code], by_class[unit, code])


def extreme_images(  # noqa: PLR0913 - the two numbers of ranks are independent
    responses: NDArray[np.float32],
    label: NDArray[np.integer],
    n_classes: int,
    *,
    order: NDArray[np.int64] | None = None,
    ranks: int,
    class_ranks: int,
    least: bool = False,
) -> Extremes:
    """Return the images with the largest (or smallest) response of each unit.

    Equal responses are ranked by `order`, the first image first.

    Parameters
    ----------
    responses
        Responses, shape (unit, image), without NaN.
    label
        Class code per image, shape (image,); -1 leaves it out of the classes.
    n_classes
        Number of classes.
    order
        Positions of all images, the ones that come first among equals first; by default as they
        are, shape (image,).
    ranks, class_ranks
        Images kept per unit, overall and within each class.
    least
        Take the smallest responses.
    """
    units = len(responses)
    overall = np.full((units, ranks), -1, np.int64)
    by_class = np.full((units, n_classes, class_ranks), -1, np.int64)
    sign = -1.0 if least else 1.0
    sequence = np.arange(len(label)) if order is None else order
    _scan(responses, label.astype(np.int64), sequence, sign, overall, by_class)
    return Extremes(overall, by_class)
