"""Class moments of units: count, mean and sum of squared deviations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from activarium.tasks.statistics.class_order import by_class, class_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGN_PLACE = np.int32(31)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_LEAST = np.int32(-0x80000000)


@dataclass(frozen=True)
class ClassMoments:
    """Moments of the responses of each unit within each class.

    A class without images has `count` 0, `mean` NaN and `m2` 0. Without any image `low` is
    positive and `high` negative infinity, the neutral elements of minimum and maximum.

    What most statistics ask for again is computed once and kept: do not write to these arrays.
    """

    count: NDArray[np.int64]
    """Images per class, shape (class,); the same for all units."""
    mean: NDArray[np.float64]
    """Mean response, shape (unit, class)."""
    m2: NDArray[np.float64]
    """Sum of squared deviations from `mean`, shape (unit, class)."""
    low: NDArray[np.float64]
    """Smallest response, shape (unit,); where it is zero, -0.0 if one response is."""
    high: NDArray[np.float64]
    """Largest response, shape (unit,); where it is zero, 0.0 if one response is."""
    residue: NDArray[np.float64]
    """What `mean`, rounded to float64, lacks of the mean, shape (unit, class)."""

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.count.sum())

    def of_classes(self, kept: NDArray[np.bool_]) -> ClassMoments:
        """Return the moments as if the other classes had no images; `low` and `high` stay.

        Parameters
        ----------
        kept
            Whether each class is kept, shape (class,).
        """
        if not (self.count[~kept] > 0).any():
            return self
        return replace(
            self,
            count=np.where(kept, self.count, 0),
            mean=np.where(kept, self.mean, np.nan),
            m2=np.where(kept, self.m2, 0.0),
            residue=np.where(kept, self.residue, 0.0),
        )

    @cached_property
    def is_constant(self) -> NDArray[np.bool_]:
        """Whether all responses of a unit are equal (or there are none), shape (unit,)."""
        return self.low >= self.high

    @cached_property
    def offset(self) -> NDArray[np.float64]:
        """Mean less that of the first class with images, shape (unit, class).

        With the residues: beside responses of 10,000, the float64 means of classes that are 0.0001
        apart would leave eight digits of it.
        """
        first = self._first
        offset: NDArray[np.float64] = self.mean - self.mean[:, first]
        offset += self.residue - self.residue[:, first]
        return offset

    @cached_property
    def deviation(self) -> NDArray[np.float64]:
        """Mean less the mean over all images, shape (unit, class)."""
        return self.offset - self._overall_offset[:, None]

    @cached_property
    def overall_mean(self) -> NDArray[np.float64]:
        """Mean over all images, shape (unit,); NaN without images."""
        return self.overall_mean_above(np.zeros(self.low.shape))

    def overall_mean_above(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean over all images less a level of each unit, shape (unit,)."""
        if self.images == 0:
            return np.full(self.low.shape, np.nan)
        first = self._first
        above = (self.mean[:, first] - level[:, None]) + self.residue[:, first]
        # Averaging differences from one class mean keeps the mean of a constant unit exact.
        overall: NDArray[np.float64] = above[:, 0] + self._overall_offset
        return overall

    @property
    def _first(self) -> slice:
        """The first class with images."""
        code = int((self.count > 0).argmax()) if self.count.size else 0
        return slice(code, code + 1)

    @cached_property
    def _overall_offset(self) -> NDArray[np.float64]:
        """Mean over all images less that of the first class with images, shape (unit,)."""
        filled = self.count > 0
        weight = self.count[filled] / max(self.images, 1)
        # A sum by rows, not a matrix product, whose last digits depend on the number of units.
        offset: NDArray[np.float64] = (np.compress(filled, self.offset, axis=1) * weight).sum(
            axis=1
        )
        return offset

    @cached_property
    def between_m2(self) -> NDArray[np.float64]:
        """Sum of squares between classes, shape (unit,)."""
        filled = self.count > 0
        deviation = np.compress(filled, self.deviation, axis=1)
        between: NDArray[np.float64] = (deviation**2 * self.count[filled]).sum(axis=1)
        return between

    @cached_property
    def within_m2(self) -> NDArray[np.float64]:
        """Sum of squares within classes, shape (unit,)."""
        within: NDArray[np.float64] = self.m2.sum(axis=1)
        return within

    @cached_property
    def overall_m2(self) -> NDArray[np.float64]:
        """Sum of squared deviations from the overall mean, shape (unit,)."""
        return self.between_m2 + self.within_m2

    @property
    def overall_sd(self) -> NDArray[np.float64]:
        """Standard deviation over all images (n - 1), shape (unit,); NaN below two images."""
        if self.images < 2:
            return np.full(self.low.shape, np.nan)
        return np.sqrt(self.overall_m2 / (self.images - 1))

    @property
    def class_sd(self) -> NDArray[np.float64]:
        """Standard deviation within classes (n - 1), shape (unit, class); NaN below two images."""
        degrees = np.where(self.count > 1, self.count - 1.0, np.nan)
        return np.sqrt(self.m2 / degrees)


