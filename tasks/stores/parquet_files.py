"""Table files: checked against their schema as they are written, against their checksum as they are read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from activarium.schemas.columns import IN_SET_KEY, INPUTS_KEY
from activarium.schemas.errors import UserError
from activarium.tasks.stores.checksum_files import is_whole
from activarium.tasks.stores.table_sets import UNREADABLE, file_problem, set_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from activarium.schemas.columns import Column, Table

ROW_GROUP_ROWS = 131_072
"""Rows per row group: small enough that a filter on layer or unit skips most of a file."""


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
    schema = table.schema({INPUTS_KEY.decode(): inputs, IN_SET_KEY.decode(): "1"})
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


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table to where its set is staged; its pages carry checksums."""
    write_pieces(path, table.schema, [table])


def write_pieces(path: Path, schema: pa.Schema, pieces: Iterable[pa.Table]) -> None:
    """Write a table piece by piece, as `write_table` does, so that only one is in memory.

    Parameters
    ----------
    path
        Where the file is staged.
    schema
        The schema of all pieces, with the file's metadata.
    pieces
        Tables in the order of their rows.
    """
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for piece in pieces:
            writer.write_table(piece, row_group_size=ROW_GROUP_ROWS)


def inputs_of(path: Path) -> str:
    """Return the fingerprint of what a file was computed from; empty where it is not whole."""
    if not is_whole(path):
        return ""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except UNREADABLE:
        return ""
    return str(metadata.get(INPUTS_KEY, b"").decode())


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a table file, checked as `opened_table` does.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    with opened_table(path) as file:
        return file.read(columns=list(columns) if columns else None)


@contextmanager
def opened_table(path: Path, *, coded: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Open a table file whose content is what was written, and check its pages as they are read.

    Parameters
    ----------
    path
        The file.
    coded
        Columns that are read dictionary-encoded.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    found = set_of(path)
    if not path.exists():
        command = "activarium analyse" if found is None else found.command
        raise UserError(f"there is no table at {path}: run `{command}`")
    problem = file_problem(found, path)
    if problem:
        raise damaged(path, problem)
    try:
        with pq.ParquetFile(
            path, page_checksum_verification=True, read_dictionary=list(coded)
        ) as file:
            yield file
    except UNREADABLE as error:
        raise damaged(path, (str(error) or type(error).__name__).splitlines()[0]) from error


def damaged(path: Path, problem: str) -> UserError:
    """Return the error of a file of a set that is not what was written."""
    found = set_of(path)
    command = "" if found is None else f": `{found.command}` makes it anew"
    return UserError(f"{path} is damaged ({problem}){command or ': run what made it again'}")
