"""Conditions on images, groups of classes, and numbers per image from columns and files."""

from __future__ import annotations

import codecs

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.schemas.errors import UserError
from activarium.tasks.analysis import image_conditions
from activarium.tasks.analysis.class_groups import class_groups
from activarium.tasks.analysis.image_conditions import select_images
from activarium.tasks.analysis.numeric_targets import numeric_target

CLASSES = ("cat", "dog", "truck", " odd ", "ship")


def run_here(function, *arguments, **_):
    return function(*arguments)


@pytest.fixture
def in_this_process(monkeypatch):
    """Evaluate conditions here: a process each would take most of the time of so many."""
    monkeypatch.setattr(image_conditions, "run_limited", run_here)


@pytest.fixture
def images():
    return pa.table(
        {
            "image_index": [0, 1, 2, 3, 4],
            "image": [f"test/{name}.png" for name in ("cat/0", "cat/1", "dog/0", "dog/it's", "x")],
            "label": [0, 0, 1, 1, -1],
            "class": ["cat", "cat", "dog", "dog", None],
            "valid": [True, True, True, False, True],
            "correct": [True, False, True, None, None],
            "confidence": [0.5, 0.9, 0.95, None, 0.25],
            "loss": pa.array([0.5, 2.0, 0.25, None, None], pa.float32()),
        }
    )


def fault(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("correct and confidence > 0.9", [2]),
        ("image LIKE 'test/cat/%'", [0, 1]),
        ("image = 'test/dog/it''s.png'", [3]),
        ("class = 'dog' -- with a remark", [2, 3]),
        ("class IS NULL OR NOT valid", [3, 4]),
        ("confidence >= (SELECT median(confidence) FROM images)", [1, 2]),
        ("label IN (0, 1) AND image_index % 2 = 1", [1, 3]),
        ("images.valid", [0, 1, 2, 4]),
        ("true", [0, 1, 2, 3, 4]),
    ],
)
def test_select_images__takes_the_images_that_fulfil_the_condition(where, expected, images):
    selected = select_images(images, where)
    assert selected.dtype == np.bool_
    assert np.flatnonzero(selected).tolist() == expected


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "where", ["correct", "correct IS NOT NULL AND correct", "NOT (NOT correct)"]
)
def test_select_images__null_is_not_selected(where, images):
    assert select_images(images, where).tolist() == [True, False, True, False, False]


def test_select_images__condition_and_its_opposite_part_what_is_not_null(images):
    low, high = select_images(images, "loss < 1"), select_images(images, "NOT (loss < 1)")
    assert (low ^ high).tolist() == np.array(images.column("loss").is_valid()).tolist()


@given(st.permutations(range(5)))
@settings(deadline=None, max_examples=10)
def test_select_images__follows_the_order_of_the_rows(order):
    table = pa.table({"image": list("abcde"), "loss": [0.1, 0.2, 0.3, None, 0.5]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_conditions, "run_limited", run_here)
        found = select_images(table.take(pa.array(order)), "loss > 0.15")
        assert found.tolist() == select_images(table, "loss > 0.15")[np.array(order)].tolist()


def test_select_images__many_rows_keep_their_places():
    values = np.random.default_rng(0).standard_normal(300_000)
    selected = select_images(pa.table({"loss": values}), "loss > 0")
    np.testing.assert_array_equal(selected, values > 0)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("1", "INTEGER"),
        ("confidence", "DOUBLE"),
        ("class", "VARCHAR"),
        ("[valid]", r"BOOLEAN\[\]"),
        ("(SELECT label FROM images LIMIT 1)", "BIGINT"),
        ("COLUMNS('valid|correct')", "2 columns"),
    ],
)
def test_select_images__condition_must_be_boolean(where, kind, images):
    with pytest.raises(UserError, match=f"expected a condition, true or false, got {kind}$"):
        select_images(images, where)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "where",
    [
        "confidense > 0.9",
        "confidence >",
        "true; DROP TABLE images",
        "true -- x\n; DROP TABLE images",
        "true) FROM images UNION SELECT (false",
        "true UNION SELECT 1",
        "true ORDER BY loss",
        "true LIMIT 1",
        "true GROUP BY ALL",
        "correct, valid",
        "correct AS x",
        "SELECT true",
        "true)--",
        "true /*",
        "true\0",
        "'a",
        "?",
        "avg(confidence) > 0.5",
        "row_number() OVER () < 3",
        "unnest([true, false])",
        "image ~ '('",
        "class::INTEGER > 1",
        "(SELECT count(*) FROM source) > 0",
        "(SELECT count(*) FROM rows) > 0",
    ],
)
def test_select_images__fault_names_option_expression_and_columns(where, images):
    rows = images  # a query must not reach the variables of its caller
    message = fault(select_images, rows, where)
    assert message.startswith(f"--where {where!r}: ")
    assert message.endswith(
        " (columns: image_index, image, label, class, valid, correct, confidence, loss)"
    )


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "where",
    [
        "(SELECT count(*) FROM read_csv('{path}')) > 0",
        "(SELECT count(*) FROM read_text('{path}')) > 0",
        "(SELECT count(*) FROM '{path}') > 0",
        "(SELECT count(*) FROM glob('{path}')) > 0",
    ],
)
def test_select_images__reads_no_files(where, images, tmp_path):
    path = tmp_path / "secret.csv"
    path.write_text("a\n1\n")
    assert "--where" in fault(select_images, images, where.format(path=path))


