"""What `query` prints: a result as it comes, for people, as JSON, or as CSV."""

from __future__ import annotations

import csv
import io
from itertools import chain
from textwrap import indent
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import WriteOptions, write_csv

from activarium.flows.output import as_json, counted, err, out, print_table, write_out
from activarium.schemas.errors import UserError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from activarium.tasks.reporting.query import Result

ROWS_SHOWN = 200
"""Rows of a result that people are shown."""

ROWS_COUNTED = 5_000_000
"""Rows up to which those that are not shown are counted."""

_EXPLAINED = ["explain_key", "explain_value"]
"""Columns of what EXPLAIN returns, whose values are drawings of many lines."""


def print_result(result: Result) -> None:
    """Print the first rows of a result as a table, and how many there are if not all are shown."""
    names = result.schema.names
    first: list[list[Any]] = []
    rows = 0
    batches = iter(result.batches)
    for batch in batches:
        first += _rows(batch.slice(0, ROWS_SHOWN - len(first)))
        rows += batch.num_rows
        if rows >= ROWS_SHOWN:
            break
    if names == _EXPLAINED:
        for _, text in first:
            write_out("".join(f"{shown(line)}\n" for line in text.splitlines()))
        return
    print_table(names, first)
    for batch in batches:
        rows += batch.num_rows
        if rows > ROWS_COUNTED:
            break
    if rows > ROWS_SHOWN:
        known = f"more than {ROWS_COUNTED:,}" if rows > ROWS_COUNTED else f"{rows:,}"
        err.print(f"{ROWS_SHOWN} of {known} rows shown; --csv and --json print all")
    elif not rows:
        err.print(counted(0, "row"))


def _rows(batch: pa.RecordBatch) -> Iterator[list[Any]]:
    # By place: two columns may have one name.
    for cells in zip(*map(_values, batch.columns), strict=True):
        yield list(cells)


def _values(column: pa.Array) -> list[Any]:
    """Return the values of a column.

    Raises
    ------
    UserError
        If a date or time of it lies beyond those that Python knows.
    """
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise UserError(
            f"a {column.type} of the result lies beyond the years 1 to 9999: ask for it as text, "
            "CAST(... AS VARCHAR)"
        ) from error
    return values


def print_result_as_json(result: Result) -> None:
    """Print a result as a list of objects; a column whose name is taken gets a number after it."""
    names = _different(result.schema.names)
    mark = "[\n"
    for row in chain.from_iterable(map(_rows, result.batches)):
        write_out(mark + indent(as_json(dict(zip(names, row, strict=True))), "  "))
        mark = ",\n"
    write_out("[]\n" if mark == "[\n" else "\n]\n")


def _different(names: Sequence[str]) -> list[str]:
    """Return names of which no two are the same.

    >>> _different(["x", "y", "x", "x_2"])
    ['x', 'y', 'x_3', 'x_2']
    """
    given: list[str] = []
    for name in names:
        number, free = 1, name
        while free in given or (number > 1 and free in names):
            number += 1
            free = f"{name}_{number}"
        given.append(free)
    return given


def print_result_as_csv(result: Result) -> None:
    """Print a result as CSV: quotes where they are needed, nothing for NULL, two quotes for ''."""
    heading = io.StringIO()
    csv.writer(heading, lineterminator="\n").writerow(result.schema.names)
    write_out(shown_on_terminal(heading.getvalue()))
    options = WriteOptions(include_header=False, quoting_style="needed")
    for batch in result.batches:
        columns = [_csv_column(column) for column in batch.columns]
        named = [str(place) for place in range(len(columns))]
        written = io.BytesIO()
        write_csv(pa.RecordBatch.from_arrays(columns, named), written, options)
        write_out(shown_on_terminal(written.getvalue().decode()))


def shown_on_terminal(text: str) -> str:
    """Return a text as it is for a program, and without what steers a terminal for a person."""
    return "\n".join(map(shown, text.split("\n"))) if out.is_terminal else text


def _csv_column(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return pc.cast(column, kind.value_type)
    simple = (
        pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string,
        pa.types.is_decimal, pa.types.is_date, pa.types.is_timestamp, pa.types.is_time,
        pa.types.is_null,
    )  # fmt: skip
    if any(is_simple(kind) for is_simple in simple):
        return column
    texts = (None if value is None else _as_text(value) for value in _values(column))
    return pa.array(texts, pa.string())


def _as_text(value: Any) -> str:
    return as_json(value, indent=None) if isinstance(value, list | dict) else str(value)
