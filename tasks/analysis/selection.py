"""Which images take part, how classes are grouped, and a number per image to compare with."""

from __future__ import annotations

import csv
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "threads": 1,
}


class ClassGroups(NamedTuple):
    """Classes put together in groups."""

    names: tuple[str, ...]
    """Names of the groups, in order of first appearance in the file."""
    codes: NDArray[np.int64]
    """Group code of each class, shape (class,); -1 for a class that the file does not name."""
    left_out: tuple[str, ...]
    """Names of the classes without a group."""


class NumericTarget(NamedTuple):
    """A number per image."""

    name: str
    values: NDArray[np.float64]
    """Shape (image,); NaN where there is none."""


class _TwoColumns(NamedTuple):
    """A CSV file of two columns."""

    header: tuple[str, str]
    rows: list[tuple[int, str, str]]
    """Line number and both cells."""


def select_images(images: pa.Table, where: str) -> NDArray[np.bool_]:
    """Return which images an SQL condition selects; NULL counts as not selected.

    The condition is one DuckDB expression over the columns of the table, such as
    `correct AND confidence > 0.9`. It may compare with the table `images` as a whole, as in
    `loss > (SELECT median(loss) FROM images)`, but reads no files.

    Parameters
    ----------
    images
        A row per image, with the columns of the table `images`.
    where
        The condition.

    Returns
    -------
    Whether each image is selected, shape (image,).

    Raises
    ------
    UserError
        If it is not one expression that is true or false, it selects nothing, or it selects other
        images when evaluated again.
    """
    if not where.strip():
        raise UserError("--where is empty, expected a condition such as confidence > 0.9")
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        connection.execute("SET python_enable_replacements = false")
        connection.register("source", images)
        connection.execute("CREATE TABLE images AS SELECT * FROM source")
        connection.unregister("source")
        connection.execute("SET lock_configuration = true")
        try:
            kind = _type_of(connection, where)
            if kind != "BOOLEAN":
                raise UserError(
                    f"--where {where!r}: expected a condition, true or false, got {kind}"
                )
            selected, again = (_selected(connection, where, images.num_rows) for _ in range(2))
        except duckdb.Error as error:
            reason = " ".join(str(error).split("\n")[0].split())
            columns = ", ".join(images.column_names)
            raise UserError(f"--where {where!r}: {reason} (columns: {columns})") from error
    if not (selected == again).all():
        raise UserError(
            f"--where {where!r}: selects other images each time it is evaluated; "
            "hash(image) % 10 = 0 takes a sample that stays the same"
        )
    if not selected.any():
        raise UserError(f"--where {where!r}: selects none of the {images.num_rows:,} images")
    return selected


def _type_of(connection: duckdb.DuckDBPyConnection, where: str) -> str:
    """Return the SQL type of an expression, checked to be one expression and nothing else."""
    # What parses both within parentheses and without them closes no parenthesis that it did not
    # open, and has no clause, second expression or second statement after the expression.
    bare = connection.extract_statements(f"SELECT rowid FROM images WHERE {where}\n")  # noqa: S608
    enclosed = f"SELECT (\n{where}\n) AS selected FROM images"  # noqa: S608
    if len(bare) != 1 or len(connection.extract_statements(enclosed)) != 1 or "\0" in where:
        raise duckdb.ParserException("expected one expression")
    described = connection.execute(f"DESCRIBE {enclosed}").fetchall()
    return str(described[0][1]).strip('"') if len(described) == 1 else f"{len(described)} columns"


def _selected(connection: duckdb.DuckDBPyConnection, where: str, images: int) -> NDArray[np.bool_]:
    rows = connection.execute(f"SELECT rowid FROM images WHERE {where}\n")  # noqa: S608
    selected = np.zeros(images, np.bool_)
    selected[np.asarray(rows.fetchnumpy()["rowid"], np.int64)] = True
    return selected


def class_groups(path: str | Path, class_names: Sequence[str]) -> ClassGroups:
    """Return the groups that a CSV file of two columns, class and group, puts classes into.

    The first line is a header with any two names. Blanks around names are ignored, unless they
    are part of a class name.

    Parameters
    ----------
    path
        The file, UTF-8.
    class_names
        Name of each class.

    Raises
    ------
    UserError
        If the file cannot be read, has other than two columns, names no group, a class that does
        not exist, or a class twice with different groups.
    """
    table = _read_two_columns(Path(path), "class,group")
    known = {name: code for code, name in enumerate(class_names)}
    first = table.header[0]
    if first in known and first.casefold() != "class":
        raise UserError(
            f"{path}, line 1: expected a header such as class,group, got class {first!r}"
        )
    codes = np.full(len(class_names), -1, np.int64)
    groups: dict[str, int] = {}
    for line, cell, group in table.rows:
        name = cell if cell in known else cell.strip()
        if name not in known:
            raise UserError(f"{path}, line {line}: no class {name!r}{_meant(name, class_names)}")
        if not group.strip():
            raise UserError(f"{path}, line {line}: class {name!r} has no group")
        code = groups.setdefault(group.strip(), len(groups))
        if codes[known[name]] not in {-1, code}:
            before = list(groups)[codes[known[name]]]
            raise UserError(
                f"{path}, line {line}: class {name!r} is in group {group.strip()!r}, "
                f"but before it was in {before!r}"
            )
        codes[known[name]] = code
    if not groups:
        raise UserError(f"{path}: names no group, expected lines of class,group below the header")
    left_out = tuple(name for name, code in zip(class_names, codes, strict=True) if code < 0)
    return ClassGroups(tuple(groups), codes, left_out)


