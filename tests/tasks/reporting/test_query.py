"""SQL over the tables."""

from __future__ import annotations

import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.reporting.query import query

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
    with pytest.raises(UserError, match="expected a query that returns rows, got '-- only"):
        query(analysed.atlas, "-- only a remark")


def test_query__empty_atlas_says_there_is_nothing_yet(tmp_path):
    with pytest.raises(UserError, match="none yet"):
        query(Atlas(tmp_path), "SELECT * FROM units")


def test_query__works_where_the_path_has_odd_characters(tmp_path, make_raw, write_recording):
    atlas = Atlas(tmp_path / "it's [1] a*b?")
    analyse(atlas, write_recording(atlas, make_raw()), config=ANALYSE)
    assert query(atlas, "SELECT count(*) AS n FROM units").to_pylist() == [{"n": 20}]
