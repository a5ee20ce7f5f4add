"""A layer that is plainly broken is told from one that is well, with the numbers that say so."""

from __future__ import annotations

import math

import pytest

from activarium.schemas.series_tables import HEALTH
from activarium.tasks.series.health import Vitals, layer_health

WELL = Vitals(dead_fraction=0.1, size=1.0, image_sd=0.3, extreme_fraction=0.01)


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        ({}, "healthy", None),
        ({"size": 999.0, "image_sd": 300.0}, "healthy", None),
        ({"size": 1001.0}, "exploding", "responses are 1,001 times as large as at first"),
        ({"size": math.inf}, "exploding", "responses are infinitely as large as at first"),
        ({"size": math.nan}, "exploding", "responses are infinitely as large as at first"),
        ({"dead_fraction": 0.5}, "dead", "50% of the units respond alike to every image"),
        ({"dead_fraction": 0.49}, "healthy", None),
        ({"image_sd": 0.002}, "collapsed", "images differ 0.0067 times as much as at first"),
        ({"image_sd": 0.0}, "collapsed", "images differ 0 times as much as at first"),
        ({"extreme_fraction": 0.93}, "saturated", "93% of the activations lie at the ends"),
        ({"extreme_fraction": math.nan}, "healthy", None),
        ({"dead_fraction": 1.0, "image_sd": 0.0}, "dead", "100% of the units respond alike"),
    ],
)
def test_layer_health__names_what_is_broken_and_why(change, state, reason):
    found, why = layer_health(Vitals(**{**vars(WELL), **change}), WELL)
    assert found == state
    assert found in HEALTH
    assert why is None if reason is None else reason in why


def test_layer_health__images_that_differ_by_nothing_of_a_large_response_are_collapsed():
    offset = Vitals(0.0, size=5_000.0, image_sd=0.3, extreme_fraction=0.0)
    first = Vitals(0.0, size=5_000.0, image_sd=0.3, extreme_fraction=0.0)
    assert layer_health(offset, first) == (
        "collapsed",
        "images differ by 6e-05 times the size of the responses",
    )


def test_layer_health__layer_that_begins_at_zero_is_not_called_exploding():
    nothing = Vitals(0.0, size=0.0, image_sd=0.0, extreme_fraction=math.nan)
    assert layer_health(WELL, nothing) == ("healthy", None)
