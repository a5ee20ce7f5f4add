"""Rows of the table `class_pairs`: how far the classes of each pair lie apart in a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from activarium.schemas.layout import BLOCK_UNITS
from activarium.tasks.analysis.names import named
from activarium.tasks.statistics.layers.class_pairs import (
    block_pairs,
    class_pair_rows,
    nearest_pairs,
    standardised_centroids,
)
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.ranks.pair_ranks import pair_u
from activarium.tasks.stores.column_reading import read_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.chosen_images import ChosenImages
    from activarium.tasks.stores.recording import Recording


def pair_rows(
    recording: Recording, layer: str, chosen: ChosenImages, config: AnalyseConfig
) -> dict[str, Any]:
    """Return one row per pair of classes; of many classes, the pairs that are nearest.

    The units are read block by block: only their p-values and centroids stay.
    """
    classes = len(chosen.class_names)
    pairs = None
    if classes > config.pair_classes:
        centroids = [
            standardised_centroids(class_moments(responses, chosen.code, classes))
            for responses in _blocks(recording, layer, chosen)
        ]
        pairs = nearest_pairs(np.concatenate(centroids), neighbours=config.pair_neighbours)
    blocks = [
        block_pairs(
            class_moments(responses, chosen.code, classes),
            pair_u(responses, chosen.code, classes, pairs=pairs),
        )
        for responses in _blocks(recording, layer, chosen)
    ]
    found = class_pair_rows(blocks, fdr=config.fdr)
    owner = next(each for each in recording.layers if each.name == layer)
    units = [f"{layer}/{channel}" for channel in range(owner.units)]
    rows = len(found.pair)
    # A class of one image has no place of its own: its pairs are there, and null.
    compared = chosen.comparable[found.pair].all(axis=1)
    columns = {
        name: np.where(compared, getattr(found, name), np.nan)
        for name in ("centroid_cosine", "centroid_distance", "fisher_ratio", "best_auroc")
    }
    return {
        "layer": pa.repeat(pa.scalar(layer), rows),
        "depth": np.full(rows, owner.depth),
        "class": named(found.pair[:, 0], chosen.class_names),
        "other_class": named(found.pair[:, 1], chosen.class_names),
        **columns,
        "best_unit": named(np.where(compared, found.best_unit, -1), units),
        "separating_units": pa.array(found.separating_units, mask=~compared),
        "units": np.full(rows, owner.units),
    }


def _blocks(
    recording: Recording, layer: str, chosen: ChosenImages
) -> Iterator[NDArray[np.float32]]:
    """Yield the responses of a layer's units to labelled images, (unit, image), by blocks of units."""
    columns = recording.layer_slices[layer]
    row = chosen.row[: chosen.labelled]
    for start in range(columns.start, columns.stop, BLOCK_UNITS):
        block = slice(start, min(start + BLOCK_UNITS, columns.stop))
        yield read_columns(recording, "channel_mean", block, row)
