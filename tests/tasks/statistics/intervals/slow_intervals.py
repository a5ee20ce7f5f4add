"""Intervals of one class and the rest, image by image, as their documents say."""

from __future__ import annotations

import numpy as np
from scipy import stats


def slow_auroc(own, rest, level):
    """Return the interval from all pairs of images, as its document says."""
    won = (own[:, None] > rest) + 0.5 * (own[:, None] == rest)
    area, low = won.mean(), min(own.min(), rest.min())
    ties = (own == low).mean() * (rest == low).mean()
    expected = max(area * (1 - area) - ties / 4, 0) / 3
    parts, degrees = [], []
    for side in (won.mean(axis=1), won.mean(axis=0)):
        n = side.size
        parts.append(((n - 1) * side.var(ddof=1) + 4 * expected) / (n + 3) / n)
        degrees.append(parts[-1] ** 2 / (n + 3))
    q = stats.t.interval(level, sum(parts) ** 2 / sum(degrees))[1]
    scale = q * q * sum(parts) / (area * (1 - area))
    # The two roots of (area - a)^2 = scale a (1 - a).
    return np.sort(np.roots([1 + scale, -2 * area - scale, area * area]))


def slow_hedges(own, rest, level):
    """Return the interval from what every image moves, as its document says."""
    n, m = own.size, rest.size
    squares = ((own - own.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
    s = np.sqrt(squares / (n + m - 2))
    d = (own.mean() - rest.mean()) / s
    parts, degrees = [], []
    for side, sign in ((own, 1), (rest, -1)):
        k, deviation = side.size, sign * (side - side.mean())
        variance = side.var(ddof=1)
        c = sign * d * (k - 1) / (n + m - 2) / 2
        skew, fourth = (deviation**3).mean() / s**3, (deviation**4).mean() / s**4
        found = variance / s**2 - 2 * sign * c * skew + c * c * (fourth - (variance / s**2) ** 2)
        parts.append(((k - 1) * found + max(found, 1)) / k / k)
        degrees.append(parts[-1] ** 2 / k)
    half = stats.t.interval(level, sum(parts) ** 2 / sum(degrees))[1] * np.sqrt(sum(parts))
    g = d * (1 - 3 / (4 * (n + m - 2) - 1))
    return g - half, g + half
