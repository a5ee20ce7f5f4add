"""How a table is described: columns with a description, a unit and a range, and the Arrow schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION = 3
"""Version of the tables' columns, in every file's metadata."""
INPUTS_KEY = b"activarium.inputs"
"""Metadata key of the fingerprint of what a file was computed from."""
IN_SET_KEY = b"activarium.set"
"""Metadata key that tells that the receipt of a set lists the file."""


@dataclass(frozen=True)
class Column:
    """One column: its type, what it holds, its unit and the range of its values."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    nullable: bool = False

    def field(self) -> pa.Field:
        """Return the Arrow field with description and unit as metadata."""
        metadata = {"description": self.description, "unit": self.unit}
        return pa.field(self.name, self.type, nullable=self.nullable, metadata=metadata)

    @property
    def range_text(self) -> str:
        """The range as text; empty where any value may stand."""
        if self.low is None and self.high is None:
            return ""
        low = "(-inf" if self.low is None else f"[{self.low:g}"
        high = "inf)" if self.high is None else f"{self.high:g}]"
        return f"{low}, {high}"


@dataclass(frozen=True)
class Table:
    """One table: a name, what a row is, and its columns in order."""

    name: str
    row: str
    description: str
    columns: tuple[Column, ...]
    sort: tuple[str, ...] = ()

    def schema(self, metadata: Mapping[str, str] | None = None) -> pa.Schema:
        """Return the Arrow schema; `metadata` is added to the file's own."""
        fixed = {
            "activarium.table": self.name,
            "activarium.format_version": str(FORMAT_VERSION),
            "activarium.row": self.row,
        }
        return pa.schema([column.field() for column in self.columns], {**fixed, **(metadata or {})})

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)


def text(name: str, description: str, *, nullable: bool = False) -> Column:
    """Return a column of strings."""
    return Column(name, pa.string(), description, nullable=nullable)


def integer(
    name: str, description: str, unit: str = "", *, low: float | None = 0, nullable: bool = False
) -> Column:
    """Return a column of whole numbers."""
    return Column(name, pa.int64(), description, unit, low=low, nullable=nullable)


def flag(name: str, description: str, *, nullable: bool = False) -> Column:
    """Return a column of true and false."""
    return Column(name, pa.bool_(), description, nullable=nullable)


def real(  # noqa: PLR0913 - one argument per property of a column
    name: str,
    description: str,
    unit: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    nullable: bool = False,
) -> Column:
    """Return a column of float64."""
    return Column(name, pa.float64(), description, unit, low, high, nullable)


def share(name: str, description: str, *, nullable: bool = False) -> Column:
    """Return a column of values from 0 to 1."""
    return real(name, description, low=0, high=1, nullable=nullable)


def p_value(name: str, description: str, *, nullable: bool = False) -> Column:
    """Return a column of probabilities."""
    return real(name, description, "probability", low=0, high=1, nullable=nullable)


def log10_p(name: str, of: str, *, nullable: bool = False) -> Column:
    """Return the column that keeps a p-value's size where a double would hold 0."""
    description = f"base-10 logarithm of {of}, exact where {of} is too small for a double"
    return real(name, description, "log10 probability", high=0, nullable=nullable)
