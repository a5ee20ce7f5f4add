"""Many untrained networks over one sample of images: which images, which networks, and what is kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RunConfig, TestSetConfig
from activarium.schemas.errors import IncompleteRecordingError, UserError
from activarium.schemas.layout import draw_image_id, drawn_image
from activarium.schemas.record_config import UntrainedConfig
from activarium.tasks.images.test_sets import load_test_set
from activarium.tasks.recording.checkpoints import (
    Images,
    choose_checkpoint,
    load_images,
    record_checkpoint,
)
from activarium.tasks.recording.draws import (
    choose_draws,
    class_quotas,
    record_draws,
    repeated,
    sample_images,
    sampled,
)
from activarium.tasks.recording.share import Share
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import open_recording
from activarium.tasks.stores.verify import verify

DRAWS, IMAGES = 4, 23
SMALL = {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"}


def config_of(model=None, **sections):
    return RunConfig.model_validate(
        {
            "name": "run",
            "test_set": {"source": "digits", "limit": 120},
            "preprocessing": {"size": 12},
            "model": model or SMALL,
            "record": {"device": "cpu", "threads": 1, "batch_size": 5},
            "untrained": {"draws": DRAWS, "images": IMAGES},
        }
        | sections
    )


CONFIG = config_of()


@pytest.fixture
def atlas(tmp_path):
    return Atlas(tmp_path / "atlas")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return a complete recording of draws; nobody may change it."""
    atlas = Atlas(tmp_path_factory.mktemp("drawn"))
    return open_recording(atlas, record_draws(atlas, CONFIG).recording, draws=True)


def objects(recording):
    """Return the bytes of what shards store, by key."""
    place = recording.place
    return {key: place.read(key) for key in place.sizes() if "/c/" in key}


# --- the sample -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "images", "expected"),
    [
        ([9, 9, 9], 6, [2, 2, 2]),
        ([9, 9, 9], 8, [3, 3, 2]),
        ([9, 2, 9], 8, [3, 2, 3]),
        ([9, 1, 9], 9, [4, 1, 4]),
        ([3, 3], 100, [3, 3]),
        ([9, 0, 9], 5, [3, 0, 2]),
        ([1, 5, 5, 5], 4, [0, 2, 2, 0]),
        ([1, 1, 5], 2, [0, 0, 2]),
    ],
)
def test_class_quotas__by_hand(available, images, expected):
    assert class_quotas(np.array(available), images).tolist() == expected


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(2, 400))
def test_class_quotas__are_as_even_as_the_classes_allow(available, images):
    available = np.array(available)
    quotas = class_quotas(available, images)
    assert (quotas <= available).all()
    assert quotas.sum() <= images
    if np.minimum(available, 2).sum() <= images:
        assert quotas.sum() == min(images, available.sum())
        short = quotas[quotas < available]
        assert quotas.max() - (short.min() if len(short) else quotas.max()) <= 1
    else:
        assert set(quotas.tolist()) <= {0, 2}
        assert quotas.sum() >= min(images - images % 2, 2 * (available >= 2).sum())


def test_sample_images__follows_from_ids_and_not_from_their_order():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 7, 300).astype(np.int32)
    ids = [f"{index:03d}" for index in range(300)]
    names = [f"class {index}" for index in range(7)]
    order = rng.permutation(300)

    def chosen(at, seed=5):
        there = [ids[row] for row in at]
        rows = sample_images(there, labels[at], names, images=45, seed=seed)
        return [there[row] for row in rows]

    one, other = chosen(np.arange(300)), chosen(order)
    assert set(one) == set(other)
    assert one != chosen(np.arange(300), seed=6)
    codes = labels[[int(each) for each in one]]
    assert sorted(np.bincount(codes, minlength=7)) == [6, 6, 6, 6, 7, 7, 7]


def test_sample_images__without_two_of_a_class_is_refused():
    with pytest.raises(UserError, match="no two labelled images are of one class"):
        sample_images(["a", "b"], np.array([0, -1], np.int32), ["x"], images=10, seed=0)


def test_repeated__holds_the_same_images_under_every_draw():
    whole = load_test_set(TestSetConfig(source="digits", limit=50), datasets=None)
    sample = sampled(whole, images=12, seed=1)
    found = repeated(sample, 3)
    assert len(found) == 36
    assert found.labels.tolist() == sample.labels.tolist() * 3
    assert drawn_image(found.ids[2 * 12 + 7]) == (2, sample.ids[7])
    for row in (0, 12, 24):
        np.testing.assert_array_equal(np.asarray(found.image(row + 5)), sample.pixels[5, :, :, 0])


