"""SQL over the tables."""

from __future__ import annotations

import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.reporting.query import query
from activarium.tasks.similarity.compare import compare

ANALYSE = AnalyseConfig(scheduler="synchronous")


def test_query__every_table_is_a_view_with_its_recording(analysed):
    for table in ("recordings", "images", "layers", "units", "unit_classes", "exemplars"):
        found = query(analysed.atlas, f"SELECT DISTINCT recording FROM {table} ORDER BY 1")  # noqa: S608
        assert found.column("recording").to_pylist() == ["toy", "untrained"], table


def test_query__numbers_and_column_types_are_those_of_the_files(analysed):
    sql = "SELECT * EXCLUDE recording FROM units WHERE recording = 'toy' ORDER BY depth, channel"
    found = query(analysed.atlas, sql).to_pandas()
    direct = query(analysed.atlas, f"SELECT * FROM '{analysed.files[0]}'").to_pandas()  # noqa: S608
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


@pytest.mark.parametrize(("kind", "expected"), [("trained", "toy"), ("untrained", "untrained")])
def test_query__each_kind_of_recording_has_views_of_its_own(kind, expected, analysed):
    for table in (*TABLES_OF_BOTH, "depth_trends", "exemplars"):
        found = query(analysed.atlas, f"SELECT DISTINCT recording FROM {kind}_{table}")  # noqa: S608
        assert found.column("recording").to_pylist() == [expected], table


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


def test_query__damaged_table_is_one_line(tmp_path, make_raw, write_recording):
    atlas = Atlas(tmp_path)
    files = analyse(atlas, write_recording(atlas, make_raw()), config=ANALYSE).files
    files[0].write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="`activarium verify` names what is damaged") as caught:
        query(atlas, "SELECT * FROM units")
    assert "\n" not in str(caught.value)


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
    assert query(atlas, "SELECT count(*) AS n FROM units").to_pylist() == [{"n": 20}]
