"""Both engines on a device that is only pretended: everything stays on it, in the right shapes."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchvision
from torch._subclasses.fake_tensor import FakeTensorMode

from activarium.schemas.density import BINS
from activarium.schemas.layers import KINDS
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.density import DensityCounter
from activarium.tasks.capture.layers import find_layers
from activarium.tasks.capture.reductions import PooledLayer
from activarium.tasks.capture.traced_capture import TracedCapture

CUDA, SIDE, CLASSES = torch.device("cuda", 0), 64, 5
REDUCTIONS = ("mean", "max", "sd", "active")


def vision_transformer():
    return torchvision.models.VisionTransformer(SIDE, 16, 2, 2, 32, 64, num_classes=CLASSES)


def exported():
    model = torchvision.models.resnet18(num_classes=CLASSES).eval()
    program = torch.export.export(
        model,
        (torch.randn(2, 3, SIDE, SIDE),),
        dynamic_shapes=({0: torch.export.Dim("images")},),
    )
    return program.module(check_guards=False)


MODELS = {
    "resnet": lambda: torchvision.models.resnet18(num_classes=CLASSES),
    "vit": vision_transformer,
    "exported": exported,
}
ENGINES = {
    "hooks": HookCapture,
    "traced": lambda *given: TracedCapture(*given, unfolded=None),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("with_density", [False, True])
def test_capture__stays_on_the_device_without_waiting_for_it(name, engine, with_density):
    torch.manual_seed(0)
    model = MODELS[name]()
    if name != "exported":
        model.eval()
    found = find_layers(model, torch.randn(1, 3, SIDE, SIDE), patterns=["*"], kinds=KINDS)
    pooled = (PooledLayer(found.layers[0], 1, 1),)
    wanted = Wanted(found, REDUCTIONS, pooled)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, warnings.catch_warnings():
        # Autocast says that there is no such device here.
        warnings.filterwarnings("ignore", message=".*CUDA is not available.*")
        model = model.to(CUDA)
        counter = DensityCounter(len(found.layers), CLASSES, CUDA) if with_density else None
        images = torch.empty(3, 3, SIDE, SIDE, device=CUDA)
        classes = torch.empty(3, dtype=torch.int64, device=CUDA) if with_density else None
        # An operation whose result depends on values, for which the host waits, is refused here.
        with ENGINES[engine](model, wanted, counter) as capture:
            rows = capture.run(images, classes)
    columns = found.units * len(REDUCTIONS) + pooled[0].features + CLASSES
    assert (rows.device, rows.dtype, tuple(rows.shape)) == (CUDA, torch.float32, (3, columns))
    if counter is not None:
        assert counter._counts.shape == (len(found.layers), CLASSES + 1, BINS + 1)
        assert counter._counts.device == CUDA
