"""One block of units: read its columns, compute every per-unit statistic, keep the rows aside.

A block is one task. What it computes is written to the work folder, so that tasks exchange paths,
and blocks that are done are not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from activarium.schemas.errors import UserError
from activarium.tasks.statistics.exemplars import extreme_images
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.preference import (
    anova,
    auroc,
    class_z,
    hedges_g,
    kruskal_wallis,
    lifetime_sparseness,
    mann_whitney_p,
    mann_whitney_u,
    preferred_classes,
    selectivity_index,
)
from activarium.tasks.statistics.ranking import rank_units
from activarium.tasks.stores.files import replacing
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.stores.places import Place

Columns = dict[str, Any]
PARTS = ("units", "unit_classes", "exemplars")
"""Tables that a block holds rows of."""


@dataclass(frozen=True)
class Block:
    """A contiguous range of units, and how many exemplars to keep."""

    start: int
    stop: int
    exemplars: int
    class_exemplars: int


@dataclass(frozen=True)
class BlockData:
    """What one block's statistics are computed from; images that are not valid are left out."""

    responses: NDArray[np.float32]
    """(unit, image)."""
    active: NDArray[np.float32] | None
    """(unit, image) fraction of positions above zero, where recorded."""
    label: NDArray[np.int32]
    image: NDArray[np.int64]
    """Row in the recording of each image."""
    layer: list[str]
    channel: NDArray[np.int64]
    depth: NDArray[np.int64]
    feeds_relu: NDArray[np.bool_]
    class_names: Sequence[str]
    image_names: Sequence[str]

    @property
    def unit(self) -> list[str]:
        """Names of the units."""
        return [f"{name}/{channel}" for name, channel in zip(self.layer, self.channel, strict=True)]


def read_block(recording: Recording, block: Block) -> BlockData:
    """Read one block's columns and coordinates from a recording."""
    valid = recording.valid
    rows = np.flatnonzero(valid)

    def columns(array: str) -> NDArray[np.float32]:
        values = recording.columns(array, block.start, block.stop)
        found = np.ascontiguousarray(values[rows].T if len(rows) < len(valid) else values.T)
        _check_finite(recording, array, found)
        return found

    by_name = {layer.name: layer for layer in recording.layers}
    names = recording.text("unit_layer")[block.start : block.stop]
    return BlockData(
        responses=columns("channel_mean"),
        active=columns("channel_active") if recording.has("channel_active") else None,
        label=recording.labels[rows],
        image=rows,
        layer=names,
        channel=recording.read("unit_channel")[block.start : block.stop].astype(np.int64),
        depth=np.array([by_name[name].depth for name in names]),
        feeds_relu=np.array([by_name[name].activation == "relu" for name in names]),
        class_names=recording.class_names,
        image_names=recording.image_names,
    )


def _check_finite(recording: Recording, array: str, values: NDArray[np.float32]) -> None:
    """Refuse what a missing chunk reads as: Zarr fills it with NaN without a word."""
    if not np.isfinite(values).all():
        raise UserError(
            f"{recording.place}/{array} lacks values of images that could be decoded: `activarium "
            "verify` names the damaged shard, `activarium record --repair` makes it again"
        )


def named(codes: NDArray[np.integer], names: Sequence[str]) -> pa.Array:
    """Return the name of each code; null where the code is negative."""
    indices = pa.array(codes.ravel(), mask=(codes < 0).ravel())
    return pa.array(list(names), pa.string()).take(indices)


def block_tables(data: BlockData, block: Block) -> dict[str, Columns]:
    """Return the block's rows of `units`, `unit_classes` and `exemplars`, still without q-values.

    Statistics that need classes are null where fewer than one image is labelled.
    """
    labelled = data.label >= 0
    responses = data.responses
    n_classes = len(data.class_names)
    overall = class_moments(responses, np.zeros(len(data.label), np.int64), 1)
    units = _responses(data, overall)
    if not labelled.any():
        units |= {name: np.full(len(responses), np.nan) for name in _CLASS_COLUMNS}
        empty = np.full(len(responses), -1)
        units |= {name: named(empty, [""]) for name in _CLASS_NAMES}
        return {"units": units, "unit_classes": {}, "exemplars": _exemplars(data, block)}
    if not labelled.all():
        responses = np.ascontiguousarray(responses[:, labelled])
    moments = class_moments(responses, data.label[labelled], n_classes)
    ranks = rank_units(responses, data.label[labelled], n_classes)[:2]
    return {
        "units": units | _preferences(data, moments, *ranks),
        "unit_classes": _class_rows(data, moments, *ranks),
        "exemplars": _exemplars(data, block),
    }


