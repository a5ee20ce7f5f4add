"""What a recording will hold, and which changes make it another recording."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from activarium.schemas.config import RecordConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layers import Layer
from activarium.schemas.layout import SHARD_BYTES
from activarium.tasks.capture.layer_maps import Tap
from activarium.tasks.capture.layers import ModelLayers
from activarium.tasks.capture.model_output import ModelOutput
from activarium.tasks.images.preprocessing import Preprocessing
from activarium.tasks.images.test_sets import TestSet
from activarium.tasks.recording.record_plan import (
    ModelIdentity,
    choose_pooled,
    coordinate_values,
    plan_recording,
)

STEM = Layer("conv1", "conv", 0, 8, 16, 16, "relu")
BLOCK = Layer("layer1.0", "block", 1, 8, 16, 16, "")
DEEP = Layer("layer2.0", "block", 2, 16, 3, 5, "")
POOL = Layer("avgpool", "pool", 3, 16, 1, 1, "")
OUTPUT = Layer("fc", "linear", 4, 3, 1, 1, "")
LAYERS = (STEM, BLOCK, DEEP, POOL, OUTPUT)


def model_of(layers, outputs):
    taps = tuple(Tap(layer, layer.name, leaf=0) for layer in layers)
    return ModelLayers(taps, ModelOutput(units=outputs), {})


MODEL = model_of(LAYERS, 3)

IDENTITY = ModelIdentity("Small Net", "epoch-003", "resnet18", "a" * 64)
PREPROCESSING = Preprocessing(None, 16, 16, 1, (0.5,), (0.25,))
CONFIG = RecordConfig()


def make_set(images=10, **changes):
    values = {
        "name": "shapes",
        "split": "test",
        "class_names": ("disc", "square", "star"),
        "ids": tuple(f"test/{index:03d}" for index in range(images)),
        "labels": np.arange(images, dtype=np.int32) % 3,
        "identity": "b" * 64,
        "colours": 1,
    }
    return TestSet(**(values | changes))


def plan(**changes):
    settings = {
        "model_layers": MODEL,
        "test_set": make_set(),
        "preprocessing": PREPROCESSING,
        "config": CONFIG,
        "identity": IDENTITY,
    } | changes
    return plan_recording(settings.pop("model_layers"), **settings)


def config(**settings):
    return {"config": RecordConfig(**settings)}


# --- pooled layers --------------------------------------------------------------------------


def names(pooled):
    return [each.layer.name for each in pooled]


def test_choose_pooled__auto_takes_the_last_layer_of_each_map_size_before_the_output():
    pooled = choose_pooled(LAYERS, 3, patterns=("auto",), grid=2)
    assert names(pooled) == ["layer1.0", "layer2.0", "avgpool"]
    assert [(each.rows, each.columns) for each in pooled] == [(2, 2), (2, 2), (1, 1)]
    assert [each.features for each in pooled] == [32, 64, 16]


def test_choose_pooled__auto_keeps_a_last_layer_that_is_not_the_output():
    assert names(choose_pooled(LAYERS[:3], 3, patterns=("auto",), grid=2)) == [
        "layer1.0",
        "layer2.0",
    ]


def test_choose_pooled__auto_keeps_the_only_layer():
    assert names(choose_pooled((OUTPUT,), 3, patterns=("auto",), grid=2)) == ["fc"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("layer*",), ["layer1.0", "layer2.0"]),
        (("fc", "conv1"), ["conv1", "fc"]),
        (("layer?.0", "layer1*"), ["layer1.0", "layer2.0"]),
        (("*",), [layer.name for layer in LAYERS]),
        ((), []),
    ],
)
def test_choose_pooled__globs_choose_in_the_models_order(patterns, expected):
    assert names(choose_pooled(LAYERS, 3, patterns=patterns, grid=2)) == expected


def test_choose_pooled__pattern_without_a_layer_is_refused():
    with pytest.raises(UserError, match=r"pooled_layers: no recorded layer matches 'layer9\*'"):
        choose_pooled(LAYERS, 3, patterns=("conv1", "layer9*"), grid=2)


@pytest.mark.parametrize(("grid", "expected"), [(1, (1, 1)), (4, (3, 4)), (32, (3, 5))])
def test_choose_pooled__grid_is_at_most_the_map(grid, expected):
    (pooled,) = choose_pooled(LAYERS, 3, patterns=("layer2.0",), grid=grid)
    assert (pooled.rows, pooled.columns) == expected


def test_choose_pooled__sequence_of_tokens_is_pooled_to_one():
    tokens = Layer("encoder", "block", 0, 12, 197, 1, "")
    (pooled,) = choose_pooled((tokens,), 3, patterns=("*",), grid=4)
    assert (pooled.rows, pooled.columns, pooled.features) == (1, 1, 12)


# --- fingerprint ----------------------------------------------------------------------------

OTHER_LAYERS = {
    "fewer layers": model_of(LAYERS[1:], 3),
    "other size of map": model_of((replace(STEM, height=8), *LAYERS[1:]), 3),
}
CHANGES = {
    "weights": {"identity": replace(IDENTITY, weights_sha256="c" * 64)},
    "architecture": {"identity": replace(IDENTITY, architecture="googlenet")},
    "images": {"test_set": make_set(identity="d" * 64)},
    "class names": {"test_set": make_set(class_names=("disc", "ring", "star"))},
    "mean": {"preprocessing": replace(PREPROCESSING, mean=(0.4,))},
    "sd": {"preprocessing": replace(PREPROCESSING, sd=(0.3,))},
    "resize": {"preprocessing": replace(PREPROCESSING, resize=20)},
    "size": {"preprocessing": replace(PREPROCESSING, height=20, width=20)},
    **{name: {"model_layers": layers} for name, layers in OTHER_LAYERS.items()},
    "reductions": config(reductions=("mean",)),
    "more reductions": config(reductions=("mean", "active", "max")),
    "pooled grid": config(pooled_grid=3),
    "pooled layers": config(pooled_layers=("layer1.0",)),
    "precision": config(precision="bfloat16"),
    "density": config(density=True),
    "thumbnail": config(thumbnail=8),
    "no thumbnail": config(thumbnail=0),
}
SAME = {
    "nothing": {},
    "batch size": config(batch_size=3),
    "device": config(device="cpu"),
    "engine": config(engine="hooks"),
    "shard size": config(shard_images=4),
    "compression": config(compression="zstd"),
    "order of reductions": config(reductions=("active", "mean")),
    "thumbnail larger than the images": config(thumbnail=64),
    "patterns that choose the same": config(pooled_layers=("layer?.0", "avgpool")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint__changes_with(change):
    before, after = plan(), plan(**CHANGES[change])
    assert before.fingerprint != after.fingerprint
    assert before.name != after.name


def test_fingerprint__no_two_changes_make_the_same_recording():
    found = {plan(**change).fingerprint for change in CHANGES.values()}
    assert len(found) == len(CHANGES)


@pytest.mark.parametrize("change", SAME)
def test_fingerprint__stays_with(change):
    before, after = plan(), plan(**SAME[change])
    assert before.fingerprint == after.fingerprint
    assert before.name == after.name


def test_plan__name_tells_model_checkpoint_set_and_split():
    found = plan()
    assert found.name == f"small-net-epoch-003-shapes-test-{found.fingerprint[:12]}"
    assert found.attributes["fingerprint"] == found.fingerprint
    assert found.attributes["model"] == "Small Net"


@pytest.mark.parametrize(
    "change",
    [
        {"identity": replace(IDENTITY, checkpoint="epoch-004")},
        {"test_set": make_set(name="other")},
        {"test_set": make_set(split="train")},
    ],
)
def test_plan__name_changes_with_checkpoint_set_and_split(change):
    assert plan(**change).name != plan().name


# --- sizes ----------------------------------------------------------------------------------


def test_plan__layout_counts_units_features_and_outputs():
    layout = plan().layout
    assert (layout.images, layout.units, layout.layers) == (10, 51, 5)
    assert (layout.features, layout.classes, layout.outputs) == (112, 3, 3)
    assert layout.thumbnail == (16, 16, 1)
    assert plan(**config(thumbnail=0)).layout.thumbnail == (0, 0, 0)


@pytest.mark.parametrize("images", [1, 2, 9, 10, 4_096, 4_097, 10_000])
@pytest.mark.parametrize("asked", [None, 1, 3, 4, 10_000])
def test_plan__shards_cover_all_images_and_are_as_large_as_asked_at_most(images, asked):
    layout = plan(test_set=make_set(images), **config(shard_images=asked)).layout
    shards = layout.shards()
    assert shards[0].start == 0
    assert shards[-1].stop == images
    assert all(a.stop == b.start for a, b in pairwise(shards))
    assert all(1 <= shard.images <= (asked or 4_096) for shard in shards)
    assert len(shards) == -(-images // min(asked or 4_096, images))


def test_plan__wide_recordings_have_smaller_shards():
    wide = model_of((replace(STEM, units=200_000), OUTPUT), 3)
    layout = plan(model_layers=wide, test_set=make_set(10_000), **config(pooled_layers=())).layout
    row = 2 * 4 * layout.units
    assert 1 <= layout.shard_images < 200
    assert layout.shard_images * row <= SHARD_BYTES


# --- coordinates ----------------------------------------------------------------------------


def test_coordinates__name_units_and_features_by_layer_and_channel():
    found = plan()
    values = coordinate_values(found, make_set())
    assert values["unit"][[0, 8, 50]].tolist() == ["conv1/0", "layer1.0/0", "fc/2"]
    assert values["unit_layer"][16] == "layer2.0"
    assert values["layer_offset"].tolist() == [0, 8, 16, 32, 48]
    assert values["feature"][[0, 1, 2, 3, 4]].tolist() == [
        "layer1.0/0@0,0", "layer1.0/0@0,1", "layer1.0/0@1,0", "layer1.0/0@1,1", "layer1.0/1@0,0",
    ]  # fmt: skip
    sizes = found.layout.sizes()
    for array in found.layout.arrays():
        if array.spec.phase == "create":
            assert values[array.spec.name].shape == tuple(sizes[each] for each in array.dimensions)


def test_coordinates__unlabelled_images_have_no_class():
    labels = np.array([2, -1, 0], np.int32)
    images = make_set(3, labels=labels)
    values = coordinate_values(plan(test_set=images), images)
    assert values["image_class"].tolist() == ["star", "", "disc"]
    assert values["label"].tolist() == [2, -1, 0]
