"""Rows of the table `unit_classes`: how each unit responds to each class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.analysis.names import coded
from activarium.tasks.statistics.intervals.auroc_interval import auroc_interval
from activarium.tasks.statistics.intervals.confidence import few_active
from activarium.tasks.statistics.intervals.hedges_interval import hedges_g_interval
from activarium.tasks.statistics.ranks.detection import average_precision_chance
from activarium.tasks.statistics.shape_moments import shape_moments
from activarium.tasks.statistics.testing.sparse_units import (
    LEAST_OF_CLASSES,
    answers_too_few,
    guard_classes,
)
from activarium.tasks.statistics.units.class_ranks import class_rank
from activarium.tasks.statistics.units.detectors import point_biserial
from activarium.tasks.statistics.units.preference import (
    auroc,
    class_z,
    hedges_g,
    mann_whitney_p,
    mann_whitney_u,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from activarium.tasks.analysis.unit_block import BlockData
    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.ranks.ranking import Ranks


GUARDED = "guarded_log10p"
"""What false discovery rates are computed from, beside the table's own columns."""


DETECTION = (
    "average_precision",
    "average_precision_chance",
    "best_f1",
    "best_f1_threshold",
    "point_biserial",
)
"""Columns of how well a unit detects a class."""

PLACE = "place"
"""Place of a row among those of all classes of its block, where not all are kept."""


def ranked_classes(data: BlockData, moments: ClassMoments) -> NDArray[np.int64]:
    """Return the rank of each class by its mean, (unit, class); 0 where it cannot be compared."""
    comparable = data.chosen.comparable
    compared = moments.of_classes(comparable)
    found: NDArray[np.int64] = np.where(comparable, class_rank(compared.mean, compared.count), 0)
    return found


def first_classes(rank: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Return which classes are the first of each unit, at most so many, (unit, class).

    Of equal means, which a unit that never changes has alone, the lower codes come first.
    """
    order = np.argsort(np.where(rank > 0, rank, rank.shape[1] + 1), axis=1, kind="stable")
    kept = np.zeros(rank.shape, bool)
    np.put_along_axis(kept, order[:, :most], values=True, axis=1)
    return kept & (rank > 0)


def class_rows(
    data: BlockData,
    moments: ClassMoments,
    ranks: Ranks,
    rank: NDArray[np.int64],
    *,
    confidence: float,
) -> dict[str, Any]:
    """Return one row per unit and class, still without q-values.

    Of a class that cannot be compared with the others there are the moments alone.

    Parameters
    ----------
    data
        The block.
    moments, ranks
        Moments and ranks of its responses by class.
    rank
        What `ranked_classes` returns.
    confidence
        Level of the intervals.
    """
    comparable = data.chosen.comparable
    compared, known = moments.of_classes(comparable), partial(_known, comparable)
    count, units, classes = moments.count, len(data.channel), len(moments.count)
    u = mann_whitney_u(ranks.rank_sum, count)
    test = mann_whitney_p(u, count, ranks.tie_sum)
    too_few = answers_too_few(ranks.tie_sum, count, least=LEAST_OF_CLASSES)
    guarded = guard_classes(test.log10_p, ranks.joint[:, 0], count, too_few)
    area = auroc(ranks.rank_sum, count)
    area_ends = auroc_interval(area, ranks, count, level=confidence)
    g, few = hedges_g(moments), few_active(ranks.lowest, count)
    shapes = shape_moments(data.labelled, data.chosen.code, moments)
    g_ends = hedges_g_interval(g, moments, shapes, few, level=confidence)
    every_unit = np.repeat(np.arange(units, dtype=np.int32), classes)
    every_class = np.tile(np.arange(classes, dtype=np.int32), units)
    return {
        "layer": coded(every_unit, data.layer),
        "channel": np.repeat(data.channel, classes),
        "unit": coded(every_unit, data.unit),
        "class": coded(every_class, data.chosen.class_names),
        "n": np.tile(count, units),
        "response_mean": moments.mean.ravel(),
        "response_sd": moments.class_sd.ravel(),
        "class_rank": rank.ravel(),
        "z": known(class_z(compared.offset)),
        "auroc": known(area),
        "auroc_low": known(area_ends.low),
        "auroc_high": known(area_ends.high),
        "u": known(u),
        "p_value": known(test.p),
        "log10p": known(test.log10_p),
        GUARDED: known(guarded),
        "hedges_g": known(g),
        "hedges_g_low": known(g_ends.low),
        "hedges_g_high": known(g_ends.high),
        "few_active": few.ravel(),
        **_detection_columns(moments, ranks, known),
    }


def _detection_columns(
    moments: ClassMoments, ranks: Ranks, known: Callable[[NDArray[np.float64]], Any]
) -> dict[str, Any]:
    """Return how well each unit detects each class; null where classes cannot be compared."""
    found = ranks.detection
    if found is None:
        nothing = known(np.full(moments.mean.shape, np.nan))
        return dict.fromkeys(DETECTION, nothing)
    chance = average_precision_chance(moments.count, moments.images, found.harmonic)
    values: tuple[NDArray[Any], ...] = (
        found.average_precision,
        chance,
        found.best_f1,
        ranks.at_rank,
        point_biserial(moments),
    )
    return {name: known(value) for name, value in zip(DETECTION, values, strict=True)}


def rows_of(columns: dict[str, Any], kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the rows of some units and classes, (unit, class), and the place of each among all."""
    place = np.flatnonzero(kept)
    return {name: values.take(place) for name, values in columns.items()} | {PLACE: place}


def _known(comparable: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values of shape (unit, class) in one row, NaN for classes that are not compared."""
    return np.where(comparable, values, np.nan).ravel()
