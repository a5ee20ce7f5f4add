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
def _nothing_kept(ranks: int, images: int) -> tuple[float, int]:
    """Return the response and place that stand for the last one kept before any is.

    Every image comes before them, or none where there are no ranks.
    """
    return (-np.inf, images) if ranks > 0 else (np.inf, -1)


@njit(nogil=True, cache=True)
def _insert(
    value: float,
    image: int,
    place: NDArray[np.int64],
    best: NDArray[np.float32],
    ranked: NDArray[np.int64],
) -> tuple[float, int]:
    """Put an image that comes before the last one kept at its rank, and drop that one.

    Return the response and the place of the one that is now the last.
    """
    rank = len(ranked) - 1
    while rank > 0:
        before = ranked[rank - 1]
        if before >= 0 and (
            value < best[rank - 1] or (value == best[rank - 1] and place[before] < place[image])
        ):
            break
        best[rank] = best[rank - 1]
        ranked[rank] = before
        rank -= 1
    best[rank] = value
    ranked[rank] = image
    last = ranked[-1]
    return (best[-1], place[last]) if last >= 0 else _nothing_kept(len(ranked), len(place))


@njit(nogil=True, cache=True)
def _scan(  # noqa: PLR0913, PLR0917 - the matrix, its labels and order, and what to fill
    responses: NDArray[np.float32],
    label: NDArray[np.int64],
    place: NDArray[np.int64],
    sign: float,
    overall: NDArray[np.int64],
    by_class: NDArray[np.int64],
) -> None:
    units, images = responses.shape
    classes, class_ranks = by_class.shape[1:]
    best = np.empty(overall.shape[1], np.float32)
    class_best = np.empty((classes, class_ranks), np.float32)
    # Response and place of the last image kept in each class, which few others come before.
    class_floor, class_last = np.empty(classes), np.empty(classes, np.int64)
    for unit in range(units):
        own, own_class = overall[unit], by_class[unit]
        floor, last = _nothing_kept(len(own), images)
        class_floor[:], class_last[:] = _nothing_kept(class_ranks, images)
        # In the order in which they lie in memory, not in that of their places.
        for image in range(images):
            value = sign * responses[unit, image]
            if value > floor or (value == floor and place[image] < last):
                floor, last = _insert(value, image, place, best, own)
            code = label[image]
            if code >= 0 and (
                value > class_floor[code]
                or (value == class_floor[code] and place[image] < class_last[code])
            ):
                class_floor[code], class_last[code] = _insert(
                    value, image, place, class_best[code], own_class[code]
                )


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
    place = np.arange(len(label))
    if order is not None:
        place[order] = np.arange(len(label))
    _scan(responses, label.astype(np.int64), place, sign, overall, by_class)
    return Extremes(overall, by_class)
