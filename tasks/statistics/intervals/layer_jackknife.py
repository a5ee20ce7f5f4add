"""Intervals of a layer's means over units, by leaving out a tenth of the images at a time.

Units of a layer answer to the same images and share what they answer to, so a mean over units is as
sure as its images make it, whatever the number of units. Resamples would hold images twice, which
makes eta squared larger; images that are left out do not. Everything comes from sums by class and
tenth, made in one pass over the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from activarium.tasks.statistics.intervals.confidence import FEWEST_ACTIVE, t_quantile, t_series
from activarium.tasks.statistics.layers.layer_moments import add_class_sums, standardised
from activarium.tasks.statistics.layers.layer_rows import row_chunks
from activarium.tasks.statistics.ratio import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.statistics.layers.layer_moments import ColumnMoments
    from activarium.tasks.statistics.layers.layer_rows import LayerRows

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

PARTS = 10
"""Parts that the images are divided into."""


class MeanIntervals(NamedTuple):
    """Ends of the intervals of a layer's means over units, low and high; NaN where undefined."""

    eta2: tuple[float, float]
    selectivity: tuple[float, float]


NO_INTERVALS = MeanIntervals((np.nan, np.nan), (np.nan, np.nan))


@dataclass(frozen=True)
class _Sums:
    """Sums of standardised responses of the units that vary."""

    by_class: Array
    """Shape (part, class, unit)."""
    squares: Array
    """Shape (part, unit)."""
    low: Array
    """Smallest response, shape (part, unit)."""
    at_lowest: Array
    """Images of each class at the unit's smallest response, shape (class, unit)."""
    count: Codes
    """Images, shape (part, class)."""


def layer_mean_intervals(  # noqa: PLR0913 - the layer, its classes and groups, and the level
    rows: LayerRows,
    code: Codes,
    n_classes: int,
    *,
    moments: ColumnMoments,
    group: Codes | None = None,
    level: float = 0.95,
) -> MeanIntervals:
    """Return intervals of the means over units of eta squared and of selectivity.

    They are for what as many other images of the same classes would give on average, and hold the
    value itself. The variance is that of the delete-a-group jackknife with ten parts, less half of
    what Efron and Stein's correction takes off, and no less than half of it: without a difference
    between classes the jackknife's is twice the true one, and the whole correction leaves
    intervals too narrow in the end. The interval is symmetric on the scale of the logit, by
    Student's t with nine degrees of freedom.

    NaN where a class has fewer than ten images, where on average over the units fewer than ten
    images outside the largest class are active, and where no unit varies.

    Parameters
    ----------
    rows
        Finite responses of a layer, images in an order that does not depend on how they were read.
    code
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    moments
        `column_moments(rows)`.
    group
        Group of each image, shape (image,), 0 or more: groups are left out as a whole.
    level
        Confidence level, between 0 and 1.

    References
    ----------
    Efron and Stein (1981), The jackknife estimate of variance; Kott (2001), The delete-a-group
    jackknife.
    """
    count = np.bincount(code, minlength=n_classes)
    kept = np.flatnonzero(count)
    if count[kept].min(initial=FEWEST_ACTIVE) < FEWEST_ACTIVE or kept.size < 2:
        return NO_INTERVALS
    if moments.is_constant.all():
        return NO_INTERVALS
    renamed = np.searchsorted(kept, code)
    part = image_parts(renamed, group)
    sums = _sums(rows, moments, renamed, kept.size, part)
    if sums.count.sum(axis=0).max() == len(code) or _active(sums) < FEWEST_ACTIVE:
        return NO_INTERVALS
    singles = [(each,) for each in range(PARTS)]
    pairs = list(combinations(range(PARTS), 2))
    left_out = [_means(sums, moments, each) for each in [(), *singles, *pairs]]
    ends = [_interval(np.array(values), pairs, level) for values in zip(*left_out, strict=True)]
    return MeanIntervals(*ends)


def image_parts(code: Codes, group: Codes | None = None) -> Codes:
    """Return the part that leaves out each image, shape (image,), from 0 to `PARTS` - 1.

    Images in order of class are dealt out in turn, so that every class is spread over all parts;
    groups likewise, each by the class of its first image in this order.
    """
    order = np.argsort(code, kind="stable")
    part = np.empty(len(code), np.int64)
    if group is None:
        part[order] = np.arange(len(code)) % PARTS
        return part
    _, first, member = np.unique(group[order], return_index=True, return_inverse=True)
    part[order] = np.argsort(np.argsort(first))[member] % PARTS
    return part


