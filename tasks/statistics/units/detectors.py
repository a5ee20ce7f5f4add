"""Which class a unit detects, how well, and whether that holds on images that did not choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from activarium.tasks.statistics.ranks.detection import average_precision_chance
from activarium.tasks.statistics.ratio import ratio
from activarium.tasks.statistics.testing.sparse_units import LEAST_OF_CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.ranks.detection import Detection

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]


class Detectors(NamedTuple):
    """The class that each unit detects best, each of shape (unit,); NaN and -1 where undefined."""

    average_precision: Array
    """Of the class of the largest excess over chance."""
    chance: Array
    """Chance level of that class."""
    code: Codes
    """That class."""
    crossfit: Array
    """Average precision, the class chosen on one half and measured on the other, mean of both."""
    gain: Array
    """(average precision - chance) / (1 - chance), likewise held out: at most 1."""
    auroc_crossfit: Array
    """AUROC likewise, of the class that has the largest on the other half."""
    agreement: Array
    """Share of the halves whose class is that of all images."""
    p: Array
    """p-value of the preferred class."""


def detectors(detection: Detection, comparable: NDArray[np.bool_]) -> Detectors:
    """Return which class each unit detects, and how well, on all images and held out.

    A class counts by its excess, (AP - chance) / (1 - chance), as chance differs between classes of
    different size. The lowest code of equal ones. Constant units detect nothing: no class, p = 1 and
    an AUROC of 0.5. Where no class has images in both halves, what is held out is NaN.

    Parameters
    ----------
    detection
        Detection of each class, and the same held out.
    comparable
        Classes that may be chosen, shape (class,).
    """
    count = detection.half_count.sum(axis=1)
    images = int(count.sum())
    chance = average_precision_chance(count, images, detection.harmonic)
    excess = np.where(comparable, excess_over_chance(detection.average_precision, chance), -np.inf)
    # All images in one group of equals: h is their number times 1 / that number.
    constant = detection.harmonic <= 1.0 + 1e-12
    code = np.where(constant, -1, excess.argmax(axis=1))
    at = np.maximum(code, 0)[:, None]
    held, chosen = detection.held, detection.held_class[:, :, 0]
    agreement = (chosen == code[:, None]).mean(axis=1)
    unknown = constant | (chosen < 0).any(axis=1)
    auroc = np.where(constant, 0.5, held[:, :, 4].mean(axis=1))
    return Detectors(
        _unless(constant, np.take_along_axis(detection.average_precision, at, axis=1)[:, 0]),
        _unless(constant, np.take_along_axis(chance, at, axis=1)[:, 0]),
        code,
        held[:, :, 0].mean(axis=1),
        excess_over_chance(held[:, :, 0], held[:, :, 1]).mean(axis=1),
        auroc,
        _unless(unknown, agreement),
        np.where(constant, 1.0, preferred_p(detection)),
    )


def excess_over_chance(average_precision: Array, chance: Array) -> Array:
    """Return (average precision - chance) / (1 - chance): 0 at chance, 1 for a perfect detector."""
    return ratio(average_precision - chance, 1.0 - chance, otherwise=0.0)


def _unless(undefined: NDArray[np.bool_], values: Array) -> Array:
    return np.where(undefined, np.nan, values)


def preferred_p(detection: Detection) -> Array:
    """Return the p-value of the class that a unit prefers, shape (unit,).

    The class chosen on one half is tested on the other by Mann and Whitney's test, one-sided; both
    ways, and twice the smaller p is at most 1. Which class is tested does not depend on the half it
    is tested on, so the choice among many classes costs nothing. Where a unit answers to too few
    images of a half for the normal tail, p is no less than that of Fisher's exact test of
    responding above the smallest response.

    Returns
    -------
    p in (0, 1]; NaN where no class is chosen.

    References
    ----------
    Cox (1975), A note on data-splitting for the evaluation of significance levels.
    """
    held, first = detection.held, detection.held_class[:, :, 0]
    known = first >= 0
    # What is chosen on half 0 is measured on half 1.
    other = np.array([1, 0])
    images = detection.half_count.sum(axis=0)[other].astype(float)
    n = np.take_along_axis(detection.half_count[:, other], np.maximum(first, 0), axis=0)
    m = images - n
    ties = detection.half_ties[:, :, 0]
    spread = n * m / 12.0 * (images**3 - images - ties) / (images * np.maximum(images - 1.0, 1.0))
    z = ratio(held[:, :, 2] - n * m / 2.0 - 0.5, np.sqrt(np.maximum(spread, 0)), otherwise=-np.inf)
    p = special.ndtr(-z)
    others = 1.0 - np.cbrt(ties) / images
    few = known & (others < 0.5) & (others * np.minimum(n, m) < LEAST_OF_CLASSES)
    if few.any():
        # A second of import, which who only looks for what is there goes without.
        from scipy.stats import hypergeom

        active, own = detection.half_ties[:, :, 1][few], held[:, :, 5][few]
        total = np.broadcast_to(images, few.shape)[few]
        p[few] = np.maximum(p[few], hypergeom.sf(own - 1, total, active, n[few]))
    doubled = np.clip(2.0 * p.min(axis=1), np.finfo(float).tiny, 1.0)
    return np.where(known.all(axis=1), doubled, np.nan)


def point_biserial(moments: ClassMoments) -> Array:
    """Return Pearson's correlation of the responses with membership of each class.

    (m_c - m) / s sqrt(n / (N - n)), with the population's s over all images. 0 for constant units,
    and for a class that is empty or holds all images.

    Returns
    -------
    r, shape (unit, class), in [-1, 1].

    References
    ----------
    Tate (1954), Correlation between a discrete and a continuous variable.
    """
    count, images = moments.count, moments.images
    odds = ratio(count, images - count, otherwise=0.0)
    spread = np.sqrt(np.where(moments.is_constant, 0.0, moments.overall_m2) / max(images, 1))
    r = ratio(np.where(count > 0, moments.deviation, 0.0), spread[:, None], otherwise=0.0)
    return np.clip(r * np.sqrt(odds), -1.0, 1.0)
