"""The report page's pairs of classes, from small tables made by hand."""

from __future__ import annotations

from base64 import b64decode
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.tables import CLASS_PAIRS, DEPTH_TRENDS, LAYERS
from activarium.tasks.reporting import report_pairs
from activarium.tasks.reporting.report_pairs import pairs_payload
from activarium.tasks.reporting.report_tables import RecordingTables

CLASSES = ["ant", "bee", "cat", "dog"]
COSINE = dict(zip(combinations(range(4), 2), (0.9, -0.2, -0.3, -0.4, -0.9, 0.8), strict=True))
"""Ant is like bee, cat like dog; bee and dog lie farthest apart."""


def pair_rows(layer, cosine, classes=CLASSES, **changes):
    return [
        {
            "layer": layer, "depth": 0, "class": classes[b], "other_class": classes[a],
            "centroid_cosine": value, "centroid_distance": 1.0, "fisher_ratio": 1.0,
            "best_auroc": 0.75 - value / 10 if value is not None else None,
            "best_unit": f"{layer}/1", "separating_units": a, "units": 2, **changes,
        }
        for (a, b), value in cosine.items()
    ]  # fmt: skip


def payload_of(tmp_path, rows, layers=("l0",), kinds=None, classes=CLASSES):
    atlas = Atlas(tmp_path)
    path = atlas.table_file(CLASS_PAIRS, "r")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=CLASS_PAIRS.schema()), path)
    units = pa.table({"unit": [f"{layer}/{channel}" for layer in layers for channel in range(2)]})
    known = pa.table({"layer": list(layers), "kind": list(kinds or ["conv"] * len(layers))})
    trends = DEPTH_TRENDS.schema().empty_table()
    assert set(known.column_names) <= set(LAYERS.schema().names)
    return pairs_payload(
        atlas, RecordingTables("r", {}, pa.table({}), known, units, trends), classes
    )


def unpacked(packed):
    values = np.frombuffer(b64decode(packed["data"]), "<u2").astype(float)
    return np.where(values == 65_535, np.nan, values / 65_534)


def test_pairs__matrix_holds_every_pair_in_the_order_of_the_classes(tmp_path):
    payload = payload_of(tmp_path, pair_rows("l0", COSINE)[::-1])
    (layer,) = payload["layers"]
    cosine = np.array(list(COSINE.values()))
    assert payload["classes"] == [0, 1, 2, 3]
    assert payload["complete"]
    np.testing.assert_allclose(2 * unpacked(layer["cosine"]) - 1, cosine, atol=4e-5)
    np.testing.assert_allclose(unpacked(layer["auroc"]), 0.75 - cosine / 10, atol=2e-5)


def test_pairs__names_the_nearest_the_farthest_and_the_hardest(tmp_path):
    (layer,) = payload_of(tmp_path, pair_rows("l0", COSINE))["layers"]
    assert [pair["classes"] for pair in layer["nearest"]] == [[0, 1], [2, 3], [0, 2]]
    assert [pair["classes"] for pair in layer["farthest"]] == [[1, 3], [1, 2], [0, 3]]
    assert [pair["classes"] for pair in layer["hardest"]] == [[0, 1]]
    assert layer["nearest"][0] == {"classes": [0, 1], "cosine": 0.9, "auroc": 0.66, "unit": 1}
    # By the unit counts above, the pairs of the first class are told apart by none.
    assert (layer["pairs"], layer["told"]) == (6, 3)


def test_pairs__like_classes_stand_side_by_side(tmp_path):
    cosine = dict.fromkeys(combinations(range(4), 2), -0.5) | {(0, 3): 0.9, (1, 2): 0.9}
    (layer,) = payload_of(tmp_path, pair_rows("l0", cosine))["layers"]
    order = layer["order"]
    assert sorted(order) == [0, 1, 2, 3]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 3}), frozenset({1, 2})}


