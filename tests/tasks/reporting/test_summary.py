"""The few numbers of a run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.reporting.query import query
from activarium.tasks.reporting.summary import answer, held_out, strongest_units, summarise
from activarium.tasks.reporting.verdicts import lead
from activarium.tasks.stores.parquet_files import read_table


def test_summarise__tells_what_the_tables_hold(analysed):
    found = summarise(analysed.atlas, ["toy", "untrained"])
    assert (found["recording"], found["controls"]) == ("toy", ["untrained"])
    assert (found["images"], found["units"], found["fdr"]) == (61, 20, 0.05)
    assert found["invalid_images"] == ["set/0005.png", "set/0059.png"]
    row = query(analysed.atlas, "SELECT accuracy FROM recordings WHERE recording = 'toy'")
    assert found["accuracy"] == row.to_pylist()[0]["accuracy"]
    assert [layer["layer"] for layer in found["layers"]] == ["conv1", "layer1.0", "fc:2"]


def test_summarise__layers_carry_what_the_tables_say_of_controls(analysed):
    sql = "SELECT * FROM layers WHERE recording = 'toy' ORDER BY depth"
    expected = query(analysed.atlas, sql).to_pylist()
    for found, row in zip(summarise(analysed.atlas, ["toy"])["layers"], expected, strict=True):
        assert found == {key: row[key] for key in found}
        assert {"eta2_mean_shuffled", "eta2_mean_untrained", "chance_verdict"} <= set(found)


LAYER = {
    "layer": "conv1", "kind": "conv", "eta2_mean": 0.5, "eta2_mean_shuffled": 0.01,
    "eta2_mean_sampled": 0.51, "eta2_mean_untrained": 0.2, "eta2_mean_untrained_low": 0.1,
    "eta2_mean_untrained_high": 0.3, "eta2_mean_untrained_fwer_p": 0.05, "draws": 19,
    "draw_images": 90, "permanova_p": 0.02, "chance_verdict": "beyond",
    "architecture_verdict": "beyond", "dead_fraction": 0.0, "duplicates_layer": None,
}  # fmt: skip


def test_answer__is_the_verdict_of_the_page():
    last = {**LAYER, "layer": "fc", "kind": "linear", "eta2_mean": 0.75}
    found = answer([LAYER, last], {"ant": 2, "bee": 3})
    assert found == lead([LAYER, last]).replace("\u202f", " ")
    assert found.startswith("In the last hidden layer, conv1, the class is associated with 50 %")


def test_answer__says_what_was_not_tested():
    alone = dict.fromkeys(LAYER) | {"layer": "conv1", "eta2_mean": 0.5, "dead_fraction": 0.0}
    assert answer([alone], {"ant": 2, "bee": 3}) == (
        "In the last layer, conv1, the class is associated with 50 % of a unit's variance: not "
        "tested against permuted labels."
    )
    nothing = dict.fromkeys(LAYER)
    assert answer([nothing], {}).startswith("no image has a class")
    assert answer([nothing], {"ant": 1, "bee": 1}).startswith("1 image per class: classes cannot")


def test_answer__dead_layers_say_nothing():
    dead = {**LAYER, "layer": "fc", "eta2_mean": 0.9, "dead_fraction": 1.0}
    assert "fc" not in answer([LAYER, dead], {"ant": 2, "bee": 3})
    assert answer([dead], {"ant": 2, "bee": 3}).startswith("every unit responds alike")


def test_summarise__is_plain_json(analysed):
    found = summarise(analysed.atlas, ["toy", "untrained"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_strongest_units__are_the_best_detectors_on_held_out_images(analysed):
    table = read_table(analysed.files[0]).to_pandas()
    found = strongest_units(analysed.atlas, "toy", 5)
    expected = sorted(table.crossfit_gain.dropna(), reverse=True)[:5]
    assert [unit["crossfit_gain"] for unit in found] == expected
    assert strongest_units(analysed.atlas, "toy", 0) == []
    # All but the units that never change.
    known = table.average_precision_class.notna().sum()
    assert len(strongest_units(analysed.atlas, "toy", 999)) == known


def test_held_out__says_where_it_is_not():
    unit = {"average_precision": 0.5, "average_precision_crossfit": None}
    assert held_out(unit) == "average precision 0.5000 (not held out)"
    assert (
        held_out(unit | {"average_precision_crossfit": 0.25}) == "held-out average precision 0.2500"
    )


def test_summarise__without_tables_says_what_to_run(atlas, make_raw, write_recording):
    write_recording(atlas, make_raw())
    with pytest.raises(UserError, match="run `activarium analyse toy`"):
        summarise(atlas, ["toy"])


def test_summarise__counts_outputs_and_classes(atlas, analysed, make_raw, write_recording):
    found = summarise(analysed.atlas, ["toy"])
    assert (found["outputs"], found["classes"]) == (5, 5)
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, logits=raw.logits[:, :3]))
    analyse(atlas, recording, config=AnalyseConfig(scheduler="synchronous"))
    found = summarise(atlas, ["toy"])
    assert (found["outputs"], found["classes"], found["accuracy"]) == (3, 5, None)
