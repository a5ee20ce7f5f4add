"""What the report page reads: the tables of one recording, and the classes they name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from activarium.schemas.errors import UserError
from activarium.schemas.tables import (
    DEPTH_TRENDS,
    IMAGES,
    LAYERS,
    RECORDINGS,
    UNIT_TARGETS,
    UNITS,
)
from activarium.tasks.stores.parquet_files import opened_table, read_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table

_BATCH_ROWS = 1_000_000


@dataclass(frozen=True)
class RecordingTables:
    """The tables of one recording that have one row per image, layer or unit at most."""

    recording: str
    facts: dict[str, Any]
    """The recording's row of `recordings`."""
    images: pa.Table
    """Sorted by `image_index`."""
    layers: pa.Table
    """Sorted by depth."""
    units: pa.Table
    """Sorted by depth and channel, so that the units of a layer are neighbours."""
    trends: pa.Table
    """Measures over depth; empty where there are no classes."""


def read_recording(atlas: Atlas, recording: str) -> RecordingTables:
    """Read the tables of one recording that every report needs.

    Raises
    ------
    UserError
        Where a table is missing.
    """
    facts = _read(atlas, RECORDINGS, recording).to_pylist()
    if not facts:
        raise UserError(f"the table recordings of {recording!r} has no row; analyse it again")
    return RecordingTables(
        recording=recording,
        facts=facts[0],
        images=_read(atlas, IMAGES, recording, sort=("image_index",)),
        layers=_read(atlas, LAYERS, recording, sort=("depth", "layer")),
        units=_read(atlas, UNITS, recording, sort=("depth", "layer", "channel")),
        trends=_read(atlas, DEPTH_TRENDS, recording),
    )


def _read(atlas: Atlas, table: Table, recording: str, *, sort: tuple[str, ...] = ()) -> pa.Table:
    path = atlas.table_file(table, recording)
    if not path.is_file():
        raise UserError(
            f"expected the table {table.name} of recording {recording!r} at {path}, found none; "
            f"{_reason(atlas, recording)}"
        )
    rows = read_table(path)
    return rows.sort_by([(name, "ascending") for name in sort]) if sort else rows


def _reason(atlas: Atlas, recording: str) -> str:
    """Return why a table of class preference is not there, and what to do."""
    if atlas.table_file(UNIT_TARGETS, recording).is_file():
        return (
            "it was analysed with --target, and a page shows preference for classes: ask the table "
            "unit_targets with `activarium query`"
        )
    return "analyse the recording first"


def read_batches(
    path: Path, columns: Sequence[str], *, coded: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file in blocks, the `coded` columns dictionary-encoded.

    Nothing is yielded where the file is missing. The long tables (units x classes) stay bounded
    in memory this way.
    """
    if not path.is_file():
        return
    with opened_table(path, coded=coded) as file:
        yield from file.iter_batches(_BATCH_ROWS, columns=list(columns))


def codes_in(values: pa.Array | pa.ChunkedArray, names: pa.Array) -> NDArray[np.int64]:
    """Return the place of each value in `names`; -1 for null and for what is not there."""
    if isinstance(values, pa.DictionaryArray):
        places = codes_in(values.dictionary, names)
        indices = np.asarray(pc.fill_null(values.indices, -1), dtype=np.int64)
        # One place more than the dictionary holds, so that the index -1 finds "not there".
        found: NDArray[np.int64] = np.append(places, -1)[indices]
        return found
    # A column with nothing but nulls still has the type of text, which is what `index_in` asks.
    places = pc.index_in(values.cast(pa.string()), value_set=names, skip_nulls=True)
    return np.asarray(pc.fill_null(places, -1), dtype=np.int64)


def images_of_classes(images: pa.Table) -> dict[str, int]:
    """Return how many images of each class are analysed, by rows of the table `images`."""
    taken = images.filter(images["valid"]).group_by("class").aggregate([("class", "count")])
    pairs = taken.sort_by("class").to_pylist()
    return {str(pair["class"]): pair["class_count"] for pair in pairs if pair["class"] is not None}


def class_names(recordings: Sequence[RecordingTables]) -> list[str]:
    """Return the classes in the order of the first recording's codes, then any others."""
    order: dict[str, None] = {}
    for tables in recordings:
        pairs = tables.images.group_by(["label", "class"]).aggregate([]).to_pylist()
        coded = sorted(
            (pair["label"], pair["class"])
            for pair in pairs
            if pair["label"] is not None and pair["label"] >= 0 and pair["class"] is not None
        )
        order.update(dict.fromkeys(name for _, name in coded))
    for tables in recordings:
        # The model predicts its own classes: beside groups of them they are none of the page's.
        grouped = "classes" in json.loads(tables.facts.get("selection") or "{}")
        predicted = [] if grouped else [tables.images["predicted"]]
        for column in [*predicted, tables.units["preferred_class"]]:
            names = (name for name in pc.unique(column).to_pylist() if name is not None)
            order.update(dict.fromkeys(sorted(names)))
    return list(order)


def numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a numeric column as float64, NaN for null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)
