"""The bins of the activation histograms: the same in every recording, so that they compare."""

from __future__ import annotations

LOWEST = -16
"""Magnitudes below 2 to this power share one bin around zero."""

HIGHEST = 16
"""Magnitudes of 2 to this power and more share the outermost bins."""

STEPS = 8
"""Bins per doubling; a power of two. Within a doubling they are equally wide."""

NEAR_ZERO = (HIGHEST - LOWEST) * STEPS + 1
"""Place of the bin around zero; bins of negative values lie before it, of positive behind it."""

BINS = 2 * NEAR_ZERO + 1
"""Number of bins."""


def bin_edges() -> list[float]:
    """Return the BINS + 1 edges in rising order; the outermost are infinite.

    A bin holds its edge of smaller magnitude and not the other.
    """
    magnitudes = [
        2.0**power * (1 + step / STEPS) for power in range(LOWEST, HIGHEST) for step in range(STEPS)
    ]
    positive = [*magnitudes, 2.0**HIGHEST, float("inf")]
    return [-edge for edge in reversed(positive)] + positive
