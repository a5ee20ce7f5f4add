"""Third and fourth powers of deviations: how the variance of a class's responses varies itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.class_order import by_class, class_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments

    Array = NDArray[np.float64]
    Sums = tuple[float, float, float, float, float]


class ShapeMoments(NamedTuple):
    """Sums of powers of deviations from the class's mean, each of shape (unit, class); 0 if empty."""

    m3: Array
    m4: Array


def shape_moments(
    responses: NDArray[np.float32], label: NDArray[np.integer], moments: ClassMoments
) -> ShapeMoments:
    """Return the sums of third and fourth powers about the means of every unit and class.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32. Images in order of their classes save a
        copy.
    label
        Class code of each image, shape (image,).
    moments
        `class_moments` of the same responses.
    """
    classes = len(moments.count)
    ordered, start = by_class(responses, class_codes(label, responses, classes), classes)
    found = ShapeMoments(np.zeros(moments.mean.shape), np.zeros(moments.mean.shape))
    _add_powers(ordered, start, moments.mean, *found)
    return found


@njit(nogil=True, cache=True)
def _add_powers(
    responses: NDArray[np.float32], start: NDArray[np.int64], mean: Array, m3: Array, m4: Array
) -> None:
    for unit in range(responses.shape[0]):
        for code in range(start.size - 1):
            if start[code + 1] > start[code]:
                own = responses[unit, start[code] : start[code + 1]]
                m3[unit, code], m4[unit, code] = _powers(own, mean[unit, code])


# Sums may be reassociated, which lets the compiler use vector registers.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nnan"})
def _powers(value: NDArray[np.float32], mean: float) -> tuple[float, float]:
    third = fourth = 0.0
    for i in range(value.size):
        deviation = np.float64(value[i]) - mean
        square = deviation * deviation
        third += square * deviation
        fourth += square * square
    return third, fourth


def rest_shapes(moments: ClassMoments, shapes: ShapeMoments) -> ShapeMoments:
    """Return the same sums over all images outside each class, about their mean.

    Merged from the other classes, never the total minus the class, as `rest_moments`.

    References
    ----------
    Pebay (2008), Formulas for robust, one-pass parallel computation of covariances and
    arbitrary-order statistical moments, equations 2.1 and 3.1.
    """
    found = ShapeMoments(np.zeros(moments.mean.shape), np.zeros(moments.mean.shape))
    _fill_rest(moments.count, moments.offset, moments.m2, *shapes, *found)
    return found


@njit(nogil=True, cache=True)
def _merge(first: Sums, second: Sums) -> Sums:
    """Return number, mean and sums of two disjoint sets of images together."""
    if second[0] == 0:
        return first
    if first[0] == 0:
        return second
    a, b = first[0], second[0]
    count = a + b
    delta = second[1] - first[1]
    step, both = delta / count, delta * delta * a * b / count
    third = step * (both * (a - b) + 3.0 * (a * second[2] - b * first[2]))
    squares = both * (a * a - a * b + b * b) + 6.0 * (a * a * second[2] + b * b * first[2])
    fourth = step * (step * squares + 4.0 * (a * second[3] - b * first[3]))
    return (
        count,
        first[1] + step * b,
        first[2] + second[2] + both,
        first[3] + second[3] + third,
        first[4] + second[4] + fourth,
    )


@njit(nogil=True, cache=True)
def _fill_rest(  # noqa: PLR0913, PLR0917 - sums by class, and the results
    count: NDArray[np.int64],
    mean: Array,
    m2: Array,
    m3: Array,
    m4: Array,
    rest_m3: Array,
    rest_m4: Array,
) -> None:
    units, classes = mean.shape
    before = np.zeros((classes + 1, 5))
    for unit in range(units):
        # What lies before each class, then merged with what lies after it.
        seen = (0.0, 0.0, 0.0, 0.0, 0.0)
        for c in range(classes):
            before[c] = seen
            own = (float(count[c]), mean[unit, c], m2[unit, c], m3[unit, c], m4[unit, c])
            seen = _merge(seen, own)
        seen = (0.0, 0.0, 0.0, 0.0, 0.0)
        for c in range(classes - 1, -1, -1):
            early = before[c]
            rest = _merge((early[0], early[1], early[2], early[3], early[4]), seen)
            rest_m3[unit, c], rest_m4[unit, c] = rest[3], rest[4]
            own = (float(count[c]), mean[unit, c], m2[unit, c], m3[unit, c], m4[unit, c])
            seen = _merge(seen, own)
