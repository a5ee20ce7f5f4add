"""One query over table files, in DuckDB, by a connection that reaches nothing else.

DuckDB's own list of allowed files allows writing to them, and a query may hold statements that write
(`WITH a AS (COPY ...)`). So its file systems are shut, and the tables are given by one of our own that
knows no other file and opens none for writing; the transaction writes nothing in memory either.
"""

from __future__ import annotations

import io
import os
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import duckdb
from fsspec import AbstractFileSystem

from activarium.schemas.errors import UserError
from activarium.tasks.closed_database import closed_database, first_line
from activarium.tasks.stores.readable_files import signature_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from activarium.tasks.stores.readable_files import ReadableFile

SCHEME = "atlas://"
"""What the names of the files begin with."""

BATCH_ROWS = 50_000
"""Rows of a result that are handed over at once."""

SHOWN_LETTERS = 200
"""Of a query, in a message."""

READS = "a query only reads: expected one SELECT (or WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN)"

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+|\([^)]*\)\s*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """A query and what it may ask."""

    sql: str
    files: Mapping[str, ReadableFile]
    """Each file by the name that `views` give it."""
    views: Mapping[str, str]
    """The query behind each view, in the order in which they are made."""


def answer(question: Question) -> Iterator[pa.Schema | pa.RecordBatch]:
    """Yield the schema of a query's result, and then its rows in batches.

    Raises
    ------
    UserError
        If it is no single query that reads, or DuckDB finds fault with it.
    """
    files = _TableFiles(question.files)
    with closed_database(files) as connection:
        try:
            yield from _answer(connection, question)
        except duckdb.Error as error:
            raise UserError(files.refusal or _reason(error, question.sql)) from error


def _answer(
    connection: duckdb.DuckDBPyConnection, question: Question
) -> Iterator[pa.Schema | pa.RecordBatch]:
    for name, sql in question.views.items():
        connection.execute(f"CREATE VIEW {name} AS {sql}")
    connection.execute("SET lock_configuration = true")
    statement = _one_that_reads(connection, question.sql)
    connection.execute("BEGIN TRANSACTION READ ONLY")
    relation = connection.sql(statement)
    if relation is None:
        raise UserError(f"{READS}, got {question.sql!r}")
    # The older name warns in newer versions, which is where the other is.
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    with read(BATCH_ROWS) as reader:
        yield reader.schema
        yield from reader


def _reason(error: duckdb.Error, sql: str) -> str:
    if isinstance(error, duckdb.PermissionException):
        asked = sql if len(sql) <= SHOWN_LETTERS else f"{sql[:SHOWN_LETTERS]}..."
        return f"a query reads the tables alone, no other file and no network, got {asked!r}"
    return first_line(error)


def _one_that_reads(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """Return the statement of a text that holds one alone, which reads."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        found = f"{len(statements)} statements" if statements else repr(sql)
        raise UserError(f"{READS}, got {found}")
    (statement,) = statements
    kinds = duckdb.StatementType
    kind = statement.type
    if kind == kinds.EXPLAIN:
        inner = connection.extract_statements(_EXPLAIN.sub("", statement.query, count=1))
        kind = inner[0].type if len(inner) == 1 else kind
    if kind == kinds.MULTI:
        raise UserError(
            "PIVOT needs the values of its columns here: PIVOT units ON layer IN ('conv1', 'conv2') "
            "USING avg(eta2) GROUP BY recording"
        )
    if kind != kinds.SELECT:
        raise UserError(f"{READS}, got {kind.name.replace('_', ' ')}")
    return statement


class _TableFiles(AbstractFileSystem):  # type: ignore[misc] # fsspec has no annotations
    """Given files, by the names that the views give them; none can be written, and there are no others."""

    protocol = SCHEME.removesuffix("://")
    cachable = False

    def __init__(self, files: Mapping[str, ReadableFile]) -> None:
        super().__init__()
        self._files = files
        self.refusal = ""
        """Why a file was not opened, of which DuckDB tells a traceback."""

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the file of exactly this name, which may hold what patterns give a meaning."""
        return [path] if path in self._files else []

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether there is such a file."""
        return path in self._files

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return what fsspec tells of a file."""
        known = self._known(path).signature
        changed = known.changed / 1e9
        return {"name": path, "type": "file", "size": known.size, "mtime": changed}

    def modified(self, path: str) -> datetime:
        """Return when a file was changed."""
        return datetime.fromtimestamp(self._known(path).signature.changed / 1e9, UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> _TableFile:
        """Open a file for reading."""
        if mode != "rb":
            self._refuse(READS)
        known = self._known(path)
        file = _TableFile(known.path)
        if file.signature != known.signature:
            file.close()
            self._refuse(f"{known.path} was replaced just now: ask again")
        return file

    def _known(self, path: str) -> ReadableFile:
        if path not in self._files:
            self._refuse(f"there is no file {path}")
        return self._files[path]

    def _refuse(self, reason: str) -> NoReturn:
        self.refusal = reason
        raise PermissionError(reason)


class _TableFile(io.RawIOBase):
    """A file whose position each thread has for itself: DuckDB reads by several at once."""

    def __init__(self, path: os.PathLike[str]) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDONLY)
        self._at = threading.local()
        self.signature = signature_of(os.fstat(self._descriptor))

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move this thread's position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.signature.size}
        self._at.offset = start[whence] + offset
        return self.tell()

    def tell(self) -> int:
        """Return this thread's position."""
        return int(getattr(self._at, "offset", 0))

    def read(self, size: int = -1, /) -> bytes:
        """Return bytes from this thread's position on."""
        content = os.pread(
            self._descriptor, size if size >= 0 else self.signature.size, self.tell()
        )
        self._at.offset = self.tell() + len(content)
        return content

    def readinto(self, buffer: Any, /) -> int:
        """Read as many bytes as the buffer takes."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
