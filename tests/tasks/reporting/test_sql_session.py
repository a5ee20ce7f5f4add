"""What a query may do: read the tables, and nothing else."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.reporting.sql_session import Question, answer
from activarium.tasks.stores.readable_files import ReadableFile, signature_of

NAME = "atlas://units/recording=a/units.parquet"


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Ask a table of three rows, in a folder with another file; both stay as they are."""
    table, other = tmp_path / "units.parquet", tmp_path / "other.csv"
    pq.write_table(pa.table({"x": [1, 2, 3], "layer": ["a", "b", "b"]}), table)
    other.write_text("secret\n1\n", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    files = {NAME: ReadableFile(table, signature_of(table.stat()))}
    view = f"SELECT * FROM read_parquet(['{NAME}'], hive_partitioning = true)"  # noqa: S608

    def rows(sql):
        sql = sql.format(table=table, other=other, name=NAME)
        schema, *batches = answer(Question(sql, files, {"units": view}))
        return pa.Table.from_batches(batches, schema)

    yield rows
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM units",
        "FROM units",
        "TABLE units",
        'FROM "UNITS";',
        "FROM units; -- and a remark",
        "WITH a AS (SELECT * FROM units) SELECT * FROM a",
        "(SELECT x FROM units) UNION ALL (SELECT 7)",
        "VALUES (1), (2)",
        "DESCRIBE units",
        "DESCRIBE SELECT 1",
        "SUMMARIZE units",
        "SHOW TABLES",
        "SHOW units",
        "EXPLAIN FROM units",
        "EXPLAIN ANALYZE SELECT count(*) FROM units",
        "EXPLAIN (FORMAT json) SELECT 1",
        "PIVOT units ON layer IN ('a', 'b') USING sum(x)",
        "UNPIVOT units ON x",
        "FROM query('FROM un' || 'its')",
        "FROM query_table('units')",
        "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 9) FROM r",
        "SELECT a.x, b.x FROM units a JOIN units b USING (layer)",
    ],
)
def test_reading__works(ask, sql):
    assert ask(sql).num_rows


READS = "a query only reads"
TABLES_ALONE = "a query reads the tables alone"
COPY = "COPY (SELECT 1 AS x) TO '{}' (FORMAT parquet, USE_TMP_FILE false)"


