"""A recording on a GPU, where there is one, beside the same on the CPU."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RecordConfig
from activarium.tasks.images.preprocessing import Preprocessing
from activarium.tasks.images.test_sets import TestSet
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.recording.record import record
from activarium.tasks.recording.record_plan import ModelIdentity
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording_store import read_receipts

GPU = pytest.param(
    "auto",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), np.uint8)
LABELS = (np.arange(50) % 3).astype(np.int32)


class Net(nn.Module):
    """Two convolutions with batch norms, of which one scale is tiny."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8, 3)

    def forward(self, images):
        maps = self.relu(self.bn1(self.conv1(images)))
        return self.fc(self.relu(self.bn2(self.conv2(maps))).mean((2, 3)))


def run(root, device, **settings):
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        model.bn1.weight[0] = 1e-4
    ids = tuple(map(str, range(50)))
    settings = {"batch_size": 12, "shard_images": 20, "threads": 1, **settings}
    return record(
        Atlas(root / "atlas"),
        model,
        TestSet("t", "test", ("a", "b", "c"), ids, LABELS, "x", 3, pixels=PIXELS),
        preprocessing=Preprocessing(None, 16, 16, 3, (0.5,) * 3, (0.25,) * 3),
        config=RecordConfig(device=device, **settings),
        identity=ModelIdentity("m", "start", "m", weights_sha256(model)),
    )


def arrays(receipt):
    group = zarr.open_group(receipt.path, mode="r")
    return {name: group[name][:] for name in ("channel_mean", "channel_active", "logits")}


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    "engine", ["auto", "hooks", pytest.param("compiled", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-5), ("bfloat16", 2e-2)])
def test_record__every_device_engine_and_precision_gives_the_cpus_numbers(
    tmp_path, device, engine, precision, tolerance
):
    expected = arrays(run(tmp_path / "cpu", "cpu", engine="hooks"))
    receipt = run(tmp_path, device, engine=engine, precision=precision)
    found = arrays(receipt)
    for name in ("channel_mean", "logits"):
        size = np.abs(expected[name]).max()
        assert np.abs(found[name] - expected[name]).max() <= tolerance * size
    assert np.abs(found["channel_active"] - expected["channel_active"]).mean() <= tolerance
    devices = Counter(each.device for each in read_receipts(place_at(receipt.path)))
    named = "cpu" if device == "cpu" else f"cuda:{torch.cuda.current_device()}"
    assert devices == {named: 3}


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_record__densities_count_every_value_on_every_device(tmp_path, device):
    receipt = run(tmp_path, device, density=True)
    group = zarr.open_group(receipt.path, mode="r")
    sizes = group["layer_size"][:] * group["layer_height"][:] * group["layer_width"][:]
    np.testing.assert_array_equal(group["density"][:].sum((1, 2)), 50 * sizes)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_record__a_resumed_recording_is_the_same_on_every_device(tmp_path, device):
    whole = arrays(run(tmp_path / "whole", device, engine="hooks"))
    run(tmp_path, device, engine="hooks")
    next((tmp_path / "atlas").rglob("shard-00001.json")).unlink()
    resumed = run(tmp_path, device, engine="hooks")
    assert resumed.resumed_shards == 2
    for name, values in arrays(resumed).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-6, atol=1e-7)
