"""Selections by their ids: found, compared over their images, and shown as what they are."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from activarium.flows.stages import analyse_stage, compare_stage, report_stage
from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import AnalyseConfig, ReportConfig
from activarium.schemas.errors import UserError
from activarium.schemas.tables import LAYERS, SIMILARITIES, UNIT_MATCHES, UNITS
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.recording import open_recording
from activarium.tasks.stores.selections import analysed_name, open_compared, selection_name

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=0, exemplars=2, class_exemplars=1)
COMPARED = CompareConfig(scheduler="synchronous", measures=("cka", "units"))
WHERE = "image_index < 30"


def select(atlas, recording, name, **settings):
    config = CONFIG.model_copy(update={"name": name, **settings})
    return analyse_stage(recording, config, atlas.root)


@pytest.fixture(scope="module")
def selected(tmp_path_factory, make_raw, write_recording):
    """Two recordings of the same images, selections of both, and the first 30 images alone."""
    folder = tmp_path_factory.mktemp("selected")
    atlas, raw = Atlas(folder / "atlas"), make_raw()
    other = replace(raw, responses=make_raw(seed=1).responses)
    groups = folder / "groups.csv"
    groups.write_text("class,group\nant,small\nbee,small\ncat's,large\n")
    for name, each in (("net-a", raw), ("net-b", other)):
        write_recording(atlas, each, name)
        cut = {
            key: getattr(each, key)[:30]
            for key in ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
        }
        write_recording(atlas, replace(each, **cut), f"first-{name}")
        select(atlas, name, "first", where=WHERE)
        select(atlas, name, "sizes", classes=str(groups))
    select(atlas, "net-a", "number", target="image_index")
    analyse_stage("net-a", CONFIG, atlas.root)
    return atlas


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("net-a~first", "net-a~first"),
        ("net-a~fi", "net-a~first"),
        ("net-b~sizes", "net-b~sizes"),
        ("net-a~number", "net-a~number"),
    ],
)
def test_selection_name__ids_and_their_beginnings(selected, given, found):
    assert selection_name(selected, given) == analysed_name(selected, given) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("net~first", "2 selections are called 'net~first'"),
        ("net-a~", "3 selections are called"),
        ("net-a~second", "no analysed selection is called 'net-a~second'.*net-a~first"),
        ("other~first", "no analysed selection is called"),
        ("../x~first", "no analysed selection is called"),
        ("*~first", "no analysed selection is called"),
    ],
)
def test_selection_name__what_is_not_one_is_refused(selected, given, message):
    with pytest.raises(UserError, match=message):
        analysed_name(selected, given)


def test_open_recording__a_selection_is_none(selected):
    with pytest.raises(UserError, match=r"the selection net-a~first, of which .* give net-a"):
        open_recording(selected, "net-a~first")


@pytest.mark.parametrize("other", ["net-b~first", "net-b"])
def test_compare__a_selection_is_compared_over_its_images(selected, other):
    receipt = compare_stage(["net-a~first", other], COMPARED, selected.root)
    compare_stage(["first-net-a", "first-net-b"], COMPARED, selected.root)
    assert receipt.recording == f"net-a~first, {other}"
    alone = "first-net-a", "first-net-b"
    for table, own in ((SIMILARITIES, ["cka", "images"]), (UNIT_MATCHES, ["best_unit", "same_r"])):
        found = read_table(selected.table_file(table, "net-a~first", other)).to_pandas()
        expected = read_table(selected.table_file(table, *alone)).to_pandas()
        for name in own:
            pd.testing.assert_series_equal(found[name], expected[name])
        assert set(found["other_recording"]) == {other}
    assert receipt.page.is_file()
    said = "compared over the 29 images that both take (29 and 61)"
    assert any(said in each for each in receipt.notices) == (other == "net-b")


def test_compare__units_of_a_selection_prefer_its_classes(selected):
    compare_stage(["net-a~sizes", "net-b~sizes"], COMPARED, selected.root)
    found = read_table(selected.table_file(UNIT_MATCHES, "net-a~sizes", "net-b~sizes")).to_pandas()
    for column, name in (("preferred_class", "net-a"), ("other_preferred_class", "net-b")):
        units = read_table(selected.table_file(UNITS, f"{name}~sizes")).to_pandas()
        assert found[column].tolist() == units["preferred_class"].tolist()
    assert {*found["preferred_class"].dropna()} == {"small", "large"}


@pytest.mark.parametrize(
    ("one", "other", "known"),
    [
        ("net-a~first", "net-b", True),
        ("net-a~sizes", "net-b~sizes", True),
        ("net-a~sizes", "net-b", False),
    ],
)
def test_compare__classes_are_kept_or_not_among_the_same_classes(selected, one, other, known):
    compare_stage([one, other], COMPARED, selected.root)
    found = read_table(selected.table_file(UNIT_MATCHES, one, other)).to_pandas()
    assert found["preferred_class"].notna().any()
    assert found["kept_class"].notna().any() == known


def test_compare__a_selection_that_is_analysed_anew_is_compared_anew(selected, tmp_path):
    first = open_compared(selected, "net-a~first")
    assert first.identity != open_recording(selected, "net-a").identity
    select(selected, "net-a", "moved", where="image_index < 20")
    compare_stage(["net-a~moved"], COMPARED, selected.root)
    assert not compare_stage(["net-a~moved"], COMPARED, selected.root).made
    select(selected, "net-a", "moved", where="image_index < 25")
    assert compare_stage(["net-a~moved"], COMPARED, selected.root).made


def test_analyse__a_control_may_be_a_selection_by_its_id(selected):
    select(selected, "net-b", "begun", where=WHERE)
    receipt = select(selected, "net-a", "judged", where=WHERE, controls=("net-b~begun",))
    layers = read_table(selected.table_file(LAYERS, receipt.recording)).to_pandas()
    assert layers["eta2_mean_untrained"].notna().any()
    with pytest.raises(UserError, match="no analysed selection is called 'net-b~none'"):
        select(selected, "net-a", "judged", where=WHERE, controls=("net-b~none",))


def page_of(atlas, *names):
    names = [analysed_name(atlas, each) for each in names]
    receipt = report_stage(names, "page", ReportConfig(), atlas.root)
    text = receipt.path.read_text()
    figures = re.findall(r"<div><dt>([^<]*)</dt><dd>([^<]*)</dd></div>", text)
    return text, dict(figures)


def test_report__the_page_of_a_selection_says_which_images(selected):
    text, figures = page_of(selected, "net-a~first", "net-b~first")
    assert '<h1 id="title">toy on made-up, selection first</h1>' in text
    assert (
        "A selection of net-a: 29 of 61 images. Images for which \u201cimage_index &lt; 30" in text
    )
    assert figures["images selected"] == "29"
    assert "accuracy on them" in figures


def test_report__accuracy_of_a_model_is_not_put_beside_groups(selected):
    text, figures = page_of(selected, "net-a~sizes")
    assert re.search(r"Classes in 2 groups of groups\.csv: large \(\d+\), small \(\d+\)", text)
    assert not [name for name in figures if "accuracy" in name]
    assert figures["groups"] == "2"
    # The model's own classes, which it predicts, are none of the page's.
    assert '"classes": ["small", "large"]' in text or '"classes":["small","large"]' in text


def test_report__of_a_whole_recording_says_nothing_of_selections(selected):
    text, figures = page_of(selected, "net-a")
    assert "A selection of" not in text
    assert {"accuracy", "images", "classes"} <= {*figures}


def test_report__of_a_number_is_refused_in_a_line(selected):
    with pytest.raises(UserError, match="analysed with --target"):
        page_of(selected, "net-a~number")
