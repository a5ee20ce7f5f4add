"""The documents, typed as they stand: every block and every example of the help, on the demo's atlas."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
import xarray
from sklearn.metrics import roc_auc_score

from activarium.flows.output import EXAMPLE_QUERY
from activarium.schemas.atlas import Atlas
from activarium.tasks.reporting.query import query
from activarium.tasks.stores.recording import open_recording

from .blocks import HELP, SHELLS, commands, documented
from .conftest import call

pytestmark = pytest.mark.slow

RUN = [each for each in documented() if each.is_run]
FAR = 8.0
"""Percentage points that a figure of the README may be off: other processors train otherwise."""


@pytest.mark.parametrize("block", RUN, ids=str)
def test_block__does_what_it_says(block, pages):
    pages(block.page).type_until(block)


def test_help__shows_an_example_of_every_command():
    shown = [each.text.split()[1] for each in documented() if each.page == HELP]
    assert shown == list(commands())


def test_demo__learns_the_digits_and_finds_their_units(demo):
    root, summary = demo
    assert summary["accuracy"] > 0.96
    assert summary["images"] == 540
    layers = {layer["layer"]: layer for layer in summary["layers"]}
    assert list(layers) == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [layer["units"] for layer in layers.values()] == [64, 32, 64, 32, 10]
    last, first_layer = layers["fc3"], layers["conv1"]
    assert first_layer["eta2_mean"] < 0.4
    assert last["eta2_mean"] > 0.7
    assert last["eta2_mean"] > last["eta2_mean_untrained"] + 0.2
    assert len(summary["strongest"]) == 3
    assert summary["strongest"][0]["average_precision_crossfit"] > 0.95
    assert "two-block-cnn" in (root / "reports" / "demo.html").read_text("utf-8")


def figures(line: str) -> tuple[list[str], list[float]]:
    """Return the words and the numbers of a line."""
    words, numbers = [], []
    for word in line.split():
        text = word.strip(";,()")
        if re.fullmatch(r"-?\d[\d,]*(\.\d+)?", text):
            numbers.append(float(text.replace(",", "")))
        else:
            words.append(text)
    return words, numbers


def test_demo__prints_what_the_readme_shows_and_again_makes_nothing(demo):
    root, _ = demo
    printed = call(["activarium", "demo", "--root", str(root)], root.parent)
    assert "nothing was made anew" in printed
    (shown,) = [each for each in documented() if each.page == "README.md" and not each.language]
    rows = {line.split()[0]: line for line in printed.splitlines() if line.split()}
    lines = [
        line for line in shown.text.splitlines() if line[:5] in {"accur", "layer", "conv1", "fc3  "}
    ]
    assert len(lines) == 4
    for line in lines:
        (words, numbers), (others, found) = figures(line), figures(rows[line.split()[0]])
        # What a first layer goes beyond may be another thing elsewhere.
        assert words == others or line.startswith("conv")
        assert np.abs(np.subtract(numbers, found)).max(initial=0) < FAR
    (tried,) = re.findall(r"^next +(activarium query .+)$", printed, re.MULTILINE)
    assert call(shlex.split(tried), root.parent).count("\n") == 6


def asked(atlas: Atlas, start: str):
    """Return the rows of the example of docs/tables.md whose query begins so."""
    shells = [
        each.text
        for each in documented()
        if each.page == "docs/tables.md" and each.language in SHELLS
    ]
    lines = [line for text in shells for line in text.splitlines() if f'"{start}' in line]
    (words,) = [shlex.split(line) for line in lines]
    return query(atlas, words[-1]).to_pandas()


@pytest.fixture(scope="module")
def trained(demo):
    atlas = Atlas(demo[0])
    return atlas, open_recording(atlas, "two-block-cnn-epoch")


def test_queries__auroc_is_that_of_the_class_beside_it(trained):
    atlas, recording = trained
    stored = xarray.open_zarr(atlas.recording(recording.name)).load()

    def area(unit, name):
        return roc_auc_score(stored.image_class == name, stored.channel_mean.sel(unit=unit))

    clear = asked(atlas, "SELECT unit, average_precision_class")
    assert (clear.average_precision_crossfit > 0.5).all()
    other = asked(atlas, "SELECT unit, preferred_class, preferred_auroc, auroc_class")
    assert len(other)
    for row in other.itertuples():
        assert row.preferred_class != row.auroc_class
        assert row.auroc == pytest.approx(area(row.unit, row.auroc_class), rel=1e-9)
        assert row.preferred_auroc == pytest.approx(area(row.unit, row.preferred_class), rel=1e-9)
        assert row.preferred_auroc <= row.auroc


def test_queries__layers_stand_beside_their_controls(demo, trained):
    found = asked(trained[0], "SELECT layer, eta2_mean")
    assert found.layer.tolist() == [layer["layer"] for layer in demo[1]["layers"]]
    assert found.notna().all(axis=None)


def test_queries__the_one_after_a_run_asks_of_trained_units():
    assert "trained_units" in EXAMPLE_QUERY
    assert "LIMIT" in EXAMPLE_QUERY


def test_python__of_the_tables_keeps_the_trained_rows(pages, trained):
    page = pages("docs/tables.md")
    for block in RUN:
        if block.page == "docs/tables.md":
            page.type_until(block)
    assert set(page.names["units"].recording) == {trained[1].name}
