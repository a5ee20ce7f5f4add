"""What changes from checkpoint to checkpoint, worked by hand and against NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from activarium.schemas.density import NEAR_ZERO
from activarium.schemas.series_tables import LAYER_CHANGES
from activarium.tasks.series.layer_changes import Checkpoint, layer_changes

CLASSES = ("cat", "dog")


def checkpoint(step, *, scale=1.0, preferred=("cat", "dog", "dog"), density=(), cka=None):
    """Two layers: one of two units, one of a single unit."""
    rng = np.random.default_rng(step)
    units = pd.DataFrame(
        {
            "layer": ["conv", "conv", "fc"],
            "channel": [0, 1, 0],
            "response_mean": scale * np.array([1.0, 3.0, 2.0]),
            "response_sd": scale * np.array([0.5, 0.5, 1.0]),
            "is_dead": [False, scale < 0.001, False],
            "active_fraction": rng.random(3),
            "preferred_class": preferred,
        }
    )
    layers = pd.DataFrame(
        {
            "layer": ["conv", "fc"],
            "depth": [0, 1],
            "units": [2, 1],
            "dead_fraction": units.groupby("layer")["is_dead"].mean().to_numpy(),
            "selective_fraction": [0.5, 1.0],
            "selectivity_mean": [0.25, 0.5],
            "eta2_mean": [0.125, 0.75],
        }
    )
    counts = pd.DataFrame(density, columns=["layer", "bin", "activations"])
    return Checkpoint(f"step-{step}", step, layers, units, counts, cka or {})


def test_layer_changes__are_whole_tables_in_the_order_of_steps():
    found = layer_changes([checkpoint(0), checkpoint(10)], "small")
    assert [each["step"].tolist() for each in found] == [[0, 0], [10, 10]]
    for each in found:
        assert set(each) == {column.name for column in LAYER_CHANGES.columns}
        assert each["series"] == ["small", "small"]


def test_layer_changes__spread_is_that_of_all_responses_of_units_and_images():
    rng = np.random.default_rng(0)
    responses = rng.normal([1.0, 4.0], [0.5, 2.0], (1_000, 2))
    one = checkpoint(0)
    sd = responses.std(axis=0)
    units = one.units.assign(response_mean=[*responses.mean(axis=0), 2.0], response_sd=[*sd, 1.0])
    found = layer_changes([Checkpoint("r", 0, one.layers, units, one.density, {})], "small")[0]
    assert found["response_mean"][0] == pytest.approx(responses.mean(), rel=1e-12)
    assert found["response_sd"][0] == pytest.approx(responses.std(), rel=1e-12)
    assert found["image_sd"][0] == pytest.approx(np.sqrt((sd**2).mean()), rel=1e-12)


def test_layer_changes__kept_classes_are_counted_against_the_last_and_the_one_before():
    steps = [
        checkpoint(0, preferred=("cat", "cat", None)),
        checkpoint(1, preferred=("dog", "cat", "dog")),
        checkpoint(2, preferred=("dog", "dog", "dog")),
    ]
    kept = [each["class_kept"] for each in layer_changes(steps, "small")]
    since = [each["class_kept_since"] for each in layer_changes(steps, "small")]
    np.testing.assert_array_equal(kept, [[0.0, np.nan], [0.5, 1.0], [1.0, 1.0]])
    np.testing.assert_array_equal(since, [[np.nan, np.nan], [0.5, np.nan], [0.5, 1.0]])


def test_layer_changes__one_image_has_no_spread_and_says_nothing_of_health():
    steps = [checkpoint(0), checkpoint(5, scale=2.0)]
    alone = [replace(each, units=each.units.assign(response_sd=np.nan)) for each in steps]
    for found in layer_changes(alone, "small"):
        assert np.isnan(found["image_sd"]).all()
        assert found["health"] == ["healthy", "healthy"]


def test_layer_changes__collapse_is_judged_against_the_first_step():
    found = layer_changes([checkpoint(0), checkpoint(5, scale=0.005)], "small")
    assert found[0]["health"] == ["healthy", "healthy"]
    assert found[1]["health"] == ["collapsed", "collapsed"]
    assert found[1]["health_reason"][0] == "images differ 0.005 times as much as at first"


def test_layer_changes__density_gives_the_shares_around_zero_and_at_the_ends():
    zeros, ones = NEAR_ZERO, NEAR_ZERO + 120
    spread = [("conv", zeros, 60), ("conv", ones - 40, 1), ("conv", ones, 39)]
    flat = [("fc", ones, 5), ("fc", ones + 1, 5)]
    found = layer_changes([checkpoint(0, density=[*spread, *flat])], "small")[0]
    np.testing.assert_array_equal(found["near_zero_fraction"], [0.6, 0.0])
    # The bins of fc in use are so few that all of them are its ends.
    np.testing.assert_array_equal(found["extreme_fraction"], [0.4, 0.0])


def test_layer_changes__layers_whose_activations_crowd_at_both_ends_are_saturated():
    low, high = NEAR_ZERO - 129, NEAR_ZERO + 129
    counts = [("conv", low, 50), ("conv", NEAR_ZERO, 4), ("conv", high, 46)]
    found = layer_changes([checkpoint(0, density=counts)], "small")[0]
    assert found["health"] == ["saturated", "healthy"]
    assert np.isnan(found["extreme_fraction"][1])


def test_layer_changes__cka_is_that_of_the_tables_where_it_is_known():
    found = layer_changes([checkpoint(0, cka={"fc": 0.5})], "small")[0]
    np.testing.assert_array_equal(found["cka_to_last"], [np.nan, 0.5])


def test_layer_changes__other_units_are_refused():
    one = checkpoint(1)
    less = Checkpoint("less", 1, one.layers, one.units.iloc[:2], one.density, {})
    with pytest.raises(ValueError, match="units of step-0 in less"):
        layer_changes([checkpoint(0), less], "small")