def test_pairs__equal_cosines_are_ordered_by_how_hard_they_are(tmp_path):
    rows = pair_rows("l0", dict.fromkeys(combinations(range(4), 2), 0.5))
    rows[4]["best_auroc"] = 0.6
    (layer,) = payload_of(tmp_path, rows)["layers"]
    assert layer["nearest"][0]["classes"] == [1, 3]


def test_pairs__two_classes_have_one_pair_and_no_farthest(tmp_path):
    payload = payload_of(tmp_path, pair_rows("l0", {(0, 1): -1.0}))
    (layer,) = payload["layers"]
    assert payload["classes"] == [0, 1]
    assert (len(layer["nearest"]), layer["farthest"], layer["order"]) == (1, [], [0, 1])


def test_pairs__a_class_without_images_is_left_out(tmp_path):
    rows = pair_rows("l0", {pair: (None if 3 in pair else v) for pair, v in COSINE.items()})
    payload = payload_of(tmp_path, rows)
    assert payload["classes"] == [0, 1, 2]
    assert payload["layers"][0]["pairs"] == 3


def test_pairs__a_layer_of_constant_units_has_neither_matrix_nor_words(tmp_path):
    constant = dict.fromkeys(COSINE)
    rows = pair_rows("l0", COSINE) + pair_rows("l1", constant, best_unit=None)
    first, second = payload_of(tmp_path, rows, layers=("l0", "l1"))["layers"]
    assert "cosine" in first
    assert "cosine" not in second
    assert (second["pairs"], second["nearest"], second["hardest"]) == (0, [], [])


def test_pairs__without_cosines_the_hardest_is_still_named(tmp_path):
    rows = pair_rows("l0", COSINE, centroid_cosine=None)
    (layer,) = payload_of(tmp_path, rows)["layers"]
    assert layer["nearest"] == layer["farthest"] == []
    assert layer["hardest"][0] == {"classes": [0, 1], "cosine": None, "auroc": 0.66, "unit": 1}
    assert sorted(layer["order"]) == [0, 1, 2, 3]


def test_pairs__of_near_classes_only_have_words_but_no_matrix(tmp_path):
    near = {pair: value for pair, value in COSINE.items() if pair != (1, 3)}
    payload = payload_of(tmp_path, pair_rows("l0", near))
    (layer,) = payload["layers"]
    assert not payload["complete"]
    assert "cosine" not in layer
    assert (len(layer["nearest"]), layer["farthest"]) == (3, [])


def test_pairs__none_compared_is_nothing(tmp_path):
    assert payload_of(tmp_path, []) is None


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [(["conv", "block", "block", "linear"], 2), (["conv", "conv", "conv", "linear"], 3)],
)
def test_pairs__last_block_is_shown_first(tmp_path, kinds, chosen):
    layers = [f"l{i}" for i in range(4)]
    rows = [row for layer in layers for row in pair_rows(layer, COSINE)]
    assert payload_of(tmp_path, rows, layers, kinds)["chosen"] == chosen


def test_pairs__matrices_of_many_layers_stay_within_their_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(report_pairs, "_MATRIX_BYTES", 100)
    layers = [f"l{i}" for i in range(9)]
    rows = [row for layer in layers for row in pair_rows(layer, COSINE)]
    kinds = ["conv"] * 6 + ["block"] + ["linear"] * 2
    found = payload_of(tmp_path, rows, layers, kinds)["layers"]
    # Four fit, evenly spread; the one shown first comes on top.
    assert [i for i, layer in enumerate(found) if "cosine" in layer] == [0, 3, 5, 6, 8]
    assert all(len(layer["nearest"]) == 3 for layer in found)


def test_pairs__more_than_a_hundred_classes_have_no_matrix(tmp_path):
    classes = [f"class {i}" for i in range(101)]
    cosine = {pair: 0.5 - pair[1] / 200 for pair in combinations(range(101), 2)}
    payload = payload_of(tmp_path, pair_rows("l0", cosine, classes), classes=classes)
    assert not payload["complete"]
    assert payload["layers"][0]["nearest"][0]["classes"] == [0, 1]
