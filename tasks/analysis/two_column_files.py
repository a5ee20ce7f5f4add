"""CSV files of two columns, and what a name in them may have meant."""

from __future__ import annotations

import csv
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class TwoColumns(NamedTuple):
    """A CSV file of two columns."""

    header: tuple[str, str]
    rows: list[tuple[int, str, str]]
    """Line number and both cells."""


def read_two_columns(path: Path, expected: str) -> TwoColumns:
    """Return header and rows of a CSV file; lines without any text are skipped.

    Parameters
    ----------
    path
        The file, UTF-8.
    expected
        What its columns are, for messages.

    Raises
    ------
    UserError
        If the file cannot be read, is empty, or has other than two columns.
    """
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
    return TwoColumns((rows[0][1].strip(), rows[0][2].strip()), rows[1:])


def meant(name: str, names: Sequence[str]) -> str:
    """Return a question after the known name that is closest; nothing where none is close."""
    close = get_close_matches(name, names, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
