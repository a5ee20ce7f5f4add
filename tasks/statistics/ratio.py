"""Division with a stated result where the denominator is 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def ratio(numerator: ArrayLike, denominator: ArrayLike, otherwise: float) -> NDArray[np.float64]:
    """Return numerator / denominator, and `otherwise` where the denominator is 0.

    Parameters
    ----------
    numerator, denominator
        Any shapes that broadcast against each other.
    otherwise
        The result where the denominator is 0.

    Returns
    -------
    Quotients, of the broadcast shape.
    """
    above, below = np.broadcast_arrays(np.asarray(numerator), np.asarray(denominator))
    result = np.full(above.shape, otherwise, np.float64)
    np.divide(above, below, out=result, where=below != 0)
    return result
