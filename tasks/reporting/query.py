"""Query: SQL over all tables of an atlas, with DuckDB views of each table.

Beside the view of a table, which holds all recordings, stand that of the trained ones and that of
the untrained: a control's rows look like any other's.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import duckdb

from activarium.schemas.atlas import UNTRAINED
from activarium.schemas.errors import UserError
from activarium.schemas.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pyarrow as pa

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table


PARTITION = "recording="
"""What the name of a recording's folder of a table begins with."""
SHOWN = 5
"""Ids that a message names."""


def connect(atlas: Atlas, recordings: Sequence[str] = ()) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection in memory with views of each table that has files.

    Parameters
    ----------
    atlas
        Where the tables are.
    recordings
        Ids, beginnings of ids or globs of the recordings to read; by default all.

    Raises
    ------
    UserError
        If one of them matches no recording that has tables, or a table is damaged.
    """
    files = {name: _files(atlas, name) for name in TABLES}
    kept = _chosen({_recording(each) for part in files.values() for each in part}, recordings)
    connection = duckdb.connect()
    try:
        for name, part in files.items():
            _create_view(connection, name, [each for each in part if _recording(each) in kept])
        untrained = _Untrained(connection, files["recordings"])
        for table in TABLES.values():
            if any(_recording(each) in kept for each in files[table.name]):
                untrained.create_views(table)
    except duckdb.Error as error:
        connection.close()
        reason = " ".join(str(error).split("\n")[0].split())
        raise UserError(
            f"the tables in {atlas.root} cannot be read: {reason}; `activarium verify` names what "
            "is damaged"
        ) from error
    return connection


def query(atlas: Atlas, sql: str, *, recordings: Sequence[str] = ()) -> pa.Table:
    """Return the result of a query over the tables.

    Parameters
    ----------
    atlas
        Where the tables are.
    sql
        One query in DuckDB's SQL.
    recordings
        Ids, beginnings of ids or globs of the recordings that it sees; by default all.

    Raises
    ------
    UserError
        If the query is wrong, a table has no files yet or is damaged, or no recording matches.
    """
    with connect(atlas, recordings) as connection:
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal")
            found = {row[0] for row in views.fetchall()}
            there = ", ".join(sorted(found & set(TABLES))) or "none yet"
            also = "; each also with trained_ or untrained_ before its name" if found else ""
            reason = " ".join(str(error).split("\n")[0].split())
            raise UserError(f"{reason} (tables in {atlas.root}: {there}{also})") from error
        except AttributeError as error:
            raise UserError(f"expected a query that returns rows, got {sql!r}") from error


def _files(atlas: Atlas, table: str) -> list[Path]:
    return sorted((atlas.tables.resolve() / table).glob(f"{PARTITION}*/*.parquet"))


def _recording(file: Path) -> str:
    return file.parent.name.removeprefix(PARTITION)


def _chosen(known: set[str], wanted: Sequence[str]) -> set[str]:
    """Return the ids that are meant: those of each name, beginning or glob."""
    found: set[str] = set()
    for each in wanted:
        meant = {each} & known or {name for name in known if fnmatchcase(name, each)}
        meant = meant or {name for name in known if name.startswith(each)}
        if not meant:
            there = ", ".join(sorted(known)[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
            raise UserError(
                f"--recording {each!r}: no recording with tables has this id, expected one of "
                f"{there or 'none yet'}"
            )
        found |= meant
    return found if wanted else known


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]) -> None:
    if files:
        # Listed one by one: the folder's own name may hold what a pattern gives a meaning.
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * FROM {_source(files)}"  # noqa: S608 - ours
        )


def _source(files: Iterable[Path]) -> str:
    listed = ", ".join(_quoted(str(file)) for file in files)
    return (
        f"read_parquet([{listed}], hive_partitioning = true, "
        "hive_types = {'recording': VARCHAR}, union_by_name = true)"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class _Untrained:
    """Tells the rows of untrained recordings from the others."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
        self._connection = connection
        self._known: dict[str, str] = {}
        if files:
            sql = f"SELECT recording, checkpoint FROM {_source(files)}"  # noqa: S608 - ours
            self._known = dict(connection.execute(sql).fetchall())

    def create_views(self, table: Table) -> None:
        """Create the view of the trained recordings, and that of the untrained."""
        columns = ["recording"]
        columns += [each.name for each in table.columns if each.name == "other_recording"]
        condition = " OR ".join(self._is_untrained(each) for each in columns)
        for name, said in (("trained", f"NOT ({condition})"), (UNTRAINED, condition)):
            self._connection.execute(
                f"CREATE VIEW {name}_{table.name} AS SELECT * FROM {table.name} "  # noqa: S608 - ours
                f"WHERE {said}"
            )

    def _is_untrained(self, column: str) -> str:
        """Return the condition in SQL that a column names an untrained recording."""
        named = [name for name, checkpoint in self._known.items() if checkpoint == UNTRAINED]
        known = f"{column} IN ({_listed(named)})"
        # Of one that was never analysed, the id alone can tell.
        by_id = f"{column} NOT IN ({_listed(self._known)}) AND {column} LIKE '%-{UNTRAINED}-%'"
        return f"({known} OR ({by_id}))"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(["''", *map(_quoted, names)])
