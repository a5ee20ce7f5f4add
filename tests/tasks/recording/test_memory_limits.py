"""Memory that ends while a recording is made: halved batches, and nothing held of those that failed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RecordConfig
from activarium.tasks.capture import traced_capture
from activarium.tasks.images.preprocessing import Preprocessing
from activarium.tasks.images.test_sets import TestSet
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.recording import begun
from activarium.tasks.recording.pinned_memory import pinned_where_possible
from activarium.tasks.recording.record import record
from activarium.tasks.recording.record_plan import ModelIdentity

IMAGES, FITS = 24, 5
PIXELS = np.random.default_rng(0).integers(0, 256, (IMAGES, 6, 6, 3), np.uint8)

FAULTS = {
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "pinned": lambda: torch.AcceleratorError("CUDA error: out of memory"),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
    "cuDNN": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "engine": lambda: RuntimeError("GET was unable to find an engine to execute this computation"),
    "host": MemoryError,
}


class Limited(nn.Module):
    """Holds so many images at once and no more; the inputs that it refused are known."""

    def __init__(self, fault, *, wrap=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.fault, self.wrap = fault, wrap
        self.refused = []

    def forward(self, images):
        maps = self.conv(images)
        if len(images) > FITS:
            self.refused.append((len(images), weakref.ref(images), weakref.ref(maps)))
            if not self.wrap:
                raise self.fault()
            raise ValueError("the backend failed") from self.fault()
        return self.fc(maps.mean((2, 3)))


def run(tmp_path, model, **settings):
    labels = (np.arange(IMAGES) % 3).astype(np.int32)
    ids = tuple(map(str, range(IMAGES)))
    return record(
        Atlas(tmp_path / "atlas"),
        model,
        TestSet("t", "test", ("a", "b", "c"), ids, labels, "x", 3, pixels=PIXELS),
        preprocessing=Preprocessing(None, 6, 6, 3, (0.5,) * 3, (0.25,) * 3),
        config=RecordConfig(device="cpu", threads=1, **{"batch_size": 12, **settings}),
        identity=ModelIdentity("m", "start", "m", weights_sha256(model)),
    )


@pytest.fixture
def no_collection():
    """Let nothing be freed but what nobody holds."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("no_collection")
def test_record__batches_are_halved_and_those_that_failed_are_not_held(tmp_path, fault, wrap):
    model = Limited(FAULTS[fault], wrap=wrap).eval()
    receipt = run(tmp_path, model, engine="hooks")
    held = [size for size, *tensors in model.refused if any(each() is not None for each in tensors)]
    assert {size for size, *_ in model.refused} >= {12, 6}
    assert held == []
    group = zarr.open_group(receipt.path, mode="r")
    images = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        logits = torch.cat([model(images[first : first + 4]) for first in range(0, IMAGES, 4)])
    np.testing.assert_allclose(group["logits"][:], logits, rtol=1e-5, atol=1e-6)
    assert any("out of memory on cpu with 12 images a batch" in each for each in receipt.notices)


def test_record__the_fastest_batch_that_fits_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(begun, "TRIAL_IMAGES", 8)
    receipt = run(tmp_path, Limited(FAULTS["cuDNN"]).eval(), engine="hooks", batch_size="auto")
    assert zarr.open_group(receipt.path, mode="r").attrs["batch_size"] <= FITS


def test_record__the_search_for_a_batch_size_compiles_once_per_size(tmp_path, monkeypatch):
    compiled = []

    def compile_nothing(module, on_cpu):
        compiled.append(on_cpu)
        return module.forward

    monkeypatch.setattr(traced_capture, "_compile", compile_nothing)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    run(tmp_path, model, engine="compiled", batch_size="auto", reductions=("mean",))
    # For the trial of the engine, for batches of 16, and for the recording.
    assert compiled == [True] * 3


def test_pinned_where_possible__is_ordinary_memory_where_none_is_pinned():
    if torch.cuda.is_available():
        pytest.skip("here memory can be pinned")
    memory = pinned_where_possible((3, 2), torch.uint8)
    assert (memory.shape, memory.dtype, memory.is_pinned()) == ((3, 2), torch.uint8, False)
