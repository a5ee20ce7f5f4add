"""Opening recordings."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.stores.recording import open_recording


def test_open_recording__begins_with_is_enough_where_it_is_one(analysed):
    assert open_recording(analysed.atlas, "to").name == "toy"
    with pytest.raises(UserError, match="there are: toy, untrained"):
        open_recording(analysed.atlas, "nothing")


def test_open_recording__incomplete_recording_is_refused(atlas, make_raw, write_recording):
    write_recording(atlas, make_raw(), complete=False)
    with pytest.raises(UserError, match="recording toy is not complete"):
        open_recording(atlas, "toy")


def test_recording__layers_own_their_columns(analysed):
    recording, raw = analysed.recording, analysed.raw
    assert recording.layers == raw.layers
    assert recording.units == 20
    assert recording.layer_slices == {
        "conv1": slice(0, 6), "layer1.0": slice(6, 15), "fc:2": slice(15, 20),
    }  # fmt: skip
    np.testing.assert_array_equal(recording.columns("channel_mean", 6, 9), raw.responses[:, 6:9])


def test_recording__missing_array_is_an_error_that_names_it(analysed):
    assert not analysed.recording.has("channel_sd")
    with pytest.raises(UserError, match="recording toy has no array 'channel_sd'"):
        analysed.recording.read("channel_sd")