@pytest.mark.parametrize(
    "sql",
    [
        COPY.format("{table}"),
        "COPY units TO 'x.csv'",
        "COPY units FROM '{other}'",
        "EXPLAIN ANALYZE " + COPY.format("{table}"),
        "EXPLAIN COPY units TO 'x'",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "/* SELECT */ COPY units TO 'x'",
        "EXPLAIN ANALYZE /* SELECT */ COPY units TO 'x'",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY units TO 'x.csv'",
        "ATTACH 'x.db'",
        "ATTACH ':memory:' AS other",
        "DETACH memory",
        "EXPORT DATABASE 'x'",
        "IMPORT DATABASE 'x'",
        "COPY FROM DATABASE memory TO x",
        "SET threads = 1",
        "SET VARIABLE x = 1",
        "RESET threads",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '/tmp/x.so'",
        "PRAGMA database_list",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "CALL enable_logging('QueryLog', storage = 'file')",
        "CREATE SECRET s (TYPE http)",
        "CREATE TABLE t (x INTEGER)",
        "CREATE MACRO m() AS 1",
        "CREATE TYPE t AS ENUM ('a')",
        "CREATE SEQUENCE s",
        "CREATE OR REPLACE VIEW units AS SELECT 1",
        "DROP VIEW units",
        "ALTER VIEW units RENAME TO u",
        "COMMENT ON VIEW units IS 'x'",
        "INSERT INTO units FROM units",
        "DELETE FROM units",
        "UPDATE units SET x = 1",
        "TRUNCATE units",
        "MERGE INTO units USING units u ON true WHEN MATCHED THEN DELETE",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "COMMIT",
        "CHECKPOINT",
        "VACUUM",
        "ANALYZE",
        "USE memory",
        "",
        " ; ",
        "-- a remark",
    ],
)
def test_statements__that_do_not_read_are_refused(ask, sql):
    with pytest.raises(UserError, match=f"{READS}|syntax error"):
        ask(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH a AS (" + COPY.format("{table}") + ") FROM a",
        "WITH a AS (" + COPY.format("{name}") + ") FROM a",
        "WITH a AS (COPY (SELECT 1) TO 'x.csv') FROM a",
        "WITH a AS (COPY (SELECT 1) TO '/dev/stdout') FROM a",
        "WITH a AS (COPY units FROM '{other}') FROM a",
        "WITH a AS (INSERT INTO units FROM units RETURNING *) FROM a",
        "WITH a AS (DELETE FROM units RETURNING *) FROM a",
        "WITH a AS (CREATE TABLE t AS SELECT 1) FROM a",
        "WITH a AS (ATTACH 'x') FROM a",
        "EXPLAIN ANALYZE WITH a AS (" + COPY.format("{name}") + ") FROM a",
        "FROM query('COPY units TO ''x''')",
        "FROM query('SELECT 1; SELECT 2')",
        "FROM query('WITH a AS (COPY (SELECT 1) TO ''x'') FROM a')",
    ],
)
def test_queries__that_hold_statements_that_write_are_refused(ask, sql):
    with pytest.raises(UserError):
        ask(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM '{other}'",
        "FROM 'other.csv'",
        "FROM 'file://{other}'",
        "FROM '{table}'",
        "FROM read_csv('{other}')",
        "FROM read_csv('/etc/passwd')",
        "FROM read_csv_auto('{other}')",
        "FROM read_text('{other}')",
        "FROM read_blob('{other}')",
        "FROM read_json('{other}')",
        "FROM read_json_objects('{other}')",
        "FROM read_parquet('{table}')",
        "FROM read_parquet('https://example.com/x.parquet')",
        "FROM read_csv('s3://bucket/x.csv')",
        "FROM read_csv('/dev/stdin')",
        "FROM read_text('/proc/self/environ')",
        "FROM glob('/etc/*')",
        "FROM glob('*')",
        "FROM sniff_csv('{other}')",
        "FROM parquet_metadata('{table}')",
        "FROM parquet_schema('{table}')",
        "FROM parquet_kv_metadata('{table}')",
        "FROM query('FROM read_text(''{other}'')')",
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
    ],
)
def test_other_files__are_out_of_reach(ask, sql):
    with pytest.raises(UserError, match=TABLES_ALONE):
        ask(sql)


SECRET = pa.table({"x": [1]})


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("FROM SECRET", "does not exist"),
        ("FROM ask", "does not exist"),
        ("SELECT getenv('HOME')", "does not exist"),
        ("FROM sqlite_scan('x', 'y')", "not in the catalog|does not exist"),
        ("FROM read_text('atlas:///etc/passwd')", None),
        ("FROM read_text('atlas://../../../etc/passwd')", None),
        ("FROM glob('atlas://*')", None),
        ("FROM read_text('{name}/../../../../etc/passwd')", None),
    ],
)
def test_variables_environment_extensions_and_odd_names__are_out_of_reach(ask, sql, reason):
    if reason is None:
        assert not ask(sql).num_rows
    else:
        with pytest.raises(UserError, match=reason):
            ask(sql)


def test_settings__cannot_be_changed_within_a_query(ask):
    for sql in ("SELECT set_config('threads', '1')", "FROM enable_logging()"):
        with pytest.raises(UserError):
            ask(sql)
    (found,) = ask(
        "SELECT current_setting('enable_external_access') AS access, "
        "current_setting('lock_configuration') AS locked"
    ).to_pylist()
    assert found == {"access": False, "locked": True}


def test_pivot__that_would_make_a_type_names_what_to_write(ask):
    with pytest.raises(UserError, match="PIVOT needs the values of its columns"):
        ask("PIVOT units ON layer USING sum(x)")


def test_nested_expression__is_one_line(ask):
    with pytest.raises(UserError, match="depth"):
        ask("SELECT " + "(" * 5000 + "1" + ")" * 5000)
