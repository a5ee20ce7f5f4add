"""From recorded checkpoints to the table of their layers, and the page that shows it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.density import BINS, NEAR_ZERO
from activarium.schemas.errors import UserError
from activarium.schemas.tables import LAYER_CHANGES
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.reporting.density_picture import density_picture, shown_bins
from activarium.tasks.reporting.series_page import verdict, write_series_page
from activarium.tasks.reporting.series_tables import read_series
from activarium.tasks.series.tabulate import tabulate_series
from activarium.tasks.similarity.compare import compare

CONFIG = AnalyseConfig(permutations=0, scheduler="synchronous")
STEPS = (0, 10, 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_raw, write_recording):
    """A series whose activations shrink to nothing, and one that stays as it is."""
    atlas, raw = Atlas(tmp_path_factory.mktemp("series")), make_raw()
    shrinking = [raw, raw, replace(raw, responses=raw.responses * np.float32(1e-3))]
    recordings = []
    for series, states in (("shrinks", shrinking), ("stays", [raw, raw, raw])):
        for step, state in zip(STEPS, states, strict=True):
            name = f"{series}-{step}"
            one = write_recording(atlas, state, name, series=series, step=step)
            analyse(atlas, one, config=CONFIG)
            recordings.append(one)
    for series in ("shrinks", "stays"):
        members = [each for each in recordings if each.name.startswith(series)]
        config = CompareConfig(against=members[-1].name, measures=("cka",), scheduler="threads")
        compare(atlas, members, config=config)
    receipt = tabulate_series(atlas, recordings)
    return atlas, recordings, receipt


def rows(atlas, name):
    return pd.read_parquet(atlas.table_file(LAYER_CHANGES, name), partitioning=None)


def test_tabulate_series__collapsed_layers_are_told_from_healthy_ones(made):
    atlas, _, receipt = made
    assert receipt.made
    assert receipt.recording == "shrinks, stays"
    shrunk, stayed = rows(atlas, "shrinks-20"), rows(atlas, "stays-20")
    alive = shrunk["health"] != "dead"
    assert alive.any()
    assert set(shrunk.loc[alive, "health"]) == {"collapsed"}
    assert shrunk.loc[alive, "health_reason"].str.contains("0.001 times as much").all()
    assert "collapsed" not in set(stayed["health"])
    assert "collapsed" not in set(rows(atlas, "shrinks-10")["health"])


def test_tabulate_series__compares_with_the_last_checkpoint(made):
    atlas, _, _ = made
    for step in STEPS:
        found = rows(atlas, f"stays-{step}")
        np.testing.assert_allclose(found["cka_to_last"].dropna(), 1.0, rtol=1e-9)
        np.testing.assert_array_equal(found["class_kept"].dropna(), 1.0)
        assert (found["step"] == step).all()
    # A smaller scale changes neither.
    np.testing.assert_allclose(rows(atlas, "shrinks-0")["cka_to_last"].dropna(), 1.0, rtol=1e-5)


def test_tabulate_series__current_tables_are_not_made_again(made):
    atlas, recordings, receipt = made
    again = tabulate_series(atlas, recordings)
    assert not again.made
    assert again.files == receipt.files


def test_tabulate_series__recording_without_tables_is_an_error_that_says_what_to_do(
    atlas, make_raw, write_recording
):
    one = write_recording(atlas, make_raw(), "new", series="s", step=1)
    with pytest.raises(UserError, match="recording new is not analysed yet: run `activarium"):
        tabulate_series(atlas, [one])


def test_tabulate_series__recordings_of_other_units_are_refused(
    atlas, make_raw, write_recording, wide
):
    recordings = []
    for step, raw in enumerate((make_raw(), wide)):
        one = write_recording(atlas, raw, f"r{step}", series="s", step=step)
        analyse(atlas, one, config=CONFIG)
        recordings.append(one)
    with pytest.raises(UserError, match=r"series s: expected the \d+ units of r0 in r1 too"):
        tabulate_series(atlas, recordings)


def test_write_series_page__tells_which_series_is_broken(made):
    atlas, recordings, _ = made
    names = [each.name for each in recordings]
    receipt = write_series_page(atlas, names, name="Training in time")
    page = receipt.path.read_text("utf-8")
    assert receipt.made
    assert not write_series_page(atlas, names, name="Training in time").made
    assert re.search(
        r"Broken: .*collapsed.* of \d+ layers at step 20; the first layers broke at", page
    )
    assert "shrinks, stays on made-up: training in time" in page
    charts = re.findall(r"<figcaption>([^<]+)</figcaption>(<svg.*?</svg>|<p)", page)
    drawn = {label: re.findall(r"<title>([^<]+)</title>", chart) for label, chart in charts}
    # A line of the model, and one of each layer, in each of two series.
    assert [label for label, _ in charts][:3] == [
        "accuracy of the model",
        "spread over images (log)",
        "dead units",
    ]
    assert set(drawn["accuracy of the model"]) == {"the model"}
    assert set(drawn["variance associated with the class (eta²)"]) == {"conv1", "fc:2", "layer1.0"}
    # Everything is inside: nothing is fetched when it is opened.
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_verdict__of_a_training_that_broke_on_the_way_says_so(made):
    atlas, *_ = made
    (series,) = read_series(atlas, [f"shrinks-{step}" for step in STEPS])
    changes = series.changes.assign(health="healthy")
    assert verdict(replace(series, changes=changes)) == "All 3 layers are healthy at every step."
    middle = (changes["step"] == 10) & (changes["layer"] == "conv1")
    broken = replace(series, changes=changes.assign(health=np.where(middle, "dead", "healthy")))
    assert not broken.is_healthy
    assert verdict(broken) == (
        "Broken on the way: 1 of 3 layers were not healthy at some step from 10 to 10; at step 20 "
        "all are within the borders again."
    )


def test_read_series__keeps_steps_in_order_whatever_the_order_of_names(made):
    atlas, recordings, _ = made
    found = read_series(atlas, [each.name for each in reversed(recordings)])
    assert [(each.name, each.steps) for each in found] == [
        ("shrinks", [0, 10, 20]),
        ("stays", [0, 10, 20]),
    ]


def test_density_picture__has_a_column_per_step_and_the_largest_bin_on_top():
    counts = np.zeros((3, BINS), np.int64)
    counts[:, NEAR_ZERO] = 1_000_000
    counts[1, NEAR_ZERO + 100] = 1_000
    counts[2, NEAR_ZERO + 200] = 1
    bins = shown_bins([counts])
    # One in a million is too rare to be shown.
    assert (bins.start, bins.stop) == (NEAR_ZERO - 1, NEAR_ZERO + 102)
    picture = density_picture(counts, bins)
    assert (picture.steps, picture.bins) == (3, 103)
    assert dict(picture.ticks)["0"] == pytest.approx(1 - 1.5 / 103)
    heights = [height for _, height in picture.ticks]
    assert heights == sorted(heights)