def _responses(data: BlockData, overall: ClassMoments) -> Columns:
    constant = overall.is_constant
    columns: Columns = {
        "layer": data.layer,
        "channel": data.channel,
        "unit": data.unit,
        "depth": data.depth,
        "response_mean": overall.overall_mean,
        "response_sd": np.nan_to_num(overall.overall_sd),
        "response_min": overall.low,
        "response_max": overall.high,
        "active_fraction": np.full(len(constant), np.nan),
        "is_dead": constant,
        "sparseness": lifetime_sparseness(overall),
    }
    if data.active is not None:
        active = data.active.mean(axis=1, dtype=np.float64)
        columns["active_fraction"] = active
        columns["is_dead"] = constant | (data.feeds_relu & (active == 0))
    return columns


_CLASS_COLUMNS = (
    "selectivity",
    "auroc",
    "anova_f",
    "anova_p",
    "anova_log10p",
    "eta2",
    "kruskal_h",
    "kruskal_p",
    "kruskal_log10p",
    "epsilon2",
)
_CLASS_NAMES = ("preferred_class", "runner_up_class", "auroc_class")


def _preferences(
    data: BlockData,
    moments: ClassMoments,
    rank_sum: NDArray[np.float64],
    tie_sum: NDArray[np.float64],
) -> Columns:
    count = moments.count
    preferred = preferred_classes(moments.mean, count)
    area = np.where(count > 0, auroc(rank_sum, count), -1.0)
    best = np.where(moments.is_constant, -1, area.argmax(axis=1))
    f_test = anova(moments)
    h_test = kruskal_wallis(rank_sum, count, tie_sum)
    return {
        "preferred_class": named(preferred.preferred, data.class_names),
        "runner_up_class": named(preferred.runner_up, data.class_names),
        "selectivity": selectivity_index(moments),
        "auroc": area.max(axis=1),
        "auroc_class": named(best, data.class_names),
        "anova_f": f_test.f,
        "anova_p": f_test.p,
        "anova_log10p": f_test.log10_p,
        "eta2": f_test.eta2,
        "kruskal_h": h_test.h,
        "kruskal_p": h_test.p,
        "kruskal_log10p": h_test.log10_p,
        "epsilon2": h_test.epsilon2,
    }


def _class_rows(
    data: BlockData,
    moments: ClassMoments,
    rank_sum: NDArray[np.float64],
    tie_sum: NDArray[np.float64],
) -> Columns:
    count, units, classes = moments.count, len(data.channel), len(moments.count)
    u = mann_whitney_u(rank_sum, count)
    test = mann_whitney_p(u, count, tie_sum)
    every_class = np.tile(np.arange(classes), units)
    return {
        "layer": np.repeat(data.layer, classes),
        "channel": np.repeat(data.channel, classes),
        "unit": np.repeat(data.unit, classes),
        "class": named(every_class, data.class_names),
        "n": np.tile(count, units),
        "response_mean": moments.mean.ravel(),
        "response_sd": moments.class_sd.ravel(),
        "z": class_z(moments.mean).ravel(),
        "auroc": auroc(rank_sum, count).ravel(),
        "u": u.ravel(),
        "p_value": test.p.ravel(),
        "log10p": test.log10_p.ravel(),
        "hedges_g": hedges_g(moments).ravel(),
    }


def _exemplars(data: BlockData, block: Block) -> Columns:
    classes = len(data.class_names)
    parts = []
    for extreme in ("most", "least"):
        found = extreme_images(
            data.responses,
            data.label,
            classes,
            ranks=block.exemplars,
            class_ranks=block.class_exemplars,
            least=extreme == "least",
        )
        overall = found.overall[:, None, :]
        parts.append(_exemplar_rows(data, extreme, overall, np.array([-1])))
        parts.append(_exemplar_rows(data, extreme, found.by_class, np.arange(classes)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _exemplar_rows(
    data: BlockData, extreme: str, found: NDArray[np.int64], codes: NDArray[np.int64]
) -> Columns:
    unit, place, rank = np.nonzero(found >= 0)
    position = found[unit, place, rank]
    class_names = np.array([*data.class_names, None], dtype=object)
    rows = data.image[position]
    return {
        "layer": np.array(data.layer, dtype=object)[unit],
        "channel": data.channel[unit],
        "unit": np.array(data.unit, dtype=object)[unit],
        "extreme": np.full(len(unit), extreme, dtype=object),
        "class": class_names[codes[place]],
        "exemplar_rank": rank + 1,
        "image_index": rows,
        "image": np.array(data.image_names, dtype=object)[rows],
        "response": data.responses[unit, position].astype(np.float64),
    }


def part_file(work: Path, table: str, block: Block) -> Path:
    """Return where a block's rows of a table are kept until all blocks are done."""
    return work / f"{table}-{block.start:07d}-{block.stop:07d}.arrow"


def analyse_block(place: Place, work: Path, block: Block) -> None:
    """Compute one block of a recording and keep its rows in the work folder."""
    if all(part_file(work, table, block).exists() for table in PARTS):
        return
    tables = block_tables(read_block(Recording(place), block), block)
    for table, columns in tables.items():
        with replacing(part_file(work, table, block)) as temporary:
            feather.write_feather(pa.table(columns), temporary, compression="lz4")
