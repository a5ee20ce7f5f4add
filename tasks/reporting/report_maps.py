"""The report page's maps: embeddings of the images, and how far they can be trusted."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from activarium.schemas.tables import EMBEDDING_QUALITY, EMBEDDINGS
from activarium.tasks.reporting.report_packing import packed, packed_codes
from activarium.tasks.reporting.report_sprites import thinned
from activarium.tasks.reporting.report_tables import numbers
from activarium.tasks.stores.parquet_files import opened_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table
    from activarium.tasks.reporting.report_tables import RecordingTables

PIXELS = "pixels"
"""Name of the map of the raw pixels."""

_KEYS = ("features", "layer", "method", "into")
_MOST_POINTS = 300_000
_FEWEST_POINTS = 500
_QUALITY = (
    "images", "placed_images", "source_features", "dimensions", "trustworthiness", "knn_purity",
    "source_knn_purity", "continuity", "silhouette", "source_silhouette", "neighbours", "objective",
    "explained_variance", "parameters", "seed",
)  # fmt: skip


def read_maps(atlas: Atlas, tables: RecordingTables) -> list[dict[str, Any]]:
    """Return the maps of a recording in the order of depth, the raw pixels first.

    Each map holds its `layer`, `method`, `images` (indices), `points` (shape (image, 2), from 0
    to 1 at the same scale in both directions) and `quality`.
    """
    rows = _read_parts(atlas, EMBEDDINGS, tables.recording)
    quality = {
        tuple(row[name] for name in _KEYS): {name: row[name] for name in _QUALITY}
        for row in _read_parts(atlas, EMBEDDING_QUALITY, tables.recording).to_pylist()
    }
    keys = [
        tuple(key[name] for name in _KEYS)
        for key in rows.select(_KEYS).group_by(list(_KEYS)).aggregate([]).to_pylist()
    ]
    depth = {
        name: place for place, name in enumerate([PIXELS, *tables.layers["layer"].to_pylist()])
    }
    keys.sort(key=lambda key: (depth.get(key[1], len(depth)), *(each or "" for each in key)))
    return [_map(rows, key, quality.get(key)) for key in keys]


def _map(
    rows: pa.Table, key: tuple[str | None, ...], quality: dict[str, Any] | None
) -> dict[str, Any]:
    alike = [
        pc.is_null(rows[name]) if value is None else pc.equal(rows[name], value)
        for name, value in zip(_KEYS, key, strict=True)
    ]
    part = rows.filter(reduce(pc.and_kleene, alike)).sort_by("image_index")
    points = np.column_stack([numbers(part, "x"), numbers(part, "y")])
    return {
        "layer": _shown_layer(*key),
        "method": key[2],
        "images": numbers(part, "image_index").astype(np.int64),
        "points": _fitted(points),
        "quality": quality,
    }


def _shown_layer(features: str | None, layer: str | None, _: str | None, into: str | None) -> str:
    """Return what the page calls a map's layer: alike for no two maps of a method."""
    means = " (channel means)" if features == "means" else ""
    return f"{layer}{means}" + ("" if into is None else f" in the map of {into}")


def _fitted(points: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    fitted: NDArray[np.float64] = (points - (low + high) / 2) / span + 0.5
    return fitted


def maps_payload(maps: list[dict[str, Any]], *, maps_in_all: int) -> dict[str, Any]:
    """Return the maps as the page reads them, with evenly fewer images where there are too many.

    Images that several maps share are stored once. `maps_in_all` counts all recordings.
    """
    sets: list[NDArray[np.int64]] = []
    out: list[dict[str, Any]] = []
    for one in maps:
        kept = thinned(
            np.arange(len(one["images"])), max(_FEWEST_POINTS, _MOST_POINTS // maps_in_all)
        )
        images = one["images"][kept]
        place = next(
            (i for i, known in enumerate(sets) if np.array_equal(known, images)), len(sets)
        )
        if place == len(sets):
            sets.append(images)
        grid = np.round(one["points"][kept] * 65_535).astype(np.uint16)
        out.append(
            {
                "layer": one["layer"],
                "method": one["method"],
                "set": place,
                "points": packed(grid.ravel()),
                "quality": one["quality"],
            }
        )
    return {"sets": [packed_codes(images) for images in sets], "maps": out}


def _read_parts(atlas: Atlas, table: Table, recording: str) -> pa.Table:
    parts = []
    for path in sorted(atlas.partition(table, recording).glob("*.parquet")):
        with opened_table(path) as file:
            # Maps of an older format, which nothing has made anew, are left out.
            if set(table.schema().names) <= set(file.schema_arrow.names):
                parts.append(file.read().replace_schema_metadata())
    return pa.concat_tables(parts) if parts else table.schema().empty_table()
