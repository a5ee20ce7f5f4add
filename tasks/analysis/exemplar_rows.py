"""Rows of the table `exemplars`: the images that each unit answers most and least."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from activarium.tasks.analysis.names import named
from activarium.tasks.statistics.units.exemplars import extreme_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.unit_block import BlockData


def exemplar_rows(
    data: BlockData, config: AnalyseConfig, kept: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Return the strongest and weakest images of each unit, overall and within each class.

    Parameters
    ----------
    data
        The block.
    config
        How many.
    kept
        Classes of each unit within which they are kept, (unit, class); None for all.
    """
    chosen, classes = data.chosen, len(data.chosen.class_names)
    label = np.full(len(chosen.row), -1, np.int64)
    label[: chosen.labelled] = chosen.code
    order = np.argsort(chosen.row)
    parts = []
    for extreme in ("most", "least"):
        found = extreme_images(
            data.responses,
            label,
            classes,
            order=order,
            ranks=config.exemplars,
            class_ranks=0 if config.top_classes == 0 else config.class_exemplars,
            least=extreme == "least",
        )
        overall = found.overall[:, None, :]
        parts.append(_rows(data, extreme, overall, np.array([-1])))
        within = found.by_class
        if kept is not None:
            within = np.where(kept[:, :, None], within, -1)
        parts.append(_rows(data, extreme, within, np.arange(classes)))
    whole = pa.concat_tables(parts)
    return {name: whole.column(name) for name in whole.column_names}


def _rows(
    data: BlockData, extreme: str, found: NDArray[np.int64], codes: NDArray[np.int64]
) -> pa.Table:
    unit, place, rank = np.nonzero(found >= 0)
    position = found[unit, place, rank]
    row = data.chosen.row[position]
    return pa.table(
        {
            "layer": pa.array(data.layer, pa.string()).take(unit),
            "channel": data.channel[unit],
            "unit": pa.array(data.unit, pa.string()).take(unit),
            "extreme": pa.repeat(pa.scalar(extreme), len(unit)),
            "class": named(codes[place], data.chosen.class_names),
            "exemplar_rank": rank + 1,
            "image_index": row,
            "image": named(row, data.image_names),
            "response": data.responses[unit, position].astype(np.float64),
        }
    )
