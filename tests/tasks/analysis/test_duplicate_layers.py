"""Layers that repeat an earlier one: which are found, and that their units count once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.layers import Layer
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.duplicate_layers import duplicate_layers, original_units

FOUR = tuple(
    Layer(name, "conv", depth, 6, 4, 4, "relu") for depth, name in enumerate(("a", "b", "c", "d"))
)


@pytest.fixture
def raw(make_raw):
    """Return four layers of six units each; the units of each respond in their own way."""
    return make_raw(seed=5, layers=FOUR)


def found(atlas, write_recording, raw):
    recording = write_recording(atlas, raw)
    rows = np.flatnonzero(raw.valid)
    values = raw.responses[rows]
    units = {"response_min": values.min(axis=0), "response_max": values.max(axis=0)}
    return duplicate_layers(recording, rows, units)


def test_duplicate_layers__different_layers_are_none(atlas, write_recording, raw):
    assert found(atlas, write_recording, raw) == [None] * 4


def test_duplicate_layers__copy_up_to_rounding_names_the_first(atlas, write_recording, raw):
    values = raw.responses
    values[:, 12:18] = values[:, :6] * np.float32(1 + 1e-7)
    values[:, 18:24] = values[:, 12:18] * np.float32(1 - 1e-7)
    assert found(atlas, write_recording, raw) == [None, None, "a", "a"]


def test_duplicate_layers__one_response_of_one_unit_differs(atlas, write_recording, raw):
    values = raw.responses
    values[:, 12:18] = values[:, :6]
    inner = np.argsort(values[:, 2])[len(values) // 2]
    # Least and largest responses stay, so that only reading the values tells.
    values[inner, 14] += 0.01 * np.ptp(values[raw.valid, 2])
    assert found(atlas, write_recording, raw) == [None] * 4


def test_duplicate_layers__one_loud_unit_hides_no_difference(atlas, write_recording, raw):
    values = raw.responses
    values[:, 0] *= 0
    values[:, 0] += 1e6 * np.arange(len(values), dtype=np.float32)
    values[:, 12:18] = values[:, :6]
    inner = np.argsort(values[:, 2])[len(values) // 2]
    values[inner, 14] += 0.01 * np.ptp(values[raw.valid, 2])
    assert found(atlas, write_recording, raw) == [None] * 4


def test_duplicate_layers__layers_in_which_nothing_varies_are_none(atlas, write_recording, raw):
    raw.responses[raw.valid, :12] = 0
    assert found(atlas, write_recording, raw) == [None] * 4


def test_original_units__by_hand():
    layers = [replace(layer, units=2) for layer in FOUR]
    assert original_units(layers, [None, None, "b", "a"]).tolist() == [0, 1, 2, 3, 2, 3, 0, 1]


def test_analyse__copies_leave_the_family_of_the_units(atlas, write_recording, raw, stored):
    raw.responses[:, 12:18] = raw.responses[:, :6]
    kept = np.r_[:12, 18:24]
    without = replace(
        raw,
        responses=raw.responses[:, kept],
        active=raw.active[:, kept],
        layers=(*FOUR[:2], FOUR[3]),
    )
    config = AnalyseConfig(scheduler="synchronous", permutations=99)
    for name, each in (("with", raw), ("without", without)):
        analyse(atlas, write_recording(atlas, each, name), config=config)
    layers = stored(atlas, "with").frame("layers")
    assert layers.duplicates_layer.fillna("").tolist() == ["", "", "a", ""]
    units = stored(atlas, "with").frame("units").set_index("unit")
    alone = stored(atlas, "without").frame("units").set_index("unit")
    for name in ("q_value", "by_q_value", "fwer_p"):
        assert units.loc[alone.index, name].tolist() == alone[name].tolist()
        copies, copied = (units[name][units.layer == layer].tolist() for layer in ("c", "a"))
        assert copies == copied
