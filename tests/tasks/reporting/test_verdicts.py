"""The report page's verdicts in words, from small tables made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from activarium.schemas.tables import DEPTH_TRENDS, LAYERS
from activarium.tasks.reporting import verdicts as verdicts_module
from activarium.tasks.reporting.report_tables import RecordingTables
from activarium.tasks.reporting.verdicts import probability, verdicts

SOURCES = {".py", ".js", ".jinja"}


def table_of(description, rows):
    plain = {pa.string(): "", pa.int64(): 0, pa.float64(): 0.0}
    empty = {
        column.name: None if column.nullable else plain[column.type]
        for column in description.columns
    }
    return pa.Table.from_pylist([{**empty, **row} for row in rows], schema=description.schema())


def tables_of(eta2=(0.1, 0.3, 0.2), trends=(), **columns):
    rows = [
        {"layer": f"l{i}", "depth": i, "eta2_mean": value}
        | {name: values[i] for name, values in columns.items()}
        for i, value in enumerate(eta2)
    ]
    nothing = pa.table({})
    layers = table_of(LAYERS, rows)
    return RecordingTables("r", {}, nothing, layers, nothing, table_of(DEPTH_TRENDS, trends))


UNTRAINED = {
    "eta2_mean_sampled": (0.11, 0.31, 0.2), "eta2_mean_untrained": (0.1, 0.05, 0.1),
    "eta2_mean_untrained_low": (0.05, 0.02, 0.05), "eta2_mean_untrained_high": (0.2, 0.1, 0.15),
    "eta2_mean_untrained_fwer_p": (0.5, 0.05, 0.05), "draws": (19,) * 3,
    "draw_images": (1_000,) * 3,
    "architecture_verdict": ("not beyond", "beyond", "beyond"),
}  # fmt: skip
CONTROLLED = {
    "kind": ("conv", "conv", "linear"), "permanova_p": (0.001, 0.001, 0.2),
    "chance_verdict": ("beyond", "beyond", "not beyond"),
    "eta2_mean_shuffled": (0.01, 0.012, 0.01), **UNTRAINED,
}  # fmt: skip


def without(*names, **others):
    kept = {name: values for name, values in CONTROLLED.items() if name not in names}
    return tables_of(**kept | others)


def test_verdicts__name_the_last_hidden_layer_and_set_the_output_apart():
    found = verdicts(tables_of(**CONTROLLED))
    assert found["lead"] == (
        "In the last hidden layer, l1, the class is associated with 30\u202f% of a unit's variance, "
        "against 2\u202f% to 10\u202f% in 19 untrained networks (over 1,000 images, 31\u202f% in this "
        "one) and 1.2\u202f% with permuted labels: beyond permuted labels (p 1.0·10⁻³) and beyond "
        "untrained networks (p 0.050 over all layers). The output, l2, is trained on the classes and "
        "stands apart (20\u202f%). Beyond untrained networks, over all layers together: l1, l2."
    )
    assert (found["measured"], found["judged"], found["missing"]) == (True, True, [])


@pytest.mark.parametrize(
    ("missing", "sign"),
    [
        (("permanova_p", "chance_verdict"), "beyond chance"),
        (("eta2_mean_shuffled",), "permuted labels"),
        (tuple(UNTRAINED), "beyond the architecture"),
    ],
)
def test_verdicts__name_the_one_control_that_is_missing(missing, sign):
    found = verdicts(without(*missing))
    assert len(found["missing"]) == 1
    assert sign in found["missing"][0]


def test_verdicts__one_draw_and_few_permutations_are_undecided():
    changed = {
        "draws": (1,) * 3,
        "architecture_verdict": ("undecided",) * 3,
        "chance_verdict": ("undecided",) * 3,
    }
    lead = verdicts(without(**changed))["lead"]
    assert "5\u202f% in one draw of the untrained network" in lead
    assert "undecided against permuted labels (too few permutations)" in lead
    assert "undecided against untrained networks (one draw; 19 can decide)" in lead
    assert "Beyond" not in lead


def test_verdicts__without_any_control_still_tell_the_effect():
    found = verdicts(tables_of())
    assert found["lead"] == (
        "In the last layer, l2, the class is associated with 20\u202f% of a unit's variance: not "
        "tested against permuted labels."
    )
    assert (len(found["missing"]), found["judged"]) == (3, False)


def test_verdicts__without_classes_say_so():
    found = verdicts(tables_of(eta2=(None, None)))
    assert "classes are not compared" in found["lead"]
    assert (found["measured"], found["judged"], found["missing"]) == (False, False, [])


def test_verdicts__a_layer_of_dead_units_says_nothing():
    assert "In the last layer, l2" in verdicts(tables_of(dead_fraction=(0.0, 1.0, 0.5)))["lead"]
    assert verdicts(tables_of(dead_fraction=(1.0,) * 3))["lead"] == ""


TREND = {"measure": "eta2", "layers": 3, "spearman_rho": 0.5}
AMONG = {
    "spearman_rho_sampled": 0.5, "spearman_rho_untrained": 0.1, "spearman_rho_untrained_low": -0.2,
    "spearman_rho_untrained_high": 0.4, "spearman_p": 0.05, "spearman_verdict": "beyond",
}  # fmt: skip


def test_trends__are_descriptions_whose_p_comes_from_untrained_networks():
    plain = "Over depth, Spearman's \u03c1 of η² is 0.50{}: a description, as layers of one network resemble each other."
    assert verdicts(tables_of(trends=[TREND]))["trend"] == plain.format("")
    other = {**TREND, "measure": "auroc", "spearman_rho": -0.5}
    found = verdicts(tables_of(trends=[TREND | AMONG, other]))["trend"]
    assert found == plain.format(" (of AUROC \u22120.50)") + (
        " Among untrained networks η² has \u03c1 from \u22120.20 to 0.40; that of this one, over the "
        "same images 0.50, lies outside what they show (p 0.050)."
    )


@pytest.mark.parametrize(
    ("said", "words"), [("not beyond", "does not lie outside"), ("undecided", "Too few untrained")]
)
def test_trends__what_is_common_or_undecided_is_said(said, words):
    row = TREND | AMONG | {"spearman_verdict": said}
    assert words in verdicts(tables_of(trends=[row]))["trend"]


def test_trends__none_without_rows_or_values():
    assert verdicts(tables_of())["trend"] == ""
    assert verdicts(tables_of(trends=[TREND | {"spearman_rho": None}]))["trend"] == ""


BANNED = (
    "explains significantly", "strongest in", "not beyond architecture", "a class preference at",
    "the class explains", "layers and beyond",
)  # fmt: skip


def test_words__no_sentence_claims_more_than_was_tested():
    folder = Path(verdicts_module.__file__).parent
    texts = [path.read_text("utf-8") for path in folder.rglob("*") if path.suffix in SOURCES]
    root = Path(__file__).parents[3]
    texts += [(root / name).read_text("utf-8") for name in ("README.md", "flows/output.py")]
    for phrase in BANNED:
        assert not any(phrase in " ".join(text.split()) for text in texts), phrase


@pytest.mark.parametrize("p", [1.0, 0.0101, 0.0099, 9.96e-5, 1e-300])
def test_probability__reads_back_to_two_digits(p):
    text = probability(math.log10(p))
    usual = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    value = float(text.replace("·10", "e").translate(usual))
    np.testing.assert_allclose(value, p, rtol=0.05)
