"""Rows of the table `unit_targets`: how units follow a number per image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from activarium.tasks.analysis.chosen_images import load_choice
from activarium.tasks.analysis.unit_block import CHOICE, TARGET, Block, read_block
from activarium.tasks.statistics.testing.multiple_testing import benjamini_hochberg
from activarium.tasks.statistics.units.distance_correlation import distance_correlation
from activarium.tasks.statistics.units.spearman import spearman
from activarium.tasks.stores.files import replacing
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.tasks.stores.places import Place

PART = "unit_targets"


def correlate_block(place: Place, work: Path, block: Block) -> None:
    """Correlate one block of units with the target and keep its rows in the work folder."""
    part = block.part(work, PART)
    if part.exists():
        return
    chosen, target = load_choice(work / CHOICE), np.load(work / TARGET)
    data = read_block(Recording(place), block, chosen)
    rank, distance = spearman(data.responses, target), distance_correlation(data.responses, target)
    # Of few numbers in full agreement the approximation would say 0.
    log10_p = np.maximum(rank.log10_p, smallest_log10_p(len(target)))
    columns = {
        "layer": data.layer,
        "channel": data.channel,
        "unit": data.unit,
        "depth": data.depth,
        "n": np.full(len(data.channel), len(target)),
        "spearman_rho": rank.rho,
        "spearman_p": np.where(log10_p > rank.log10_p, 10.0**log10_p, rank.p),
        "spearman_log10p": log10_p,
        "distance_correlation": distance.correlation,
        "distance_p": distance.chi2_p,
        "distance_log10p": distance.chi2_log10_p,
    }
    with replacing(part) as temporary:
        feather.write_feather(pa.table(columns), temporary, compression="lz4")


def smallest_log10_p(images: int) -> float:
    """Return log10 of the smallest two-sided p that ranks of so many images can have, 2 / n!.

    Two of the n! orders, the same and the opposite one, agree as fully as can be.

    >>> round(10 ** smallest_log10_p(3), 6)
    0.333333
    """
    return min(0.0, math.log10(2.0) - math.lgamma(images + 1) / math.log(10.0))


def target_rows(work: Path, blocks: Sequence[Block], name: str) -> dict[str, Any]:
    """Return the rows of all blocks."""
    whole = pa.concat_tables([feather.read_table(block.part(work, PART)) for block in blocks])
    columns: dict[str, Any] = {each: whole.column(each) for each in whole.column_names}
    columns["target"] = [name] * len(whole)
    columns["q_value"] = benjamini_hochberg(columns["spearman_p"].to_numpy())
    return columns
