"""Rows of the table `unit_classes`: how each unit responds to each class."""

from __future__ import annotations

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
    from activarium.tasks.analysis.unit_block import BlockData
    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.ranks.ranking import Ranks


def class_rows(
    data: BlockData, moments: ClassMoments, ranks: Ranks, *, confidence: float
) -> dict[str, Any]:
    """Return one row per unit and class, still without q-values."""
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
        "class_rank": class_rank(moments.mean, count).ravel(),
        "z": class_z(moments.offset).ravel(),
        "auroc": area.ravel(),
        "auroc_low": area_ends.low.ravel(),
        "auroc_high": area_ends.high.ravel(),
        "u": u.ravel(),
        "p_value": test.p.ravel(),
        "log10p": test.log10_p.ravel(),
        "guarded_log10p": guarded.ravel(),
        "hedges_g": g.ravel(),
        "hedges_g_low": g_ends.low.ravel(),
        "hedges_g_high": g_ends.high.ravel(),
    }
