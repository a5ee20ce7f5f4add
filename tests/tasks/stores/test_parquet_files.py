"""Table files: checked, whole or absent, and damaged ones are found."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activarium.schemas.columns import Table, flag, integer, p_value, real, text
from activarium.schemas.errors import UserError
from activarium.tasks.stores.checksum_files import checksum_file
from activarium.tasks.stores.files import replacing, write_bytes
from activarium.tasks.stores.parquet_files import (
    inputs_of,
    read_table,
    to_table,
    write_pieces,
    write_table,
)
from activarium.tasks.stores.set_replacing import replacing_set
from activarium.tasks.stores.table_sets import set_of

TABLE = Table(
    "toys",
    "toy",
    "Toys.",
    (
        text("name", "name"),
        integer("n", "count"),
        p_value("p", "probability"),
        real("size", "size", nullable=True),
        flag("big", "is big", nullable=True),
        text("kind", "kind", nullable=True),
    ),
)


def columns(**changed):
    return {
        "name": ["a", "b", "c"],
        "n": np.array([1, 2, 3]),
        "p": np.array([0.0, 0.5, 1.0]),
        "size": np.array([1.5, np.nan, -np.inf]),
        "big": [True, None, False],
        "kind": np.array(["x", None, "y"], dtype=object),
    } | changed


def built(inputs="first", **changed):
    return to_table(TABLE, columns(**changed), inputs=inputs)


def put(path, *pieces):
    """Write a table as the only file of its set."""
    schema = pieces[0].schema
    inputs = schema.metadata[b"activarium.inputs"].decode()
    with replacing_set(set_of(path), inputs=inputs, command="activarium analyse a") as staged:
        write_pieces(staged.path(path), schema, pieces)
    return path


def is_current(path, inputs):
    return set_of(path).is_current(inputs, [path])


@pytest.fixture
def file(tmp_path):
    return put(tmp_path / "tables" / "toys" / "recording=a" / "toys.parquet", built())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"p": np.array([0, 0.5, 1.5])}, "column p, row 2: expected a value in [0, 1], got 1.5"),
        ({"p": np.array([-1e-9, 0.5, 1])}, "column p, row 0: expected a value in [0, 1], got -1e-"),
        ({"n": np.array([1, -2, 3])}, "column n, row 1: expected a value in [0, inf), got -2"),
        ({"p": np.array([0, np.nan, 1])}, "column p, row 1: no value where one is needed, got nan"),
        ({"p": [0.5, None, 1.0]}, "column p, row 1: no value where one is needed, got None"),
        ({"name": ["a", None, "c"]}, "column name, row 1: no value where one is needed, got None"),
        ({"p": pa.array([0, 2.0, math.nan])}, "column p, row 2: no value where one is needed"),
    ],
)
def test_to_table__fault_names_table_column_and_row(changed, message):
    with pytest.raises(ValueError, match="table toys, ") as caught:
        built(**changed)
    assert message in str(caught.value)


def test_to_table__odd_columns_are_named():
    given = columns(colour=["red"] * 3)
    del given["n"]
    with pytest.raises(ValueError, match=r"these differ: \['colour', 'n'\]"):
        to_table(TABLE, given, inputs="")


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan, -np.inf]),
        [1.5, math.nan, -math.inf],
        pa.array([1.5, math.nan, -math.inf]),
        pa.chunked_array([[1.5], [math.nan, -math.inf]]),
    ],
    ids=["array", "list", "arrow", "chunked"],
)
def test_to_table__nan_becomes_null_and_infinity_stays(values):
    assert built(size=values).column("size").to_pylist() == [1.5, None, -math.inf]


def test_to_table__has_the_schema_and_the_inputs():
    table = built()
    assert table.schema.remove_metadata().equals(TABLE.schema().remove_metadata())
    assert table.schema.metadata[b"activarium.inputs"] == b"first"
    assert table.schema.metadata[b"activarium.table"] == b"toys"


def test_write_table__reads_back_equal_with_descriptions(file):
    table = read_table(file)
    assert table.equals(built())
    assert table.schema.metadata[b"activarium.inputs"] == b"first"
    assert table.schema.field("p").metadata[b"unit"] == b"probability"
    assert read_table(file, ["n", "p"]).column_names == ["n", "p"]


def test_write_table__checksum_file_is_what_sha256sum_reads(file):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert checksum_file(file).read_text() == f"{digest}  toys.parquet\n"
    assert checksum_file(file).name == "toys.parquet.sha256"


def test_write_table__leaves_nothing_but_the_table_and_its_checksum(file, tmp_path):
    put(file, built("second"))
    left = {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if each.is_file()}
    assert left == {
        "tables/toys/recording=a/toys.parquet",
        "checksums/toys/recording=a/toys.parquet.sha256",
        "checksums/sets/recording=a/analysis.json",
        ".locks/tables.lock",
    }


def test_write_table__open_reader_keeps_the_old_table(file):
    old = pq.ParquetFile(file)
    put(file, built("second", n=np.array([7, 8, 9])))
    assert old.read().column("n").to_pylist() == [1, 2, 3]
    assert read_table(file).column("n").to_pylist() == [7, 8, 9]


def test_write_pieces__stopped_while_writing_leaves_the_old_table(file, tmp_path):
    def half():
        yield built("second")
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        replacing_set(set_of(file), inputs="second", command="") as staged,
    ):
        write_pieces(staged.path(file), built("second").schema, half())
    assert read_table(file).equals(built())
    assert is_current(file, "first")
    assert len(list(file.parent.iterdir())) == 1
    assert not list((tmp_path / "tables" / ".staged").iterdir())


def test_write_pieces__hold_the_same_as_the_whole(file):
    schema = built("second").schema
    put(file, built("second"), built("second", n=np.array([7, 8, 9])))
    assert read_table(file).column("n").to_pylist() == [1, 2, 3, 7, 8, 9]
    assert is_current(file, "second")
    put(file, schema.empty_table())
    assert read_table(file).equals(schema.empty_table())


def test_write_table__reader_in_another_process_sees_old_or_new(file):
    reader = (
        "import sys, pyarrow.parquet as pq\n"
        "print('ready', flush=True)\n"
        "seen = set()\n"
        "while 9 not in seen:\n"
        "    seen |= set(pq.ParquetFile(sys.argv[1]).read().column('n').to_pylist())\n"
        "assert seen <= {1, 2, 3, 4, 5, 6, 7, 8, 9}, seen\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for n in range(1, 10):
            put(file, built(n=np.full(3, n)))
        process.stdout.read()
    assert process.returncode == 0


def test_write_table__folder_that_cannot_be_made_is_an_error_that_names_the_atlas(tmp_path):
    (tmp_path / "tables").write_text("a file")
    with pytest.raises(UserError, match=f"cannot write the tables of a in {tmp_path}"):
        put(tmp_path / "tables" / "toys" / "recording=a" / "toys.parquet", built())


def test_is_current__only_with_the_same_inputs_and_a_checksum(file):
    assert is_current(file, "first")
    assert not is_current(file, "second")
    checksum_file(file).unlink()
    assert not is_current(file, "first")


def test_is_current__missing_damaged_truncated_or_foreign_file_is_not(file):
    content = file.read_bytes()
    flipped = content[:40] + bytes([content[40] ^ 1]) + content[41:]
    for damaged in (flipped, content[:-10], b"", b"not a table"):
        file.write_bytes(damaged)
        assert not is_current(file, "first")
    pq.write_table(pa.table({"n": [1]}), file)
    assert not is_current(file, "first")
    file.unlink()
    assert not is_current(file, "first")


def test_inputs_of__file_without_a_checksum_has_none(file):
    assert inputs_of(file) == "first"
    checksum_file(file).unlink()
    assert inputs_of(file) == ""


def test_read_table__missing_file_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"no table at .*none\.parquet: run `activarium analyse`"):
        read_table(tmp_path / "none.parquet")


def test_read_table__bit_flip_in_a_data_page_raises(tmp_path):
    table = built(
        **{name: np.tile(values, 500) for name, values in columns(big=[True] * 3).items()},
    )
    file = tmp_path / "toys.parquet"
    write_table(file, table)
    content = file.read_bytes()
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(1)
    for offset in range(chunk.total_compressed_size // 2, chunk.total_compressed_size, 5):
        damaged = bytearray(content)
        damaged[chunk.data_page_offset + offset] ^= 0x10
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            read_table(file)


def test_read_table__any_damaged_byte_is_named_with_the_command(file):
    content = file.read_bytes()
    for offset in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[offset] ^= 0xFF
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is damaged .*`activarium analyse a` makes it anew"):
            read_table(file)


def test_read_table__without_checksums_any_damaged_byte_gives_a_user_error_or_none(tmp_path):
    file = tmp_path / "toys.parquet"
    write_table(file, built())
    content = file.read_bytes()
    refused = 0
    for offset in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[offset] ^= 0xFF
        file.write_bytes(damaged)
        # A table is read or a user error comes, nothing else.
        try:
            read_table(file)
        except UserError:
            refused += 1
    assert refused > 0


def test_replacing__fault_inside_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_bytes(path, b"old")
    with pytest.raises(UserError, match="cannot write"), replacing(path):
        pass  # nothing was written, so there is nothing to put in place
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
