"""What `query` prints, for people and for programs, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.tables import DENSITIES
from activarium.tasks.stores.checksum_files import checksum_file, checksum_line
from activarium.tasks.stores.files import write_bytes

TWICE = "SELECT 1 AS x, 2 AS x, 3 AS x_2"
HOSTILE = (
    "SELECT chr(27) || '[2J' AS a, 'gpj.' || chr(8238) || 'txt' AS b, 'c' || chr(10) || 'd' AS c"
)


def write_table(atlas, name, columns):
    path = atlas.table_file(DENSITIES, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # As earlier versions did, without a receipt of its set.
    pq.write_table(pa.table(columns), path, write_page_checksum=True)
    write_bytes(checksum_file(path), checksum_line(path, path.name))


@pytest.fixture
def ask(activarium, tmp_path):
    """Ask an atlas without tables."""
    return lambda *arguments: activarium("query", *arguments, "--root", tmp_path)


def test_two_columns_of_one_name__have_their_own_values(ask):
    assert ask(TWICE)[1].split() == ["x", "x", "x_2", "1", "2", "3"]
    assert ask(TWICE, "--csv")[1] == "x,x,x_2\n1,2,3\n"
    assert json.loads(ask(TWICE, "--json")[1]) == [{"x": 1, "x_3": 2, "x_2": 3}]


def test_cells_and_headings__steer_no_terminal(ask):
    _, out, _ = ask(HOSTILE)
    assert out.splitlines()[1].split() == [r"\x1b[2J", r"gpj.\u202etxt", r"c\nd"]
    _, out, _ = ask('SELECT 1 AS "a\x1b[2J\n"')
    assert out == "a\\x1b[2J\\n\n1\n"
    assert json.loads(ask(HOSTILE, "--json")[1])[0]["a"] == "\x1b[2J"
    (row,) = csv.DictReader(io.StringIO(ask(HOSTILE, "--csv")[1], newline=""))
    assert row["c"] == "c\nd"


def test_piped_table__is_not_folded(ask):
    name = "layer4." * 60
    _, out, _ = ask(f"SELECT '{name}' AS a, '{name}' AS b")
    assert out.splitlines()[1].split() == [name, name]
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("option", "expected"), [((), "a\n"), (("--csv",), "a\n"), (("--json",), "[]\n")]
)
def test_no_rows__are_told(ask, option, expected):
    code, out, err = ask("SELECT 1 AS a WHERE false", *option)
    assert (code, out) == (0, expected)
    assert err == ("" if option else "0 rows\n")


def test_many_rows__the_first_are_shown_and_all_are_counted(ask):
    _, out, err = ask("FROM range(70000)")
    assert out.splitlines() == ["range", *map(str, range(200))]
    assert err == "200 of 70,000 rows shown; --csv and --json print all\n"
    assert ask("FROM range(70000)", "--csv")[1].splitlines()[-1] == "69999"
    assert len(json.loads(ask("FROM range(70000)", "--json")[1])) == 70_000


def test_csv__quotes_nulls_and_types(ask):
    sql = (
        "SELECT * FROM (VALUES ('plain', 0.1::DOUBLE, true, [1, NULL], DATE '2024-01-02'), "
        "('a \"b\", c', 'nan'::DOUBLE, NULL, [], NULL), ('', NULL, false, NULL, NULL), "
        '(NULL, 1e300, NULL, NULL, NULL)) t(text, real, flag, list, "the, day")'
    )
    code, out, _ = ask(sql, "--csv")
    assert code == 0
    assert out.splitlines() == [
        'text,real,flag,list,"the, day"',
        '"plain",0.1,true,"[1, null]",2024-01-02',
        '"a ""b"", c",nan,,"[]",',
        '"",,false,,',
        ",1e+300,,,",
    ]


def test_csv_and_json__are_not_asked_for_together(ask):
    code, _, err = ask("SELECT 1", "--csv", "--json")
    assert (code, err.count("\n")) == (2, 1)
    assert "--csv and --json: expected one of them" in err


def test_explain__is_drawn_in_lines(ask):
    code, out, _ = ask("EXPLAIN SELECT 42")
    assert code == 0
    assert len(out.splitlines()) > 2
    assert "\\n" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("COPY (SELECT 1) TO 'x'",), "a query only reads"),
        (("FROM read_csv('/etc/passwd')",), "reads the tables alone, no other file"),
        (("SELECT 1; SELECT 2",), "got 2 statements"),
        (("FROM range(1000000000000) ORDER BY 1 DESC", "--time-limit", "0.3"), "within 0.3 s"),
        (("SELECT 1", "--time-limit", "nan"), "expected a time limit above 0"),
    ],
)
def test_refusals__are_one_line(ask, arguments, message):
    code, out, err = ask(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize("option", [[], ["--json"]])
@pytest.mark.parametrize("value", ["DATE 'infinity'", "TIMESTAMP '290000-01-01'"])
def test_dates_beyond_those_of_python__are_one_line(ask, value, option):
    code, _, errors = ask(f"SELECT {value} AS x", *option)
    assert code == 2
    assert "lies beyond the years 1 to 9999" in errors
    assert errors.count("\n") == 1


def test_damaged_table__the_rest_answers_with_a_line_beside_it(activarium, tmp_path):
    atlas = Atlas(tmp_path)
    for name in ("a", "b"):
        columns = {c.name: ["x"] if c.type == "string" else [1] for c in DENSITIES.columns}
        write_table(atlas, name, columns)
    with atlas.table_file(DENSITIES, "a").open("r+b") as file:
        file.seek(50)
        file.write(b"?")
    for option in ((), ("--json",), ("--csv",)):
        code, out, err = activarium(
            "query", "SELECT recording FROM densities", *option, "--root", tmp_path
        )
        assert code == 0
        assert "b" in out
        assert err.startswith("note: tables/densities/recording=a/densities.parquet is damaged")
        assert err.count("\n") == 1


def command(*arguments, **options):
    code = "from activarium.flows.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.mark.parametrize("option", [["--csv"], ["--json"], []])
def test_reader_that_leaves__ends_it_quietly(tmp_path, option):
    sql = "SELECT repeat('x', 1000) AS x FROM range(100000)"
    with command("query", sql, *option, "--root", tmp_path) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" if option else True
        assert process.wait(60) in (0, 1)


def test_ctrl_c__ends_a_query_at_once(tmp_path):
    sql = "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))"  # within C
    with command("query", sql, "--root", tmp_path, start_new_session=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            process.kill()
            pytest.skip("only Linux tells the children of a process")
        while not children.read_text(encoding="ascii"):
            time.sleep(0.05)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == b"interrupted; run the same command again to go on\n"


def test_atlas_that_cannot_be_written__is_read(activarium, tmp_path):
    atlas = Atlas(tmp_path)
    columns = {c.name: ["x"] if c.type == "string" else [1] for c in DENSITIES.columns}
    write_table(atlas, "a", columns)
    shutil.rmtree(atlas.root / "work", ignore_errors=True)
    (atlas.root / "work").write_text("a file where the folder would be", encoding="ascii")
    code, out, _ = activarium(
        "query", "SELECT recording FROM densities", "--csv", "--root", tmp_path
    )
    assert (code, out) == (0, 'recording\n"a"\n')
