"""How much more a unit responds to its best class than to the others.

All indices are (best - others) / (best + others), made for responses that are not negative. They
differ in what the others are and in what becomes of negative responses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.negative_responses import negative_shift
from activarium.tasks.statistics.ratio import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments

    Array = NDArray[np.float64]


def morcos_index(moments: ClassMoments) -> NDArray[np.float64]:
    """Return the class selectivity index as published, of units without negative responses.

    (best - rest) / (best + rest), with the largest class mean and the unweighted mean of the
    other classes' means. NaN where a unit has a negative response, for which the index is not
    defined: the sum may be 0 or negative. Elsewhere 0 for constant units, all-zero units among
    them, and for fewer than two classes with images.

    Returns
    -------
    Index, shape (unit,), in [0, 1], or NaN.

    References
    ----------
    Morcos et al. (2018), On the importance of single directions for generalization.
    """
    return np.where(moments.low < 0, np.nan, general_index(moments))


def general_index(moments: ClassMoments) -> NDArray[np.float64]:
    """Return the class selectivity index, generalised to units with negative responses.

    Where a unit's smallest response is below 0, it is first subtracted from all, so that 0 is
    the weakest response; other units keep theirs and have exactly the published index, that of
    `morcos_index`. A generalised index depends on one response, the smallest. 0 for constant
    units and for fewer than two classes with images.

    Returns
    -------
    Index, shape (unit,), in [0, 1].

    References
    ----------
    Morcos et al. (2018), On the importance of single directions for generalization, for the
    index without the shift.
    """
    mean = _shifted_means(moments)
    if mean.shape[1] < 2:
        return np.zeros(moments.low.shape)
    return _index(moments, mean, mean.argmax(axis=1), np.ones(mean.shape[1]))


def ccmas(moments: ClassMoments) -> NDArray[np.float64]:
    """Return the class-conditional mean activation selectivity of every unit.

    (best - outside) / (best + outside), with the largest class mean and the mean over all images
    of the other classes, so that larger classes weigh more; where all classes have equally many
    images, it is `general_index`. Among equal largest means the class with the fewest images is
    the best one, which gives the smaller index. Negative responses are shifted as there. 0 for
    constant units and for fewer than two classes with images.

    Returns
    -------
    Index, shape (unit,), in [0, 1].

    References
    ----------
    Gale et al. (2020), Are there any 'object detectors' in the hidden layers of CNNs trained to
    identify objects or scenes?, for the index without the shift.
    """
    mean = _shifted_means(moments)
    if mean.shape[1] < 2:
        return np.zeros(moments.low.shape)
    count = moments.count[moments.count > 0]
    ties = mean == mean.max(axis=1, keepdims=True)
    best = np.where(ties, count, count.max() + 1).argmin(axis=1)
    return _index(moments, mean, best, count.astype(np.float64))


def _shifted_means(moments: ClassMoments) -> Array:
    """Return the means of the classes with images, none of them negative, (unit, filled class)."""
    shifted = (moments.mean - negative_shift(moments)[:, None]) + moments.residue
    return np.compress(moments.count > 0, shifted, axis=1)


def _index(moments: ClassMoments, mean: Array, best: NDArray[np.int64], weight: Array) -> Array:
    """Return the index, shape (unit,), of the class `best` against the weighted mean of others."""
    column = best[:, None]
    top = np.take_along_axis(mean, column, axis=1)[:, 0]
    others = mean * weight
    # Blanked and summed, not subtracted from the sum: small means survive beside a large one.
    np.put_along_axis(others, column, 0.0, axis=1)
    total = weight.sum() - weight[best]
    rest = others.sum(axis=1) / total
    offset = np.compress(moments.count > 0, moments.offset, axis=1)
    ahead = np.take_along_axis(offset, column, axis=1) - offset
    # Near each other, the difference of rounded means would lose its digits.
    gap = np.where(rest > top / 2.0, (ahead * weight).sum(axis=1) / total, top - rest)
    index = np.clip(ratio(gap, top + rest, otherwise=0.0), 0.0, 1.0)
    return np.where(moments.is_constant, 0.0, index)