@njit(nogil=True, cache=True)
def _four_sums(
    one: NDArray[np.float32],
    two: NDArray[np.float32],
    three: NDArray[np.float32],
    four: NDArray[np.float32],
) -> tuple[float, float, float, float]:
    """Return the sums of four arrays of one length, each added from its first number on."""
    # Side by side none waits for its own last addition, and each keeps the order of its images, in
    # which vector registers would not add: where sums round, the order shows in the last digits.
    first = second = third = fourth = 0.0
    for i in range(one.size):
        first += np.float64(one[i])
        second += np.float64(two[i])
        third += np.float64(three[i])
        fourth += np.float64(four[i])
    return first, second, third, fourth


# Sums may be reassociated, which lets the compiler use vector registers, and NaN does not occur;
# infinity keeps its meaning.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nnan"})
def _m2_about(mean: float, value: NDArray[np.float32]) -> tuple[float, float]:
    """Return one class's sum of squared deviations from its mean, and what `mean` lacks of it."""
    squares = 0.0
    residue = 0.0
    for i in range(value.size):
        deviation = np.float64(value[i]) - mean
        squares += deviation * deviation
        residue += deviation
    # The rounded mean leaves a residue; taking it out is the corrected two-pass algorithm.
    return max(squares - residue * residue / value.size, 0.0), residue / value.size


@njit(nogil=True, cache=True)
def _moments(
    responses: NDArray[np.float32], start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, m2 and residue; class c holds the images start[c] to start[c + 1]."""
    units = responses.shape[0]
    mean = np.full((units, start.size - 1), np.nan)
    m2 = np.zeros((units, start.size - 1))
    lacks = np.zeros((units, start.size - 1))
    last = units - 1
    for unit in range(0, units, 4):
        # Where fewer than four units are left, the last one is done again.
        rows = (unit, min(unit + 1, last), min(unit + 2, last), min(unit + 3, last))
        for c in range(start.size - 1):
            if start[c + 1] == start[c]:
                continue
            # Row by row: numba takes a part of a row, but not of the matrix, for contiguous.
            part = slice(start[c], start[c + 1])
            one, two = responses[rows[0], part], responses[rows[1], part]
            three, four = responses[rows[2], part], responses[rows[3], part]
            sums = _four_sums(one, two, three, four)
            for k in range(4):
                mean[rows[k], c] = sums[k] / one.size
                m2[rows[k], c], lacks[rows[k], c] = _m2_about(
                    mean[rows[k], c], responses[rows[k], part]
                )
    return mean, m2, lacks


@njit(nogil=True, cache=True)
def _ordered(bits: np.int32) -> np.int32:
    """Return the integer of a float32's bits that orders like the number, and back; -0.0 below 0.0."""
    # Numba widens what it computes of 32 bits; narrowed again, twice as many fit into a register.
    return np.int32(bits ^ ((bits >> _SIGN_PLACE) & _MAGNITUDE))


@njit(nogil=True, cache=True)
def _ends(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the bits of the smallest and of the largest response, shape (unit, 2)."""
    ends = np.empty((bits.shape[0], 2), np.int32)
    for unit in range(bits.shape[0]):
        # As integers: the minimum of floats keeps the loop from being vectorised.
        low, high = _MAGNITUDE, _LEAST
        row = bits[unit]
        for i in range(row.size):
            key = _ordered(row[i])
            low = min(low, key)
            high = max(high, key)
        ends[unit] = _ordered(low), _ordered(high)
    return ends


def _low_and_high(
    responses: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest and the largest response of every unit."""
    units, images = responses.shape
    if images == 0:
        return np.full(units, np.inf), np.full(units, -np.inf)
    low, high = _ends(responses.view(np.int32)).view(np.float32).T.astype(np.float64)
    return low, high


def class_moments(
    responses: NDArray[np.float32], label: NDArray[np.integer], n_classes: int
) -> ClassMoments:
    """Return count, mean and sum of squared deviations of every unit in every class.

    Two passes in float64, so a large mean does not swallow a small variance.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32. Images in order of their classes save a
        copy.
    label
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.

    Returns
    -------
    Moments per unit and class.

    Raises
    ------
    ValueError
        Where a class code is out of range, or shapes or types do not fit.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance:
    the corrected two-pass algorithm.
    """
    code = class_codes(label, responses, n_classes)
    ordered, start = by_class(responses, code, n_classes)
    mean, m2, residue = _moments(ordered, start)
    return ClassMoments(np.diff(start), mean, m2, *_low_and_high(ordered), residue)
