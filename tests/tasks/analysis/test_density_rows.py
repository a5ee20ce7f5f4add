"""The table `densities`, beside counts made of the maps by the model alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig, RunConfig
from activarium.schemas.density import NEAR_ZERO, bin_edges
from activarium.schemas.tables import DENSITIES
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.density_rows import density_pieces
from activarium.tasks.images.preprocessing import read_images
from activarium.tasks.recording.checkpoints import (
    choose_checkpoint,
    load_checkpoint,
    load_images,
    record_checkpoint,
)
from activarium.tasks.recording.normalising import normalise
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.recording import open_recording

CONFIG = RunConfig.model_validate(
    {
        "name": "densities",
        "test_set": {"source": "digits", "limit": 30},
        "preprocessing": {"size": 8},
        "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
        "record": {"device": "cpu", "threads": 1, "density": True, "layers": ["conv1", "fc3"]},
    }
)
PLAIN = AnalyseConfig(scheduler="synchronous", permutations=0)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """An analysed recording with densities; nobody may change it."""
    atlas = Atlas(tmp_path_factory.mktemp("densities"))
    made = record_checkpoint(atlas, CONFIG, choose_checkpoint(CONFIG.model))
    recording = open_recording(atlas, made.recording)
    analyse(atlas, recording, config=PLAIN)
    return atlas, recording


def frame(atlas, name):
    return read_table(atlas.table_file(DENSITIES, name)).to_pandas()


def test_densities__count_every_activation_of_a_class_in_its_bin(counted):
    atlas, recording = counted
    images = load_images(atlas, CONFIG)
    model, _ = load_checkpoint(CONFIG.model, choose_checkpoint(CONFIG.model), images)
    pixels, _ = read_images(images.test_set, images.preprocessing, 0, 30, threads=1)
    maps = {}
    for name in ("conv1", "fc3"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, out, name=name: maps.update({name: out}))
    with torch.inference_mode():
        model(normalise(torch.from_numpy(pixels), images.preprocessing))
    found = frame(atlas, recording.name)
    assert set(found.layer) == {"conv1", "fc3"}
    for (layer, name), rows in found.groupby(["layer", "class"]):
        mine = np.flatnonzero(images.test_set.labels == images.test_set.class_names.index(name))
        values = maps[layer][mine].numpy().astype(np.float64).ravel()
        assert rows.activations.sum() == len(values)
        whole = np.histogram(values, bins=bin_edges())[0]
        expected = whole[rows.bin]
        # The engine's values differ in the last bits: one may lie beyond an edge.
        assert np.abs(rows.activations - expected).sum() <= 0.01 * len(values) + 2
    assert (np.diff(found.depth) >= 0).all()


def test_densities__bins_have_their_edges_and_at_least_one_activation(counted):
    atlas, recording = counted
    found, edges = frame(atlas, recording.name), np.array(bin_edges())
    np.testing.assert_array_equal(found.bin_low, edges[found.bin])
    np.testing.assert_array_equal(found.bin_high, edges[found.bin + 1])
    assert (found.activations > 0).all()
    assert found.activations.dtype == np.int64
    total = recording.read("density").sum(axis=(1, 2))
    by_layer = found.groupby("layer", sort=False).activations.sum()
    assert by_layer.tolist() == total.tolist()
    assert f"; {NEAR_ZERO} is the one around zero" in DENSITIES.column("bin").description


def test_densities__infinite_edges_are_kept(counted, monkeypatch):
    _, recording = counted
    counts = np.zeros((2, 10, len(bin_edges()) - 1), np.int64)
    counts[1, 3, [0, -1]] = (5, 7)
    monkeypatch.setattr(
        type(recording), "block", lambda _self, _name, rows, columns: counts[rows, columns]
    )
    empty, last = density_pieces(recording, is_whole=True)
    assert len(empty["bin"]) == 0
    assert last["bin_low"][0] == -np.inf
    assert last["bin_high"][1] == np.inf
    assert last["activations"].tolist() == [5, 7]
    assert last["class"].to_pylist() == [recording.class_names[3]] * 2


def test_densities__selection_has_none(counted):
    atlas, recording = counted
    config = PLAIN.model_copy(update={"where": "label < 5", "name": "few"})
    receipt = analyse(atlas, recording, config=config)
    assert frame(atlas, receipt.recording).empty


def test_densities__recording_without_them_has_an_empty_table(
    atlas, make_raw, write_recording, stored
):
    analyse(atlas, write_recording(atlas, make_raw()), config=PLAIN)
    assert stored(atlas).table("densities").num_rows == 0
    assert stored(atlas).table("recordings").column("series").to_pylist() == [None]