@given(st.integers(0, 9998), st.text())
def test_drawn_image__is_the_inverse(draw, image):
    assert drawn_image(draw_image_id(draw, image)) == (draw, image)


def test_drawn_image__refuses_ids_of_ordinary_recordings():
    with pytest.raises(ValueError, match="draw-0003"):
        drawn_image("test/00012")


def test_seeds__leave_out_the_models_own():
    assert UntrainedConfig(draws=3, seed=4).seeds(own=5) == (4, 6, 7)
    assert UntrainedConfig(draws=3, seed=4).seeds(own=0) == (4, 5, 6)
    assert UntrainedConfig(draws=2, seed=2**32 - 1).seeds(own=0) == (2**32 - 1, 1)


# --- what is recorded -----------------------------------------------------------------------


def test_record_draws__rows_are_draw_major_and_means_alone_are_kept(drawn):
    assert (drawn.draws, drawn.images_per_draw, drawn.images) == (DRAWS, IMAGES, DRAWS * IMAGES)
    assert "-untrained-4-draws-" in drawn.name
    assert drawn.attributes["draw_seeds"] == [1, 2, 3, 4]
    assert [drawn_image(each)[0] for each in drawn.image_names] == np.repeat(range(4), 23).tolist()
    assert drawn.has("channel_mean")
    for array in ("pooled", "thumbnail", "channel_active", "density"):
        assert not drawn.has(array)
    assert [each.stop - each.start for each in drawn.receipts] == [IMAGES] * DRAWS


def test_record_draws__each_draw_is_what_its_seed_records_alone(drawn, atlas):
    images = load_images(atlas, CONFIG)
    sample = sampled(images.test_set, images=IMAGES, seed=1)
    means = drawn.read("channel_mean").reshape(DRAWS, IMAGES, -1)
    for draw, seed in enumerate(drawn.attributes["draw_seeds"]):
        record = {"device": "cpu", "threads": 1, "batch_size": 5, "reductions": ["mean"]}
        record["pooled_layers"] = []  # as of draws: what is captured may decide the last bits
        config = config_of({**SMALL, "seed": seed}, record=record)
        alone = Images(sample, images.preprocessing, load_images(atlas, config).source)
        name = record_checkpoint(
            atlas, config, choose_checkpoint(config.model), images=alone
        ).recording
        np.testing.assert_array_equal(means[draw], open_recording(atlas, name).read("channel_mean"))
    assert not np.allclose(means[0], means[1])


def test_record_draws__folded_batch_norms_follow_the_weights(atlas):
    """A ResNet's batch norms are folded into its convolutions, whose weights each draw has anew."""
    model = {"architecture": "resnet18", "width": 2, "weights": "untrained"}
    few = {"untrained": {"draws": 2, "images": 10}}
    hooks = {"device": "cpu", "threads": 1, "engine": "hooks"}
    found = []
    for name, record in (("traced", {**hooks, "engine": "auto"}), ("hooks", hooks)):
        own = Atlas(atlas.root / name)
        receipt = record_draws(own, config_of(model, record=record, **few))
        found.append(open_recording(own, receipt.recording, draws=True))
    assert [each.attributes["engine"] for each in found] == ["traced", "hooks"]
    traced, by_hooks = (each.read("channel_mean") for each in found)
    np.testing.assert_allclose(traced, by_hooks, atol=1e-5 * np.abs(by_hooks).max())
    assert not np.allclose(traced[:10], traced[10:], rtol=1e-2)


@pytest.mark.parametrize(
    "changed",
    [
        {"untrained": {"draws": 3, "images": IMAGES}},
        {"untrained": {"draws": DRAWS, "images": IMAGES, "seed": 2}},
        {"untrained": {"draws": DRAWS, "images": 20}},
        {"preprocessing": {"size": 10}},
    ],
)
def test_record_draws__of_anything_else_is_another_recording(drawn, atlas, changed):
    assert record_draws(atlas, config_of(**changed)).recording != drawn.name


def test_record_draws__that_is_complete_makes_nothing(drawn):
    atlas = Atlas(drawn.place.path.parents[1])
    assert not record_draws(atlas, CONFIG).made


