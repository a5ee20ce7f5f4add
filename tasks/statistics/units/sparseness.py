"""How few of the images a unit answers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.negative_responses import negative_shift
from activarium.tasks.statistics.ratio import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments


def treves_rolls(moments: ClassMoments) -> NDArray[np.float64]:
    """Return the sparseness 1 - a of every unit, with the a of Treves and Rolls over images.

    a = mean(r)^2 / mean(r^2) is 1 where a unit answers to all N images alike, 1 / N where to one
    only, and k / N where alike to k of them; so 1 - a grows with sparseness, as the index of
    Vinje and Gallant does, which is (1 - a) / (1 - 1 / N): the same measure stretched so that it
    reaches 1. It is made for responses that are not negative: where a unit's smallest response
    is below 0, it is first subtracted from all. 0 for constant units and without images.

    Returns
    -------
    Sparseness, shape (unit,), in [0, 1 - 1 / N].

    References
    ----------
    Treves and Rolls (1991), What determines the capacity of autoassociative memories in the
    brain?; Rolls and Tovee (1995), Sparseness of the neuronal representation of stimuli in the
    primate temporal visual cortex.
    """
    images = moments.images
    if images < 2:
        return np.zeros(moments.low.shape)
    mean = moments.overall_mean_above(negative_shift(moments))
    variance = np.where(moments.is_constant, 0.0, moments.overall_m2) / images
    # With mean(r^2) = mean^2 + variance, 1 - a is variance over mean(r^2): no subtraction.
    sparseness = ratio(variance, mean**2 + variance, otherwise=0.0)
    return np.clip(sparseness, 0.0, 1.0 - 1.0 / images)
