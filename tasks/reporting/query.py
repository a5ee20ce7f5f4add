"""Query: SQL over all tables of an atlas, one DuckDB view per table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from activarium.schemas.errors import UserError
from activarium.schemas.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from activarium.schemas.atlas import Atlas


def connect(atlas: Atlas) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection in memory with a view for each table that has files."""
    connection = duckdb.connect()
    for name in TABLES:
        # Listed one by one: the folder's own name may hold what a pattern gives a meaning.
        files = [str(file) for file in sorted((atlas.tables.resolve() / name).glob("*/*.parquet"))]
        if files:
            quoted = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
            connection.execute(
                f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{quoted}], "  # noqa: S608 - ours
                "hive_partitioning = true, hive_types = {'recording': VARCHAR}, "
                "union_by_name = true)"
            )
    return connection


def query(atlas: Atlas, sql: str) -> pa.Table:
    """Return the result of a query over the tables.

    Raises
    ------
    UserError
        If the query is wrong, or a table has no files yet.
    """
    with connect(atlas) as connection:
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal")
            there = ", ".join(sorted(row[0] for row in views.fetchall())) or "none yet"
            reason = " ".join(str(error).split("\n")[0].split())
            raise UserError(f"{reason} (tables in {atlas.root}: {there})") from error
        except AttributeError as error:
            raise UserError(f"expected a query that returns rows, got {sql!r}") from error