def test_select_images__nothing_selected_is_refused_with_the_count(images):
    message = fault(select_images, images, "confidence > 2")
    assert message == "--where 'confidence > 2': selects none of the 5 images"


@pytest.mark.parametrize("where", ["", "  \n"])
def test_select_images__empty_condition_is_refused(where, images):
    assert fault(select_images, images, where).startswith("--where is empty")


def test_select_images__chance_is_refused(images):
    table = pa.concat_tables([images] * 200)
    assert "other images each time" in fault(select_images, table, "random() < 0.5")
    assert select_images(table, "hash(image) % 2 = 0").sum() % 200 == 0


@pytest.mark.parametrize(
    "where",
    [
        "(WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r) > 0",
        "levenshtein(repeat('a', 300000), repeat('b', 300000)) > 0",  # within C, deaf to interrupts
    ],
)
def test_select_images__what_never_ends_is_ended(where, images, monkeypatch):
    monkeypatch.setattr(image_conditions, "SECONDS", 0.5)
    assert "did not end within 0.5 s" in fault(select_images, images, where)


def test_class_groups__codes_follow_first_appearance(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("class,group\ntruck,vehicle\ncat,animal\nship,vehicle\n odd ,animal\n")
    found = class_groups(path, CLASSES)
    assert found.names == ("vehicle", "animal")
    assert found.codes.tolist() == [1, -1, 0, 1, 0]
    assert found.codes.dtype == np.int64
    assert found.left_out == ("dog",)


@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_class_groups__bom_blanks_quotes_and_line_ends_are_read(start, end, tmp_path):
    lines = ['"Klasse" , Gruppe', "", " cat ,  Tier ", '"dog","Tier"', ",", 'ship,"Boot, groß"', ""]
    path = tmp_path / "groups.csv"
    path.write_bytes(start + end.join(lines).encode())
    with pytest.raises(UserError, match="line 1"):
        class_groups(path, CLASSES)
    path.write_bytes(start + end.join(["Klasse, Gruppe", *lines[1:]]).encode())
    found = class_groups(str(path), CLASSES)
    assert found.names == ("Tier", "Boot, groß")
    assert found.codes.tolist() == [0, 0, -1, -1, 1]


def test_class_groups__a_class_may_be_called_class(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("class,group\nclass,a\nclass,a\n")
    assert class_groups(path, ["class"]).codes.tolist() == [0]


@given(st.permutations(range(4)))
@settings(deadline=None, max_examples=15)
def test_class_groups__follow_a_relabelling_of_classes(tmp_path_factory, order):
    path = tmp_path_factory.getbasetemp() / "relabelled.csv"
    path.write_text("class,group\na,x\nb,y\nc,x\n")
    names = np.array(["a", "b", "c", "d"])
    codes = class_groups(path, names.tolist()).codes
    assert class_groups(path, names[order].tolist()).codes.tolist() == codes[order].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty, expected a header and lines of class,group"),
        ("\n\n", ": is empty"),
        ("class,group\n", ": names no group"),
        ("class,group\n\ncta,animal\n", ", line 3: no class 'cta', did you mean 'cat'?"),
        ("class,group\n42,animal\n", ", line 2: no class '42', expected one of cat, dog,"),
        ("class,group\ncat,a\ndog,a\ncat,b\n", ", line 4: class 'cat' is in group 'b', but before"),
        ("class,group\ncat,a,b\n", ", line 2: expected 2 columns, class,group, got 3"),
        ("class;group\ncat;a\n", ", line 1: expected 2 columns, class,group, got 1"),
        ("class,group\ncat, \n", ", line 2: class 'cat' has no group"),
        ("cat,animal\ndog,animal\n", ", line 1: expected a header such as class,group, got class"),
        ('class,group\ncat,"a\n', ", line 2: unexpected end of data"),
    ],
)
def test_class_groups__fault_names_file_and_line(text, message, tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    assert fault(class_groups, path, CLASSES).startswith(f"{path}{message}")


def test_class_groups__unreadable_file_is_named(tmp_path):
    assert fault(class_groups, tmp_path / "no.csv", CLASSES).endswith("No such file or directory")
    assert "cannot be read" in fault(class_groups, tmp_path, CLASSES)
    path = tmp_path / "latin.csv"
    path.write_bytes("class,group\ncat,groß\n".encode("latin-1"))
    assert fault(class_groups, path, CLASSES).startswith(f"{path}: is not UTF-8")


def test_numeric_target__column_has_nan_where_it_is_null(images):
    found = numeric_target("loss", images)
    assert found.name == "loss"
    assert found.values.dtype == np.float64
    np.testing.assert_array_equal(found.values, [0.5, 2.0, 0.25, np.nan, np.nan])


def test_numeric_target__booleans_are_zero_and_one(images):
    np.testing.assert_array_equal(numeric_target("valid", images).values, [1, 1, 1, 0, 1])


def test_numeric_target__no_label_is_nan(images):
    np.testing.assert_array_equal(numeric_target("label", images).values, [0, 0, 1, 1, np.nan])


def test_numeric_target__chunks_of_a_column_are_joined(images):
    found = numeric_target("image_index", pa.concat_tables([images, images]))
    assert found.values.tolist() == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8])
