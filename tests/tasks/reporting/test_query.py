"""SQL over the tables."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.reporting import query as module
from activarium.tasks.reporting.query import open_query, query
from activarium.tasks.similarity.compare import compare

ANALYSE = AnalyseConfig(scheduler="synchronous")


@pytest.fixture
def in_this_process(monkeypatch):
    """Ask here: a process each would take most of the time of many queries."""
    here = lambda function, *arguments, **_: function(*arguments)  # noqa: E731
    monkeypatch.setattr(module, "run_limited", here)


@pytest.mark.usefixtures("in_this_process")
def test_query__every_table_is_a_view_with_its_recording(analysed):
    for table in ("recordings", "images", "layers", "units", "unit_classes", "exemplars"):
        found = query(analysed.atlas, f"SELECT DISTINCT recording FROM {table} ORDER BY 1")  # noqa: S608
        assert found.column("recording").to_pylist() == ["toy", "untrained"], table


def test_query__numbers_and_column_types_are_those_of_the_files(analysed):
    sql = "SELECT * EXCLUDE recording FROM units WHERE recording = 'toy' ORDER BY depth, channel"
    found = query(analysed.atlas, sql).to_pandas()
    with duckdb.connect() as connection:
        direct = connection.sql(f"SELECT * FROM '{analysed.files[0]}'").to_arrow_table()  # noqa: S608
    direct = direct.to_pandas()
    assert found.equals(direct[found.columns])


def test_query__joins_tables(analysed):
    sql = (
        "SELECT u.unit, c.response_mean FROM units u JOIN unit_classes c "
        "ON (u.recording, u.unit, u.preferred_class) = (c.recording, c.unit, c.class) "
        "WHERE c.response_mean < u.response_mean"
    )
    assert query(analysed.atlas, sql).num_rows == 0


def test_query__missing_values_are_null(analysed):
    sql = "SELECT count(*) AS n FROM unit_classes WHERE response_mean IS NULL OR isnan(z)"
    assert query(analysed.atlas, sql).to_pylist() == [{"n": 40}]


NAMES = ("net-001-set-ab", "net-002-set-ab", "net-untrained-set-ab")
TABLES_OF_BOTH = ("recordings", "images", "layers", "units", "unit_classes", "class_pairs")


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(("kind", "expected"), [("trained", "toy"), ("untrained", "untrained")])
def test_query__each_kind_of_recording_has_views_of_its_own(kind, expected, analysed):
    for table in (*TABLES_OF_BOTH, "depth_trends", "exemplars"):
        found = query(analysed.atlas, f"SELECT DISTINCT recording FROM {kind}_{table}")  # noqa: S608
        assert found.column("recording").to_pylist() == [expected], table


@pytest.mark.usefixtures("in_this_process")
def test_query__views_of_both_kinds_hold_each_row_once(analysed):
    sql = "SELECT count(*) AS n FROM "
    for table in TABLES_OF_BOTH:
        (whole,), (one,), (other,) = (
            query(analysed.atlas, f"{sql}{name}").column("n").to_pylist()
            for name in (table, f"trained_{table}", f"untrained_{table}")
        )
        assert whole == one + other
        assert min(one, other) > 0


def test_query__comparison_with_a_control_is_no_trained_row(tmp_path, make_raw, write_recording):
    atlas = Atlas(tmp_path)
    whole = [write_recording(atlas, make_raw(), name) for name in NAMES]
    config = CompareConfig(measures=("cka",), scheduler="synchronous")
    compare(atlas, whole, config=config)
    # None is analysed: the ids alone tell.
    pairs = "SELECT DISTINCT recording, other_recording FROM"
    found = query(atlas, f"{pairs} trained_similarities").to_pylist()
    assert found == [{"recording": "net-001-set-ab", "other_recording": "net-002-set-ab"}]
    assert query(atlas, f"{pairs} untrained_similarities").num_rows == 2


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("toy",), ["toy"]),
        (("un",), ["untrained"]),
        (("*trained",), ["untrained"]),
        (("t*", "unt*"), ["toy", "untrained"]),
        ((), ["toy", "untrained"]),
    ],
)
def test_query__asks_only_the_recordings_that_are_named(wanted, expected, analysed):
    sql = "SELECT DISTINCT recording FROM units ORDER BY 1"
    found = query(analysed.atlas, sql, recordings=wanted)
    assert found.column("recording").to_pylist() == expected


def test_query__recording_that_is_not_there_is_one_line(analysed):
    with pytest.raises(
        UserError, match=r"--recording 'toys': no recording .* one of toy, untrained"
    ):
        query(analysed.atlas, "SELECT 1", recordings=["toys"])


@pytest.fixture(scope="module")
def two(tmp_path_factory, analysed):
    """An atlas of two recordings whose tables a test may damage, and mend again."""
    root = tmp_path_factory.mktemp("two")
    for part in ("tables", "checksums"):
        shutil.copytree(analysed.atlas.root / part, root / part)
    return Atlas(root)


@contextmanager
def damaged(atlas, *names):
    """Cut a file, or flip one bit in it."""
    before = {}
    for place, name in enumerate(names):
        path = atlas.tables / name
        before[path] = whole = path.read_bytes()
        cut = len(whole) // 2
        path.write_bytes(
            whole[:cut] if place % 2 else whole[:cut] + bytes([whole[cut] ^ 1]) + whole[cut + 1 :]
        )
    yield
    for path, content in before.items():
        path.write_bytes(content)


TOY, CONTROL = "units/recording=toy/units.parquet", "units/recording=untrained/units.parquet"


def test_damaged__file_is_left_out_and_named_with_what_makes_it_again(two):
    sql = "SELECT DISTINCT recording FROM units"
    with damaged(two, TOY):
        result = open_query(two, sql)
        rows = [row for batch in result.batches for row in batch.to_pylist()]
    assert rows == [{"recording": "untrained"}]
    assert result.notices == (
        f"tables/{TOY} is damaged (its content differs from its sha256) and left out; "
        "`activarium analyse toy --fdr 0.05`, with the settings that it was made with, makes it anew",
    )


def test_damaged__other_tables_and_recordings_answer_without_a_word(two):
    with damaged(two, TOY, CONTROL):
        assert not open_query(two, "SELECT count(*) FROM images").notices
    with damaged(two, TOY):
        sql = "SELECT count(*) AS n FROM units"
        result = open_query(two, sql, recordings=["untrained"])
        assert next(result.batches).to_pylist() == [{"n": 20}]
    assert not result.notices


def test_damaged__nothing_left_is_refused_in_one_line(two):
    with damaged(two, TOY, CONTROL), pytest.raises(UserError) as caught:
        query(two, "SELECT * FROM units")
    message = str(caught.value)
    assert message.startswith("no file of units can be read; tables/units/recording=toy/")
    assert "`activarium analyse untrained --fdr 0.05`" in message
    assert "\n" not in message


def test_damaged__recordings_table_leaves_the_ids_to_tell_the_control(two):
    with damaged(two, "recordings/recording=untrained/recordings.parquet"):
        result = open_query(two, "SELECT count(*) AS n FROM trained_units")
        # Its id alone does not tell that it is one.
        assert next(result.batches).to_pylist() == [{"n": 40}]
    assert "recordings/recording=untrained" in result.notices[0]


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("embeddings/recording=a/conv1-pca.parquet", "`activarium embed a`"),
        ("similarities/recording=a/b.parquet", "`activarium compare a b`"),
        ("layer_changes/recording=a/x.parquet", "`activarium compare --series NAME`"),
        ("units/recording=a~sure/units.parquet", "`activarium analyse a --name sure`"),
    ],
)
def test_damaged__each_table_names_its_stage(file, command, tmp_path):
    path = tmp_path / "tables" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError) as caught:
        query(Atlas(tmp_path), f"SELECT * FROM {path.parent.parent.name}")  # noqa: S608
    assert command in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM units", "nothing"),
        ("SELECT * FROM embeddings", r"embeddings.*\(tables in .*exemplars, images, layers"),
    ],
)
def test_query__fault_is_one_line_that_lists_the_tables(sql, message, analysed):
    with pytest.raises(UserError, match=message) as caught:
        query(analysed.atlas, sql)
    assert "\n" not in str(caught.value)


def test_query__nothing_to_run_is_refused(analysed):
    with pytest.raises(UserError, match=r"expected one SELECT .*, got '-- only"):
        query(analysed.atlas, "-- only a remark")


def test_query__empty_atlas_says_there_is_nothing_yet(tmp_path):
    with pytest.raises(UserError, match="none yet"):
        query(Atlas(tmp_path), "SELECT * FROM units")


def test_query__works_where_the_path_has_odd_characters(tmp_path, make_raw, write_recording):
    atlas = Atlas(tmp_path / "it's [1] a*b?")
    analyse(atlas, write_recording(atlas, make_raw()), config=ANALYSE)
    assert query(atlas, COUNT).to_pylist() == [{"n": 20}]


COUNT = "SELECT count(*) AS n FROM units"


def test_query__atlas_by_a_relative_path_and_by_links(two, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(two.root)
    inner = tmp_path / "inner" / "tables"
    inner.mkdir(parents=True)
    (inner / "units").symlink_to(two.tables / "units")
    (inner.parent / "checksums").symlink_to(two.checksums)
    monkeypatch.chdir(tmp_path)
    for root in ("link", "inner", "../" + tmp_path.name + "/link"):
        assert query(Atlas(Path(root)), COUNT).to_pylist() == [{"n": 40}]


def test_query__result_larger_than_memory_is_refused(two, monkeypatch):
    monkeypatch.setattr(module, "memory_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"larger than the .* GiB of memory"):
        query(two, "FROM range(1000000)")


@pytest.mark.parametrize("sql", ["SELECT 1\0", "SELECT '\ud800'"])
def test_query__text_that_is_no_unicode_is_refused(two, sql):
    with pytest.raises(UserError, match="expected a query in Unicode text"):
        query(two, sql)


def test_query__file_replaced_since_it_was_checked_is_told(two, monkeypatch):
    check = module.readable_files

    def replaced(atlas, files, **options):
        found = check(atlas, files, **options)
        path = two.tables / TOY
        path.write_bytes(path.read_bytes())
        return found

    monkeypatch.setattr(module, "readable_files", replaced)
    with pytest.raises(UserError, match=r"units\.parquet was replaced just now: ask again"):
        query(two, COUNT)


def test_query__what_never_ends_is_ended(two):
    sql = "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r"
    with pytest.raises(UserError, match=r"did not end within 0\.5 s; --time-limit SECONDS"):
        query(two, sql, seconds=0.5)