def numeric_target(spec: str, images: pa.Table) -> NumericTarget:
    """Return a number per image: a column of the table of images, or one from a CSV file.

    In the column `label` a negative code stands for no label and gives NaN, as NULL does. Images
    that the file does not name, or with an empty cell or `nan`, have NaN.

    Parameters
    ----------
    spec
        Name of a numeric or boolean column, or else path of a UTF-8 CSV file of two columns: the
        images, as in the column `image`, and their numbers; its header names the target.
    images
        A row per image, with the columns of the table `images`.

    Raises
    ------
    UserError
        If there is neither such a column nor such a file, an image does not exist or has two
        numbers, a value is not a finite number, or fewer than three images have one, or all the
        same.
    """
    if spec in images.column_names:
        target = NumericTarget(spec, _column(spec, images))
    elif Path(spec).exists():
        target = _target_file(Path(spec), images.column("image").to_pylist())
    else:
        raise UserError(
            f"{spec}: neither a file nor a column of the images{_meant(spec, images.column_names)}"
            f" (columns of numbers: {', '.join(_numeric_columns(images))})"
        )
    check_numbers(spec, target.values[~np.isnan(target.values)], images.num_rows)
    return target


def check_numbers(spec: str, present: NDArray[np.float64], images: int) -> None:
    """Check that there are numbers to correlate with.

    Parameters
    ----------
    spec
        What the numbers are, as it was asked for.
    present
        The numbers of the images that have one.
    images
        Images of the recording, for the message.

    Raises
    ------
    UserError
        If a number is not finite, or fewer than three images have one, or all the same.
    """
    if np.isinf(present).any():
        raise UserError(f"{spec}: expected finite numbers, got {present[np.isinf(present)][0]}")
    if present.size < 3:
        raise UserError(
            f"{spec}: expected a number for at least 3 images, got {present.size} of {images:,}"
        )
    if present.min() == present.max():
        raise UserError(f"{spec}: all {present.size:,} images have the same number {present[0]:g}")


def _is_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _numeric_columns(images: pa.Table) -> list[str]:
    return [field.name for field in images.schema if _is_numeric(field.type)]


def _column(name: str, images: pa.Table) -> NDArray[np.float64]:
    kind = images.schema.field(name).type
    if not _is_numeric(kind):
        raise UserError(
            f"{name}: expected a column of numbers, got {kind} "
            f"(columns of numbers: {', '.join(_numeric_columns(images))})"
        )
    column = images.column(name)
    number = column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
    values = np.array(number.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    if name == "label":
        values[values < 0] = np.nan
    return values


def _target_file(path: Path, ids: list[str]) -> NumericTarget:
    table = _read_two_columns(path, "image,number")
    known = set(ids)
    if table.header[0] in known:
        raise UserError(
            f"{path}, line 1: expected a header such as image,number, got image {table.header[0]!r}"
        )
    found: dict[str, float] = {}
    for line, cell, text in table.rows:
        image = cell if cell in known else cell.strip()
        if image not in known:
            example = f"; images are named like {ids[0]!r}" if ids else ""
            raise UserError(f"{path}, line {line}: no image {image!r}{example}")
        value = _number(path, line, text)
        before = found.setdefault(image, value)
        if before != value and not (np.isnan(before) and np.isnan(value)):
            raise UserError(
                f"{path}, line {line}: image {image!r} has the number {value:g}, "
                f"but before it had {before:g}"
            )
    values = np.array([found.get(image, np.nan) for image in ids], np.float64)
    return NumericTarget(table.header[1].strip() or path.stem, values)


def _number(path: Path, line: int, text: str) -> float:
    if not text.strip():
        return float("nan")
    try:
        # Python reads 1_000 as a number, which is more likely a slip here.
        value = float("" if "_" in text else text)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: expected a number, got {text!r}") from error
    if np.isinf(value):
        raise UserError(f"{path}, line {line}: expected a finite number, got {text!r}")
    return value


def _read_two_columns(path: Path, expected: str) -> _TwoColumns:
    """Return header and rows of a CSV file; lines without any text are skipped."""
    rows = []
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                line = reader.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != 2:
                    raise UserError(
                        f"{path}, line {line}: expected 2 columns, {expected}, got {len(cells)}"
                    )
                rows.append((line, cells[0], cells[1]))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 after line {line}: {error.reason}") from error
    except csv.Error as error:
        raise UserError(f"{path}, line {line + 1}: {error}") from error
    if not rows:
        raise UserError(f"{path}: is empty, expected a header and lines of {expected}")
    return _TwoColumns((rows[0][1].strip(), rows[0][2].strip()), rows[1:])


def _meant(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
