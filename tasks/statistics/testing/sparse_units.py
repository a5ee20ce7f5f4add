"""p-values of rank tests, guarded where a unit answers to so few images that the tests go wrong.

The chi-squared and normal tails take the ranks of a class for many and alike in weight. Where all but
a few of a unit's responses are equal, as zeros after a ReLU, one image in a small class moves the
statistic far, and small p-values come up several times too often. The rule is that of tables of
counts: so many images must be expected in every cell. For all classes together five are enough. Of
one class against the rest it is twelve: there are as many more tests as classes, with smaller
p-values among them, and with five one null recording in ten of units with 80 to 90 % zeros had a
false find at a level of 5 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_OF_UNITS, LEAST_OF_CLASSES = 5.0, 12.0
"""Images that a class, and the rest, should have outside a unit's most frequent response: for a test
of all classes together, and of one class against the rest."""


def answers_too_few(
    tie_sum: NDArray[np.float64], count: NDArray[np.int64], *, least: float
) -> NDArray[np.bool_]:
    """Return where a unit answers to too few images for the tails of its rank tests.

    Where more than half of all responses are equal, and fewer than `least` images of the smaller
    side, the class or the rest, are expected among the others. The test of a class is that of the rest:
    what makes one of them go wrong makes the other.

    Parameters
    ----------
    tie_sum
        Sum of t^3 - t over groups of t equal responses, shape (unit,). Its cube root is the size of
        the largest group, or a little more where there are several.
    count
        Images per class, shape (class,).
    least
        Images that should be expected, `LEAST_OF_UNITS` or `LEAST_OF_CLASSES`.

    Returns
    -------
    Shape (unit, class); false for classes without images.

    References
    ----------
    Cochran (1954), Some methods for strengthening the common chi-squared tests.
    """
    images = int(count.sum())
    others = 1.0 - np.cbrt(tie_sum)[:, None] / max(images, 1)
    smaller = np.minimum(count, images - count)
    return (others < 0.5) & (others * smaller < least) & (count > 0)


def guard_units(
    log10_p: NDArray[np.float64],
    permutation_p: NDArray[np.float64],
    too_few: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return log10 p of a test of all classes, no less than by permutation where classes are too small.

    Parameters
    ----------
    log10_p
        log10 of the p-values of the rank test, shape (unit,).
    permutation_p
        p-values by permuted labels, shape (unit,); NaN where labels were not permuted, which leaves
        the p-values as they are.
    too_few
        Whether that holds of any class, shape (unit,).
    """
    known = ~np.isnan(permutation_p)
    floor = np.log10(np.where(known, permutation_p, 1.0))
    return np.where(too_few & known, np.maximum(log10_p, floor), log10_p)


def guard_classes(
    log10_p: NDArray[np.float64],
    lowest: NDArray[np.integer],
    count: NDArray[np.int64],
    too_few: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return log10 p of each class against the rest, no less than Fisher's exact test where needed.

    That test looks only at whether a response is among the lowest. It is exact for any number of
    images, and the larger of two p-values keeps the level of either. Both sides of a comparison get
    the same p, digit by digit.

    Parameters
    ----------
    log10_p
        log10 of the p-values of U, shape (unit, class).
    lowest
        Images of each class among the lowest responses of the unit, shape (unit, class).
    count
        Images per class, shape (class,).
    too_few
        Where it is needed, shape (unit, class).

    References
    ----------
    Fisher (1935), The logic of inductive inference.
    """
    images, above = int(count.sum()), count - lowest
    unit, code = np.nonzero(too_few & (count < images))
    if not unit.size:
        return log10_p
    total, n, own = above.sum(axis=1)[unit], count[code], above[unit, code]
    # Of the side with fewer images, or of the one with fewer above: rounding knows no sides then.
    turned = (2 * n > images) | ((2 * n == images) & (2 * own > total))
    n, own = np.where(turned, images - n, n), np.where(turned, total - own, own)
    # A second of import, which who only looks for what is there goes without.
    from scipy.stats import hypergeom

    drawn = hypergeom(images, total, n)
    more, fewer = drawn.sf(own - 1), drawn.cdf(own)
    exact = np.clip(2.0 * np.minimum(more, fewer), np.finfo(float).tiny, 1.0)
    guarded = log10_p.copy()
    guarded[unit, code] = np.maximum(guarded[unit, code], np.log10(exact))
    return guarded
