"""Whether a layer is well at a checkpoint, judged by its activations alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from activarium.schemas.series_tables import HEALTHY

EXPLODED = 1_000.0
"""So many times the size at the first checkpoint."""
DEAD = 0.5
"""So large a share of the units never responds, or does so alike to all images."""
COLLAPSED = 0.01
"""Images differ by so little of what they differed by at the first checkpoint."""
ALIKE = 1e-4
"""Images differ by so little of the responses' own size."""
READ_WHOLE = 100.0
"""Ratios from here on are told as whole numbers."""
SATURATED = 0.9
"""So large a share of the activations lies at the ends of their range."""


@dataclass(frozen=True)
class Vitals:
    """The numbers of one layer at one checkpoint that its health is read from."""

    dead_fraction: float
    """Share of dead units."""
    size: float
    """Root mean square of the responses of all units to all images."""
    image_sd: float
    """Root mean square over units of the standard deviation over images."""
    extreme_fraction: float
    """Share of activations at the ends of their range; NaN where unknown."""


def layer_health(now: Vitals, first: Vitals) -> tuple[str, str | None]:
    """Return what a layer is, and the numbers that say so.

    The first that holds, in this order: exploding, dead, collapsed, saturated; else healthy. They
    are borders between what is plainly broken and all else, not tests: a layer slightly on either
    side is neither well nor ill.

    Parameters
    ----------
    now
        The layer at a checkpoint.
    first
        The same layer at the first checkpoint of the series.

    Returns
    -------
    One of `series_tables.HEALTH`, and the reason; None where healthy.
    """
    if not math.isfinite(now.size) or now.size > EXPLODED * first.size > 0:
        return "exploding", f"responses are {_times(now.size, first.size)} as large as at first"
    if now.dead_fraction >= DEAD:
        return "dead", f"{now.dead_fraction:.0%} of the units respond alike to every image"
    if now.image_sd < COLLAPSED * first.image_sd:
        share = _times(now.image_sd, first.image_sd)
        return "collapsed", f"images differ {share} as much as at first"
    if now.image_sd < ALIKE * now.size:
        share = _times(now.image_sd, now.size)
        return "collapsed", f"images differ by {share} the size of the responses"
    if now.extreme_fraction >= SATURATED:
        return "saturated", f"{now.extreme_fraction:.0%} of the activations lie at the ends"
    return HEALTHY, None


def _times(number: float, reference: float) -> str:
    """Return how many times as large a number is."""
    if not math.isfinite(number):
        return "infinitely"
    if not reference:
        return f"{number:.2g}, from 0,"
    times = number / reference
    return f"{times:,.0f} times" if times >= READ_WHOLE else f"{times:.2g} times"
