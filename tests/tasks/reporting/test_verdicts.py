"""The report page's verdicts in words, from small tables made by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from activarium.schemas.tables import DEPTH_TRENDS, LAYERS
from activarium.tasks.reporting.report_tables import RecordingTables
from activarium.tasks.reporting.report_verdicts import probability, verdicts

LABELS = ("trained", "untrained")
TREND = {
    "layers": 3, "units": 1_200, "spearman_rho": 0.5, "spearman_p": 0.25, "jonckheere_j": 9.0,
    "jonckheere_z": 3.21, "jonckheere_p": 0.001, "jonckheere_log10p": -3.0,
}  # fmt: skip


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


CONTROLLED = {
    "permanova_p": (0.001, 0.001, 0.2), "beyond_chance": (True, True, False),
    "architecture_p": (0.5, 0.01, 0.01), "beyond_architecture": (False, True, True),
    "eta2_mean_untrained": (0.1, 0.05, 0.1), "eta2_mean_shuffled": (0.01, 0.012, 0.01),
}  # fmt: skip


def words(*recordings):
    return verdicts(recordings, LABELS[: len(recordings)])


def test_verdicts__count_layers_and_name_the_largest_effect():
    found = words(tables_of(**CONTROLLED))
    assert found["lead"] == (
        "The classes lie apart beyond chance in 2 of 3 layers, and the class explains "
        "significantly more than in the untrained network in 2 of 3 layers. The effect is largest "
        "in l1: the class explains 30\u202f% of a unit's variance there, against 5\u202f% without "
        "training and 1.2\u202f% with permuted labels."
    )
    assert (found["measured"], found["judged"], found["missing"]) == (True, True, [])


@pytest.mark.parametrize(
    ("without", "sign"),
    [
        (("permanova_p", "beyond_chance"), "beyond chance"),
        (("eta2_mean_shuffled",), "permuted labels"),
        (("architecture_p", "beyond_architecture"), "beyond the architecture"),
    ],
)
def test_verdicts__name_the_one_control_that_is_missing(without, sign):
    kept = {name: values for name, values in CONTROLLED.items() if name not in without}
    found = words(tables_of(**kept))
    assert len(found["missing"]) == 1
    assert sign in found["missing"][0]
    assert f"{sign} in" not in found["lead"]


def test_verdicts__without_any_control_still_tell_the_effect():
    found = words(tables_of())
    assert found["lead"].startswith("The effect is largest in l1: the class explains 30\u202f%")
    assert "against" not in found["lead"]
    assert (len(found["missing"]), found["judged"]) == (3, False)


def test_verdicts__without_classes_say_so():
    found = words(tables_of(eta2=(None, None)))
    assert "classes are not compared" in found["lead"]
    assert (found["measured"], found["judged"], found["missing"]) == (False, False, [])


def test_verdicts__layers_that_could_not_be_tested_do_not_count():
    columns = {"permanova_p": (0.001, None, 0.001), "beyond_chance": (True, None, True)}
    assert words(tables_of(**columns))["lead"].startswith(
        "The classes lie apart beyond chance in all 2 layers. "
    )


def test_verdicts__none_and_a_single_layer():
    three = {"permanova_p": (0.5,) * 3, "beyond_chance": (False,) * 3}
    one = {"permanova_p": (0.5,), "beyond_chance": (False,)}
    assert "beyond chance in none of 3 layers." in words(tables_of(**three))["lead"]
    assert "beyond chance in no layer." in words(tables_of(eta2=(0.1,), **one))["lead"]


def test_verdicts__a_layer_of_dead_units_is_not_the_largest_effect():
    found = words(tables_of(dead_fraction=(0.0, 1.0, 0.5)))
    assert "largest in l2" in found["lead"]
    assert "largest" not in words(tables_of(dead_fraction=(1.0,) * 3))["lead"]


def test_trends__are_told_by_measure_and_set_beside_the_control():
    trends = [
        {**TREND, "measure": "eta2"},
        {**TREND, "measure": "auroc"},
        {**TREND, "measure": "selectivity"},
        {**TREND, "measure": "sparseness", "jonckheere_z": -3.0, "spearman_rho": -0.5},
        {**TREND, "measure": "mutual_information", "jonckheere_p": 0.4},
    ]
    control = tables_of(trends=[{**TREND, "measure": "eta2", "spearman_rho": -0.5}])
    assert words(tables_of(trends=trends), control)["trend"] == (
        "With depth η² grows (Spearman's \u03c1 0.50 over 3 layers, p 0.250; Jonckheere\u2013Terpstra z 3.2 "
        "over 1,200 units, p 1.0·10⁻³); in the untrained network \u03c1 is \u22120.50. AUROC and "
        "selectivity grow with depth. Sparseness falls with depth. Mutual information shows no "
        "steady trend."
    )


@pytest.mark.parametrize(
    "change",
    [
        {"spearman_rho": -0.1},
        {"jonckheere_p": 0.06},
        {"jonckheere_z": None, "jonckheere_p": None},
        {"spearman_rho": 0.0},
    ],
)
def test_trends__what_units_and_layers_do_not_agree_on_is_no_trend(change):
    found = words(tables_of(trends=[{**TREND, "measure": "eta2", **change}]))
    assert found["trend"].startswith("With depth η² shows no steady trend")


def test_trends__none_without_rows():
    assert words(tables_of())["trend"] == ""


def test_trends__values_that_are_not_defined_are_left_out():
    nothing = dict.fromkeys([name for name in TREND if name not in ("layers", "units")])
    nothing["jonckheere_j"] = None
    found = words(tables_of(trends=[{**TREND, **nothing, "measure": "eta2"}]))
    assert found["trend"] == "With depth η² shows no steady trend."


@pytest.mark.parametrize("p", [1.0, 0.0101, 0.0099, 9.96e-5, 1e-300])
def test_probability__reads_back_to_two_digits(p):
    text = probability(math.log10(p))
    usual = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    value = float(text.replace("·10", "e").translate(usual))
    np.testing.assert_allclose(value, p, rtol=0.05)
