"""What is taken off a unit's responses where an index is made for responses not below 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments


def negative_shift(moments: ClassMoments) -> NDArray[np.float64]:
    """Return the unit's smallest response where it is negative, and 0 elsewhere.

    Subtracted from all responses of the unit, it leaves none below 0 and changes nothing where
    none was.

    Returns
    -------
    Shift, shape (unit,), 0 or less; 0 without images.
    """
    return np.minimum(moments.low, 0.0)
