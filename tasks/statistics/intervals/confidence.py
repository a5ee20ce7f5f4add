"""What confidence intervals have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scipy import special

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Interval(NamedTuple):
    """Ends of confidence intervals, both of one shape; both NaN where undefined."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def two_sided_z(level: float) -> float:
    """Return the z that a standard normal variable exceeds in size with probability 1 - level.

    Raises
    ------
    ValueError
        Where `level` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        msg = f"expected a level between 0 and 1, such as 0.95, got {level!r}"
        raise ValueError(msg)
    return float(-special.ndtri((1.0 - level) / 2.0))
