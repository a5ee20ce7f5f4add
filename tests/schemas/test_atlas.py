"""The atlas: where everything lies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activarium.schemas.atlas import LONGEST, Atlas, file_name, given_name, slug
from activarium.schemas.tables import EMBEDDINGS, UNITS

ATLAS = Atlas(Path("root"))


@given(st.text())
def test_slug__is_safe_in_a_file_name_and_stays_as_it_is(name):
    found = slug(name)
    assert re.fullmatch(r"[a-z0-9._-]+", found)
    assert "--" not in found
    assert slug(found) == found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("My set (v2).zip", "my-set-v2-.zip"),
        ("layer4.1.conv2", "layer4.1.conv2"),
        ("fc:2", "fc-2"),
        ("../../etc", "..-..-etc"),
        ("", "unnamed"),
        ("///", "unnamed"),
    ],
)
def test_slug__replaces_what_is_not_safe(name, expected):
    assert slug(name) == expected


def test_folders__lie_under_the_root():
    for name in ("tables", "models", "reports", "work", "datasets"):
        assert getattr(ATLAS, name) == Path("root") / name


def test_recording__is_a_zarr_store_named_by_its_id():
    assert ATLAS.recordings == "root/recordings"
    assert ATLAS.recording("a-1") == "root/recordings/a-1.zarr"


def test_recording__may_lie_elsewhere():
    atlas = Atlas(Path("root"), "s3://bucket/some/prefix")
    assert atlas.recordings == "s3://bucket/some/prefix"
    assert atlas.recording("a-1") == "s3://bucket/some/prefix/a-1.zarr"
    assert Atlas(Path("root"), "s3://bucket/").recording("a-1") == "s3://bucket/a-1.zarr"


def test_table_file__lies_in_its_recordings_hive_partition():
    folder = Path("root/tables/units/recording=a-1")
    assert ATLAS.partition(UNITS, "a-1") == folder
    assert ATLAS.table_file(UNITS, "a-1") == folder / "units.parquet"


def test_table_file__of_a_part_is_named_by_it():
    file = ATLAS.table_file(EMBEDDINGS, "a-1", "tsne-layer1.0")
    assert file == Path("root/tables/embeddings/recording=a-1/tsne-layer1.0.parquet")


def test_report__is_a_page_named_by_the_run():
    assert ATLAS.report("My run") == Path("root/reports/my-run.html")


def test_table_file__parts_that_differ_only_in_unsafe_characters_do_not_collide():
    parts = ("tsne-fc:2", "tsne-fc-2", "tsne-FC:2")
    assert len({ATLAS.table_file(EMBEDDINGS, "a-1", part) for part in parts}) == 3


@pytest.mark.parametrize("name", ["", " ", ".hidden", "../x", "./runs/x", " .x", "a" * 101])
def test_given_name__that_no_file_can_have_is_refused(name):
    with pytest.raises(ValueError, match="expected a name of 1 to 100 letters") as caught:
        given_name(name)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["a", "My run (v2)", "a" * 100, "v1.2", "x..y"])
def test_given_name__of_other_kinds_is_taken(name):
    assert given_name(name) == name


@given(st.lists(st.text(max_size=300), min_size=1, max_size=5))
def test_file_name__is_short_shown_and_safe(parts):
    found = file_name(parts)
    assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]*", found)
    assert len(found) <= LONGEST + 10


def test_file_name__keeps_what_is_short_and_tells_long_ones_apart():
    assert file_name(["Net", ".set", "0a"]) == "net-.set-0a"
    long = [file_name(["n" * 150 + end, "x" * 100, "step-000001", "0a1b"]) for end in "ab"]
    assert long[0] != long[1]
    assert all(each.endswith("-step-000001-0a1b") for each in long)
    assert all(each.startswith("n" * 31) for each in long)


BAD_NAMES = [
    "",
    "  ",
    " x",
    "x ",
    "x.",
    ".",
    "..",
    ".x",
    "../x",
    "-x",
    "--root",
    "a\0b",
    "a\nb",
    "a\tb",
    "\x1b[2J",
    "a\x9bb",
    "a\u202eb",
    "a\u200bb",
    "a\u2028b",
    "\ufeffa",
    "a\u00a0",
    "a\u00a0b",
    "\u3164",
    "a\udcff",
    "a" * 101,
    "é" * 300,
    "CON",
    "nul",
    "Com1",
    "lpt9.txt",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_given_name__that_hides_or_misleads_is_refused(name):
    with pytest.raises(ValueError, match="expected a name of 1 to 100 letters") as caught:
        given_name(name)
    assert str(caught.value).isprintable()


def test_given_name__composed_and_decomposed_are_one():
    assert given_name("cafe\u0301") == given_name("caf\u00e9") == "caf\u00e9"


@given(st.text(max_size=120))
def test_given_name__whatever_is_taken_is_one_shown_file_in_its_folder(name):
    try:
        taken = given_name(name)
    except ValueError:
        return
    page = ATLAS.report(taken)
    assert page.parent == ATLAS.reports
    assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]*\.html", page.name)
    assert len(page.name) < 255
    assert Path(ATLAS.recording(file_name([taken, "set", "0a"]))).parent == Path(ATLAS.recordings)


def test_report__names_in_other_letters_have_pages_of_their_own():
    pages = {ATLAS.report(name) for name in ("模型", "网络", "Ünit", "ünít", "unnamed")}
    assert len(pages) == 5