# --- interruption, parts, damage ------------------------------------------------------------

KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RunConfig
from activarium.tasks.recording.draws import record_draws
seen = 0

@contextmanager
def progress(description, total):
    def advance(more):
        global seen
        seen += more
        if seen > 30:
            os.kill(os.getpid(), signal.SIGKILL)
    yield advance

config = RunConfig.model_validate_json(sys.argv[1])
record_draws(Atlas(Path(sys.argv[2])), config, progress=progress)
"""


def test_record_draws__killed_and_gone_on_with_is_the_same_to_the_bit(drawn, atlas):
    command = [sys.executable, "-c", KILLED, CONFIG.model_dump_json(), str(atlas.root)]
    killed = subprocess.run(command, check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(IncompleteRecordingError):
        open_recording(atlas, drawn.name, draws=True)
    assert record_draws(atlas, CONFIG).made
    assert objects(open_recording(atlas, drawn.name, draws=True)) == objects(drawn)


def test_record_draws__parts_make_their_draws_and_the_last_completes(drawn, atlas):
    first = record_draws(atlas, CONFIG, share=Share(part=2, parts=3))
    assert first.shards_left == 3
    assert record_draws(atlas, CONFIG, share=Share(part=1, parts=3)).shards_left == 1
    assert record_draws(atlas, CONFIG, share=Share(part=3, parts=3)).shards_left == 0
    assert objects(open_recording(atlas, drawn.name, draws=True)) == objects(drawn)


def test_record_draws__repair_makes_the_damaged_draw_again(drawn, atlas):
    shutil.copytree(drawn.place.path, atlas.recording(drawn.name))
    chunk = place_at(atlas.recording(drawn.name)).path / "channel_mean/c/2/0"
    content = bytearray(chunk.read_bytes())
    content[40] ^= 1
    chunk.write_bytes(bytes(content))
    assert verify(atlas, [drawn.name]).faults
    receipt = record_draws(atlas, CONFIG, repair=True)
    assert "repaired shard 2" in receipt.notices
    assert not verify(atlas, [drawn.name]).faults
    assert objects(open_recording(atlas, drawn.name, draws=True)) == objects(drawn)


# --- networks that are no draws -------------------------------------------------------------

MODULE = """
import os
import torch
from torch import nn

def fixed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def restless():
    model = fixed()
    model[0].weight.data.fill_(int.from_bytes(os.urandom(3), "big") / 2**24)
    return model
"""


@pytest.fixture
def entry_point(tmp_path, monkeypatch):
    """Return how a model of a function is configured."""
    (tmp_path / "models_of_draws.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield lambda name: {"architecture": f"models_of_draws:{name}", "weights": "untrained"}
    sys.modules.pop("models_of_draws", None)


def test_record_draws__networks_that_start_alike_are_one_draw_and_said(atlas, entry_point):
    receipt = record_draws(atlas, config_of(entry_point("fixed")))
    found = open_recording(atlas, receipt.recording, draws=True)
    assert found.draws == 1
    assert "-untrained-1-draws-" in found.name
    assert any("1 of 4 draws are distinct" in line for line in receipt.notices)


def test_record_draws__weights_that_follow_from_no_seed_are_refused(atlas, entry_point):
    with pytest.raises(UserError, match="other weights each time under seed 1"):
        record_draws(atlas, config_of(entry_point("restless")))


# --- what others make of it -----------------------------------------------------------------


def test_open_recording__refuses_draws_where_one_network_is_meant(drawn):
    atlas = Atlas(drawn.place.path.parents[1])
    with pytest.raises(UserError, match=r"holds 4 untrained networks .* --control"):
        open_recording(atlas, drawn.name)


def test_open_recording__a_beginning_means_what_can_be_taken(drawn, atlas):
    shutil.copytree(drawn.place.path, atlas.recording(drawn.name))
    one = record_checkpoint(atlas, CONFIG, choose_checkpoint(CONFIG.model)).recording
    assert open_recording(atlas, "two-block-cnn-w4-untrained").name == one
    assert open_recording(atlas, "two-block-cnn-w4-untrained", draws=True).name == drawn.name


def test_choose_draws__names_the_networks():
    found = choose_draws(CONFIG)
    assert (found.checkpoint, found.draws, found.path) == ("untrained-4-draws", 4, None)
