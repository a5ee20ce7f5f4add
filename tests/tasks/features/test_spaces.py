"""Which spaces a recording has, and the numbers in each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.features import stored_rows
from activarium.tasks.features.spaces import Space, choose_spaces, open_space, space_layers

EVERY = ("logits", "means", "pooled", "pixels")


def named(spaces):
    return [(space.features, space.layer) for space in spaces]


def test_choose_spaces__pixels_come_first_then_layers_in_order_then_logits(analysed):
    names = [layer.name for layer in analysed.recording.layers]
    found = named(choose_spaces(analysed.recording, EVERY, ["*"]))
    assert found == [
        ("pixels", "pixels"),
        ("pooled", "conv1"),
        ("pooled", "fc:2"),
        *(("means", name) for name in names),
        ("logits", "logits"),
    ]


def test_choose_spaces__auto_takes_the_first_the_middle_and_the_last_layer(analysed):
    names = [layer.name for layer in analysed.recording.layers]
    found = choose_spaces(analysed.recording, ("means",), ["auto"])
    assert [space.layer for space in found] == [names[0], names[len(names) // 2], names[-1]]
    assert named(choose_spaces(analysed.recording, ("pooled",), ["f*"])) == [("pooled", "fc:2")]


def test_choose_spaces__globs_say_nothing_where_no_layers_are_asked_for(analysed):
    found = choose_spaces(analysed.recording, ("pixels",), ["layer9.*"])
    assert named(found) == [("pixels", "pixels")]


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (("pooled",), r"'layer9\.\*' matches none of the layers with pooled .*: conv1, fc:2$"),
        (("means", "pooled"), r"conv1, fc:2; recorded layers: conv1, "),
    ],
)
def test_choose_spaces__glob_without_a_match_names_what_there_is(analysed, features, told):
    with pytest.raises(UserError, match=told) as caught:
        choose_spaces(analysed.recording, features, ["fc*", "layer9.*"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("most_bytes", [0, 2**28])
def test_open_space__gives_the_stored_numbers_in_the_order_asked_for(
    most_bytes, analysed, monkeypatch
):
    monkeypatch.setattr(stored_rows, "MOST_BYTES", most_bytes)
    recording, raw = analysed.recording, analysed.raw
    row = np.random.default_rng(0).permutation(np.flatnonzero(raw.valid))
    means = recording.layer_slices["layer1.0"]
    expected = {
        Space("pixels", "pixels"): raw.thumbnail.reshape(len(raw.label), -1) / np.float32(255),
        Space("pooled", "fc:2"): raw.pooled[:, 20:],
        Space("means", "layer1.0"): raw.responses[:, means],
        Space("logits", "logits"): raw.logits,
    }
    for space, values in expected.items():
        found = open_space(recording, space, row)
        assert (found.images, found.units) == (len(row), values.shape[1])
        np.testing.assert_array_equal(np.concatenate(list(found.blocks())), values[row])
        assert found.take(np.array([3])).dtype == np.float32


def test_space__is_named_alike_for_no_two_and_reads_well():
    spaces = [
        Space("pixels", "pixels"),
        Space("logits", "logits"),
        Space("pooled", "logits"),
        Space("means", "fc:2"),
        Space("pooled", "fc:2"),
    ]
    assert len({space.part for space in spaces}) == len(spaces)
    assert [str(space) for space in spaces[:2]] == ["pixels", "logits"]
    assert str(spaces[3]) == "channel means of fc:2"


def test_space_layers__of_what_is_not_kept_are_none(atlas, make_raw, write_recording):
    raw = make_raw()
    bare = replace(raw, thumbnail=raw.thumbnail[:, :0, :0], pooled=raw.pooled[:, :0])
    recording = write_recording(atlas, bare)
    assert space_layers(recording, "pixels") == space_layers(recording, "pooled") == []
    found = choose_spaces(recording, EVERY, ["auto"])
    assert {space.features for space in found} == {"means", "logits"}
