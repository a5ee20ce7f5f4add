"""Columns to a table file, in the table's order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from activarium.tasks.stores.parquet_files import to_table, write_pieces, write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from activarium.schemas.columns import Table


def write_columns(path: Path, table: Table, columns: Mapping[str, Any], *, inputs: str) -> None:
    """Write a table, sorted as its schema says; without any column it has no rows.

    Parameters
    ----------
    path
        Where the file is staged.
    table
        The table's description.
    columns
        One sequence per column.
    inputs
        Fingerprint of what the values were computed from.

    Raises
    ------
    ValueError
        If a column is missing or too many, or a value is outside its range.
    UserError
        If the disk is full or the folder cannot be written.
    """
    filled = columns or {column.name: [] for column in table.columns}
    built = to_table(table, filled, inputs=inputs)
    if table.sort:
        order = pc.sort_indices(built, [(name, "ascending") for name in table.sort])
        if not _ascends(order):
            built = built.take(order)
    write_table(path, built)


def write_in_pieces(
    path: Path, table: Table, pieces: Iterable[Mapping[str, Any]], *, inputs: str
) -> None:
    """Write a table whose rows come in pieces, one of them in memory at a time.

    Parameters
    ----------
    path
        Where the file is staged.
    table
        The table's description; its rows stay as they come.
    pieces
        Columns by name, for some rows each; a piece without columns has no rows.
    inputs
        Fingerprint of what the values were computed from.

    Raises
    ------
    ValueError, UserError
        As `write_columns`.
    """
    built = (to_table(table, piece, inputs=inputs) for piece in pieces if piece)
    empty: dict[str, list[Any]] = {column.name: [] for column in table.columns}
    write_pieces(path, to_table(table, empty, inputs=inputs).schema, built)


def _ascends(order: Any) -> bool:
    """Return whether rows are in order already: large tables are then not copied."""
    places = order.to_numpy()
    return bool((places[1:] > places[:-1]).all())
