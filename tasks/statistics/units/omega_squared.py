"""Share of a unit's variance that the classes account for, less what chance would give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.ratio import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments


def omega2(moments: ClassMoments) -> NDArray[np.float64]:
    """Return omega squared of every unit over the K classes that have images.

    (SSB - (K - 1) MSW) / (SST + MSW), of the sums of squares between classes and in total and of
    the mean square within classes. Where eta squared is above 0 for any finite sample, omega
    squared is about 0 without a difference of means; it is not clipped, and is negative where
    the class means differ by less than chance would make them. 0 for constant units, fewer than
    two classes with images, and no more images than classes; 1 where the means differ and no
    class has variance.

    Returns
    -------
    Omega squared, shape (unit,), from -(K - 1) / (N - K + 1) of N images to 1.

    References
    ----------
    Hays (1963), Statistics for psychologists; Olejnik and Algina (2003), Generalized eta and
    omega squared statistics.
    """
    classes = int((moments.count > 0).sum())
    between_df, within_df = classes - 1, moments.images - classes
    if between_df < 1 or within_df < 1:
        return np.zeros(moments.low.shape)
    between, within = moments.between_m2, moments.within_m2
    mean_square = within / within_df
    share = ratio(between - between_df * mean_square, between + within + mean_square, otherwise=0.0)
    return np.where(moments.is_constant, 0.0, share)