def _sums(rows: LayerRows, moments: ColumnMoments, code: Codes, classes: int, part: Codes) -> _Sums:
    units = int((~moments.is_constant).sum())
    by_class = np.zeros((PARTS * classes, units))
    squares, low = np.zeros((PARTS, units)), np.full((PARTS, units), np.inf)
    lowest, at_lowest = np.full(units, np.inf), np.zeros((classes, units))
    cell = part * classes + code
    for where, chunk in row_chunks(rows):
        vectors = standardised(chunk, moments)
        add_class_sums(by_class, vectors, cell[where])
        for each in range(PARTS):
            low[each] = np.minimum(low[each], vectors[part[where] == each].min(0, initial=np.inf))
        below = low.min(axis=0)
        at_lowest[:, below < lowest] = 0.0
        lowest = below
        add_class_sums(at_lowest, (vectors == lowest).astype(np.float64), code[where])
        vectors *= vectors
        add_class_sums(squares, vectors, part[where])
    count = np.bincount(cell, minlength=PARTS * classes).reshape(PARTS, classes)
    return _Sums(by_class.reshape(PARTS, classes, units), squares, low, at_lowest, count)


def _active(sums: _Sums) -> float:
    """Return the images outside the largest class that are active, on average over the units."""
    count = sums.count.sum(axis=0)
    lowest = np.where(sums.at_lowest.sum(axis=0) == 1, 0.0, sums.at_lowest)
    active = (count[:, None] - lowest).mean(axis=1)
    return float(active.sum() - active[count.argmax()])


def _means(sums: _Sums, moments: ColumnMoments, without: tuple[int, ...]) -> tuple[float, float]:
    """Return the means over all units of eta squared and selectivity without some parts."""
    kept = np.setdiff1d(np.arange(PARTS), without)
    count = sums.count[kept].sum(axis=0)[:, None].astype(np.float64)
    by_class = sums.by_class[kept].sum(axis=0)
    centre = by_class.sum(axis=0) ** 2 / count.sum()
    mean = ratio(by_class, count, otherwise=0.0)
    between = (by_class * mean).sum(axis=0) - centre
    eta2 = ratio(between, sums.squares[kept].sum(axis=0) - centre, otherwise=0.0)
    varies = ~moments.is_constant
    sd, level = moments.sd[varies], moments.mean[varies]
    # In standard deviations; where the smallest response is below 0 it is the shift.
    lowest = level + sd * sums.low[kept].min(axis=0)
    shifted = mean + (level - np.minimum(lowest, 0.0)) / sd
    best = shifted.max(axis=0)
    rest = (shifted.sum(axis=0) - best) / (len(count) - 1)
    selectivity = np.clip(ratio(best - rest, best + rest, otherwise=0.0), 0.0, 1.0)
    return float(eta2.sum() / len(varies)), float(selectivity.sum() / len(varies))


def _interval(values: Array, pairs: list[tuple[int, int]], level: float) -> tuple[float, float]:
    """Return the ends from the value, those without each part, and those without each pair."""
    value, one, two = float(values[0]), values[1 : PARTS + 1], values[PARTS + 1 :]
    if not 0.0 < value < 1.0:
        return np.nan, np.nan
    variance = (PARTS - 1) / PARTS * float(((one - one.mean()) ** 2).sum())
    first, second = np.array(pairs).T
    joint = PARTS * value - (PARTS - 1) * (one[first] + one[second]) + (PARTS - 2) * two
    correction = float(((joint - joint.mean()) ** 2).sum()) / PARTS**2
    variance -= min(correction, variance) / 2.0
    half = t_quantile(t_series(level), PARTS - 1.0) * np.sqrt(variance)
    # On the scale of the odds, value / (1 - value): there a step of the logit is a factor.
    odds, factor = value / (1.0 - value), np.exp(-half / (value * (1.0 - value)))
    return float(odds * factor / (1.0 + odds * factor)), float(odds / (odds + factor))
