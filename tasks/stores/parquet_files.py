"""Tables on disk: checked against their schema, written whole or not at all, with a checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from activarium.schemas.errors import UserError
from activarium.tasks.stores.checksum_files import is_whole, replacing_checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from activarium.schemas.columns import Column, Table

INPUTS_KEY = b"activarium.inputs"
"""Metadata key of the fingerprint of what a file was computed from."""

ROW_GROUP_ROWS = 131_072
"""Rows per row group: small enough that a filter on layer or unit skips most of a file."""

UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What Arrow raises on a damaged file: a name in the footer may not even be text."""


def to_table(table: Table, columns: Mapping[str, Any], *, inputs: str) -> pa.Table:
    """Return the columns as an Arrow table of exactly the table's schema.

    NaN becomes null where a column may be null.

    Parameters
    ----------
    table
        The table's description.
    columns
        One sequence per column; their order does not matter.
    inputs
        Fingerprint of what the values were computed from.

    Raises
    ------
    ValueError
        If a column is missing or too many, or a value is outside its range; the message names
        table, column and row.
    """
    expected = [column.name for column in table.columns]
    if set(columns) != set(expected):
        odd = sorted(set(columns) ^ set(expected))
        raise ValueError(f"table {table.name}: expected columns {expected}, these differ: {odd}")
    schema = table.schema({INPUTS_KEY.decode(): inputs})
    arrays = [_to_array(column, columns[column.name]) for column in table.columns]
    built = pa.Table.from_arrays(arrays, schema=schema)
    for column in table.columns:
        _check_range(table, column, built.column(column.name))
    return built


def _to_array(column: Column, values: Any) -> pa.Array | pa.ChunkedArray:
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        return pa.array(values, column.type, from_pandas=column.nullable)
    cast = values.cast(column.type)
    if column.nullable and pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(cast), pa.scalar(None, column.type), cast)
    return cast


def _check_range(table: Table, column: Column, values: pa.ChunkedArray) -> None:
    bad = pc.is_null(values, nan_is_null=pa.types.is_floating(column.type))
    what = "no value where one is needed"
    if column.nullable or not pc.any(bad).as_py():
        bad = pa.chunked_array([pa.array(np.zeros(len(values), bool))])
        if column.low is not None:
            bad = pc.or_(bad, pc.less(values, column.low))
        if column.high is not None:
            bad = pc.or_(bad, pc.greater(values, column.high))
        bad = pc.fill_null(bad, fill_value=False)
        what = f"expected a value in {column.range_text}"
    if pc.any(bad).as_py():
        row = pc.index(bad, value=True).as_py()
        raise ValueError(
            f"table {table.name}, column {column.name}, row {row}: {what}, got {values[row]}"
        )


def write_table(path: Path, table: pa.Table) -> Path:
    """Write a table so that readers see the old file or the new one, never half of it.

    Pages carry checksums, and the file's sha256 is written too.

    Raises
    ------
    UserError
        If the disk is full or the folder cannot be written.
    """
    return write_pieces(path, table.schema, [table])


def write_pieces(path: Path, schema: pa.Schema, pieces: Iterable[pa.Table]) -> Path:
    """Write a table piece by piece, as `write_table` does, so that only one is in memory.

    Parameters
    ----------
    path
        The file.
    schema
        The schema of all pieces, with the file's metadata.
    pieces
        Tables in the order of their rows.
    """
    with (
        replacing_checked(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for piece in pieces:
            writer.write_table(piece, row_group_size=ROW_GROUP_ROWS)
    return path


def inputs_of(path: Path) -> str:
    """Return the fingerprint of what a file was computed from; empty where it is not whole."""
    if not is_whole(path):
        return ""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except UNREADABLE:
        return ""
    return str(metadata.get(INPUTS_KEY, b"").decode())


def is_current(path: Path, inputs: str) -> bool:
    """Return whether the file was computed from exactly these inputs, and is whole."""
    return inputs_of(path) == inputs


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a table file, its pages checked against their checksums.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(
            columns=list(columns) if columns else None
        )
    except FileNotFoundError as error:
        raise UserError(f"there is no table at {path}: run `activarium analyse`") from error
    except UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} is damaged ({reason}): delete it and run the same command again"
        ) from error
