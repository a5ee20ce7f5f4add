"""Listing: what an atlas holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError
from activarium.schemas.layout import FORMAT_VERSION
from activarium.schemas.tables import RECORDINGS, TABLES
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.recording_store import is_half_created, read_attributes, receipt_keys
from activarium.tasks.stores.selections import selections_of
from activarium.tasks.stores.set_replacing import settle_tables
from activarium.tasks.stores.table_reading import set_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.stores.places import Place


def list_recordings(atlas: Atlas) -> list[dict[str, Any]]:
    """Return one row per recording: id, state, sizes, accuracy, which tables there are, and problems.

    `draws` counts untrained networks that are held against others, each over `images`; 0 for one network.

    Selections, of which there are only tables, follow their recordings.
    """
    settle_tables(atlas)
    rows = []
    for name in recording_names(atlas):
        rows.append(_describe(atlas, name))
        rows += [_describe_selection(atlas, each) for each in selections_of(atlas, name)]
    problems = set_problems(atlas, [row["recording"] for row in rows])
    for row in rows:
        row.setdefault("problem", problems.get(row["recording"]))
    return rows


def _describe_selection(atlas: Atlas, name: str) -> dict[str, Any]:
    row = {"recording": name, "status": "selection", "tables": _tables(atlas, name)}
    columns = ("analysed_images", "units", "accuracy", "selection")
    found = _facts(atlas, name, columns)
    if "analysed_images" in found:
        found["images"] = found["analysed_images"]
    return row | found


def _facts(atlas: Atlas, name: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return what the table `recordings` says of one; of a damaged one, which hides no other, why."""
    try:
        return dict(read_table(atlas.table_file(RECORDINGS, name), columns).to_pylist()[0])
    except UserError as error:
        return {"problem": str(error)}


def _tables(atlas: Atlas, name: str) -> list[str]:
    return [
        table.name
        for table in TABLES.values()
        if any(atlas.partition(table, name).glob("*.parquet"))
    ]


def _describe(atlas: Atlas, name: str) -> dict[str, Any]:
    place, tables = place_at(atlas.recording(name)), _tables(atlas, name)
    row: dict[str, Any] = {"recording": name, "status": "damaged", "tables": tables}
    row |= {"images": None, "units": None, "accuracy": None}
    try:
        attributes = read_attributes(place)
    except UserError:
        if _has_other_format(place):
            row["status"] = "other format"
        elif is_half_created(place, place.sizes()):
            row["status"] = "recording"
        return row
    row["status"] = attributes["status"]
    row |= {key: attributes[key] for key in ("model", "checkpoint", "test_set", "split")}
    row |= {key: attributes.get(key) for key in ("series", "step")}
    row["draws"] = int(attributes.get("draws", 0))
    row["shards"] = len(receipt_keys(place))
    row |= _sizes(place, attributes["reductions"][0])
    if row["draws"] and row["images"] is not None:
        row["images"] //= row["draws"]
    if RECORDINGS.name in tables:
        columns = ("images", "units", "accuracy")
        row |= _facts(atlas, name, columns)
    return row


def _sizes(place: Place, reduction: str) -> dict[str, int]:
    """Return the shape of a recording, as one of its arrays tells it; nothing where that is damaged."""
    try:
        images, units = json.loads(place.read(f"channel_{reduction}/zarr.json"))["shape"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"images": images, "units": units}


def _has_other_format(place: Place) -> bool:
    """Return whether a store that cannot be read tells the format version of another program."""
    try:
        version = json.loads(place.read("zarr.json"))["attributes"]["format_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(version, int) and version != FORMAT_VERSION
