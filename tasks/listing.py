"""Listing: what an atlas holds."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError
from activarium.schemas.layout import FORMAT_VERSION, RECEIPTS
from activarium.schemas.tables import RECORDINGS, TABLES
from activarium.tasks.parquet_files import read_table
from activarium.tasks.recording_store import read_attributes

if TYPE_CHECKING:
    from pathlib import Path

    from activarium.schemas.atlas import Atlas


def list_recordings(atlas: Atlas) -> list[dict[str, Any]]:
    """Return one row per recording: id, state, sizes, accuracy and which tables there are."""
    return [_describe(atlas, name) for name in atlas.recording_names()]


def _describe(atlas: Atlas, name: str) -> dict[str, Any]:
    path = atlas.recording(name)
    tables = [
        table.name
        for table in TABLES.values()
        if any(atlas.partition(table, name).glob("*.parquet"))
    ]
    row: dict[str, Any] = {"recording": name, "status": "damaged", "tables": tables}
    row |= {"images": None, "units": None, "accuracy": None}
    try:
        attributes = read_attributes(path)
    except UserError:
        if _has_other_format(path):
            row["status"] = "other format"
        return row
    row["status"] = attributes["status"]
    row |= {key: attributes[key] for key in ("model", "checkpoint", "test_set", "split")}
    row["shards"] = len(list((path / RECEIPTS).glob("shard-*.json")))
    if RECORDINGS.name in tables:
        columns = ("images", "units", "accuracy")
        # `verify` names a damaged table; the other recordings are listed all the same.
        with suppress(UserError):
            row |= read_table(atlas.table_file(RECORDINGS, name), columns).to_pylist()[0]
    return row


def _has_other_format(path: Path) -> bool:
    """Return whether a store that cannot be read tells the format version of another program."""
    try:
        version = json.loads((path / "zarr.json").read_bytes())["attributes"]["format_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(version, int) and version != FORMAT_VERSION
