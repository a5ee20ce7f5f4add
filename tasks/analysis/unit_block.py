"""One block of units: read its columns, compute every per-unit statistic, keep the rows aside.

A block is one task. What it computes is written to the work folder, so that tasks exchange paths,
and blocks that are done are not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from activarium.schemas.analysis_config import SHUFFLE
from activarium.tasks.analysis.chosen_images import load_choice
from activarium.tasks.analysis.class_rows import (
    GUARDED,
    class_rows,
    first_classes,
    ranked_classes,
    rows_of,
)
from activarium.tasks.analysis.exemplar_rows import exemplar_rows
from activarium.tasks.analysis.unit_rows import control_columns, preference_columns, unit_columns
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.ranks.halves import image_halves
from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.testing.permutations import permuted_effects
from activarium.tasks.stores.column_reading import column_means, read_columns
from activarium.tasks.stores.files import replacing
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.chosen_images import ChosenImages
    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.ranks.ranking import Ranks
    from activarium.tasks.stores.places import Place

Columns = dict[str, Any]
PARTS = ("units", "unit_classes", "exemplars")
"""Tables that a block holds rows of."""
CHOICE = "choice.npz"
"""File in the work folder that says which images are analysed."""
TARGET = "target.npy"
"""File in the work folder that holds a number per image."""


@dataclass(frozen=True)
class Block:
    """A contiguous range of units."""

    start: int
    stop: int

    @property
    def columns(self) -> slice:
        """The columns of the recording."""
        return slice(self.start, self.stop)

    def part(self, work: Path, name: str, ending: str = "arrow") -> Path:
        """Return where the block's rows of a table are kept until all blocks are done."""
        return work / f"{name}-{self.start:07d}-{self.stop:07d}.{ending}"


@dataclass(frozen=True)
class BlockData:
    """What one block's statistics are computed from."""

    responses: NDArray[np.float32]
    """(unit, image), the images in the order of the choice."""
    active_fraction: NDArray[np.float64] | None
    """(unit,) fraction of positions above zero, where recorded."""
    chosen: ChosenImages
    layer: list[str]
    channel: NDArray[np.int64]
    depth: NDArray[np.int64]
    feeds_relu: NDArray[np.bool_]
    image_names: Sequence[str]
    """Of all images of the recording."""

    @cached_property
    def unit(self) -> list[str]:
        """Names of the units."""
        return [f"{name}/{channel}" for name, channel in zip(self.layer, self.channel, strict=True)]

    @property
    def labelled(self) -> NDArray[np.float32]:
        """Responses to the images that have a class."""
        return self.responses[:, : self.chosen.labelled]


def read_block(recording: Recording, block: Block, chosen: ChosenImages) -> BlockData:
    """Read one block's columns and coordinates from a recording."""
    by_name = {layer.name: layer for layer in recording.layers}
    names = recording.text("unit_layer")[block.columns]
    has_active = recording.has("channel_active")
    return BlockData(
        responses=read_columns(recording, "channel_mean", block.columns, chosen.row),
        active_fraction=(
            column_means(recording, "channel_active", block.columns, chosen.row)
            if has_active
            else None
        ),
        chosen=chosen,
        layer=names,
        channel=recording.read("unit_channel")[block.columns].astype(np.int64),
        depth=np.array([by_name[name].depth for name in names]),
        feeds_relu=np.array([by_name[name].activation == "relu" for name in names]),
        image_names=recording.image_names,
    )


def block_tables(data: BlockData, config: AnalyseConfig) -> dict[str, Columns]:
    """Return the block's rows of `units`, `unit_classes` and `exemplars`, still without q-values.

    Of some classes alone where `config.top_classes` says so, with the p-values of all as `tests`.

    Statistics that compare classes are null where none can be compared. Columns that end in
    `_shuffled` are those of the control.
    """
    chosen, classes = data.chosen, len(data.chosen.class_names)
    if not chosen.labelled:
        units = unit_columns(data, *_of_all(data))
        return {"units": units, "unit_classes": {}, "exemplars": exemplar_rows(data, config)}
    labelled = data.labelled
    moments = class_moments(labelled, chosen.code, classes)
    ranks = rank_units(
        labelled,
        chosen.code,
        classes,
        bins=config.bins,
        half=_halves(chosen, config.seed) if chosen.is_comparable else None,
        comparable=chosen.comparable,
        top_images=config.top_images,
    )
    everyone = chosen.labelled == len(chosen.row)
    units = unit_columns(data, *((moments, ranks) if everyone else _of_all(data)))
    if chosen.is_comparable:
        units |= preference_columns(chosen, moments, ranks)
        if SHUFFLE in config.controls:
            units |= control_columns(labelled, chosen)
    rank = ranked_classes(data, moments)
    rows = class_rows(data, moments, ranks, rank, confidence=config.confidence)
    tables = {"units": units, "unit_classes": rows}
    kept = None
    if config.top_classes is not None:
        kept = first_classes(rank, config.top_classes)
        # False discovery rates are over all classes, whatever is kept of them.
        tables |= {"tests": {GUARDED: rows.pop(GUARDED)}, "unit_classes": rows_of(rows, kept)}
    return tables | {"exemplars": exemplar_rows(data, config, kept)}


def _halves(chosen: ChosenImages, seed: int) -> NDArray[np.int64]:
    """Return the half of each labelled image."""
    group = None if chosen.group is None else chosen.group[: chosen.labelled]
    return image_halves(chosen.code, chosen.place, seed=seed, group=group)


def _of_all(data: BlockData) -> tuple[ClassMoments, Ranks]:
    """Return moments and ranks of all images, as one class."""
    code = np.zeros(len(data.chosen.row), np.int64)
    return class_moments(data.responses, code, 1), rank_units(data.responses, code, 1)


def analyse_block(place: Place, work: Path, block: Block, config: AnalyseConfig) -> None:
    """Compute one block of a recording and keep its rows in the work folder."""
    done = block.part(work, PARTS[0])
    if done.exists():
        return
    chosen = load_choice(work / CHOICE)
    data = read_block(Recording(place), block, chosen)
    tables = block_tables(data, config)
    if chosen.is_comparable and config.permutations:
        effects = permuted_effects(
            data.labelled,
            chosen.code,
            len(chosen.class_names),
            permutations=config.permutations,
            seed=config.seed,
            place=chosen.place,
        )
        permuted = block.part(work, "permuted", "npy")
        with replacing(permuted) as temporary, temporary.open("wb") as file:
            np.save(file, effects.permuted)
        tables["units"]["observed_effect"] = effects.observed
    # The part that says that the block is done comes last.
    for table in reversed(tables):
        with replacing(block.part(work, table)) as temporary:
            columns = pa.table(tables[table])
            feather.write_feather(columns, temporary, compression="lz4")