def test_numeric_target__file_gives_numbers_by_image(start, images, tmp_path):
    path = tmp_path / "sizes.csv"
    text = "image,object size\ntest/x.png,1e3\ntest/cat/1.png,-0.5\n test/dog/it's.png , 7\n"
    path.write_bytes(start + text.encode() + b"test/cat/0.png,\ntest/x.png,1000\n")
    found = numeric_target(str(path), images)
    assert found.name == "object size"
    np.testing.assert_array_equal(found.values, [np.nan, -0.5, np.nan, 7, 1000])


def test_numeric_target__file_without_a_second_name_gives_its_own(images, tmp_path):
    path = tmp_path / "sizes.csv"
    path.write_text(
        "image,\ntest/x.png,1\ntest/cat/0.png,2\ntest/cat/1.png,3\ntest/dog/0.png,nan\n"
    )
    assert numeric_target(str(path), images).name == "sizes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,size\ntest/x.png,big\n", ", line 2: expected a number, got 'big'"),
        ("image,size\ntest/x.png,1_000\n", ", line 2: expected a number, got '1_000'"),
        ("image,size\ntest/x.png,-inf\n", ", line 2: expected a finite number, got '-inf'"),
        ("image,size\nx.png,1\n", ", line 2: no image 'x.png'; images are named like 'test/cat/0"),
        ("image,size\ntest/x.png,1\n\ntest/x.png,2\n", ", line 4: image 'test/x.png' has the"),
        ("image,size\ntest/x.png,1,2\n", ", line 2: expected 2 columns, image,number, got 3"),
        ("test/x.png,1\ntest/cat/0.png,2\n", ", line 1: expected a header such as image,number"),
        ("", ": is empty"),
        ("image,size\n", ": expected a number for at least 3 images, got 0 of 5"),
        ("image,size\ntest/x.png,1\ntest/cat/0.png,2\n", ": expected a number for at least 3"),
        (
            "image,size\ntest/x.png,2\ntest/cat/0.png,2.0\ntest/cat/1.png,2\n",
            ": all 3 images have the same number 2",
        ),
    ],
)
def test_numeric_target__fault_names_file_and_line(text, message, images, tmp_path):
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    assert fault(numeric_target, str(path), images).startswith(f"{path}{message}")


def test_numeric_target__neither_column_nor_file_lists_the_columns(images):
    message = fault(numeric_target, "confidense", images)
    assert message == (
        "confidense: neither a file nor a column of the images, did you mean 'confidence'? "
        "(columns of numbers: image_index, label, valid, correct, confidence, loss)"
    )


def test_numeric_target__column_of_text_is_refused(images):
    assert fault(numeric_target, "class", images).startswith(
        "class: expected a column of numbers, got string (columns of numbers: image_index,"
    )


def test_numeric_target__infinite_column_is_refused():
    table = pa.table({"image": ["a", "b", "c"], "loss": [1.0, 2.0, np.inf]})
    assert fault(numeric_target, "loss", table) == "loss: expected finite numbers, got inf"
