"""Rows of the table `unit_classes`: how each unit responds to each class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.analysis.names import coded
from activarium.tasks.statistics.intervals.auroc_interval import delong_interval
from activarium.tasks.statistics.intervals.hedges_interval import interval_of_g
from activarium.tasks.statistics.testing.sparse_units import answers_too_few, guard_classes
from activarium.tasks.statistics.units.class_ranks import class_rank
from activarium.tasks.statistics.units.preference import (
    auroc,
    class_z,
    hedges_g,
    mann_whitney_p,
    mann_whitney_u,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.analysis.unit_block import BlockData
    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.ranks.ranking import Ranks


def class_rows(
    data: BlockData, moments: ClassMoments, ranks: Ranks, *, confidence: float
) -> dict[str, Any]:
    """Return one row per unit and class, still without q-values.

    Of a class that cannot be compared with the others there are the moments alone.
    """
    comparable = data.chosen.comparable
    compared, known = moments.of_classes(comparable), partial(_known, comparable)
    count, units, classes = moments.count, len(data.channel), len(moments.count)
    u = mann_whitney_u(ranks.rank_sum, count)
    test = mann_whitney_p(u, count, ranks.tie_sum)
    too_few = answers_too_few(ranks.tie_sum, count)
    guarded = guard_classes(test.log10_p, ranks.joint[:, 0], count, too_few)
    area = auroc(ranks.rank_sum, count)
    area_ends = delong_interval(area, ranks.auroc_variance, count, level=confidence)
    g = hedges_g(moments)
    g_ends = interval_of_g(g, moments, level=confidence)
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
        "class_rank": np.where(comparable, class_rank(compared.mean, compared.count), 0).ravel(),
        "z": known(class_z(compared.offset)),
        "auroc": known(area),
        "auroc_low": known(area_ends.low),
        "auroc_high": known(area_ends.high),
        "u": known(u),
        "p_value": known(test.p),
        "log10p": known(test.log10_p),
        "guarded_log10p": known(guarded),
        "hedges_g": known(g),
        "hedges_g_low": known(g_ends.low),
        "hedges_g_high": known(g_ends.high),
    }


def _known(comparable: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values of shape (unit, class) in one row, NaN for classes that are not compared."""
    return np.where(comparable, values, np.nan).ravel()
