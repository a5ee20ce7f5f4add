from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from activarium.schemas.layers import KINDS
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.elementwise_chain import Chain, is_torchs
from activarium.tasks.capture.elementwise_chains import fuse_chains
from activarium.tasks.capture.graph_taps import tap_graph
from activarium.tasks.capture.layers import find_layers
from activarium.tasks.capture.reductions import PooledLayer
from activarium.tasks.capture.traced_capture import TracedCapture
from activarium.tasks.recording.cores import torch_threads

MEAN_ACTIVE = ("mean", "active")
ALL = ("mean", "max", "sd", "active")


def settle(model):
    """Give batch norms statistics as of a trained model, some scales negative, one zero."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            size = (module.num_features,)
            module.running_mean.copy_(torch.randn(size, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            if module.weight is not None:
                module.weight.data.copy_(torch.rand(size, generator=generator) * 2 - 0.5)
                module.weight.data[0] = 0
                module.bias.data.copy_(torch.randn(size, generator=generator) * 0.1)
    return model.eval().to(memory_format=torch.channels_last)


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, add):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.add = add

    def forward(self, x):
        out = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.add(self.norm2(self.conv2(out)), x))


def added_in_place(out, x):
    out += x
    return out


class PreActivation(nn.Module):
    """A batch norm and a ReLU before the convolution; their input goes on beside them."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.conv(functional.relu(self.norm(x), inplace=True))], 1)


class TwoBranches(nn.Module):
    """Two convolutions, each with its batch norm, added to one another."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, affine=False))
        self.right = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6))

    def forward(self, x):
        return torch.relu(self.left(x) + self.right(x))


class Overwritten(nn.Module):
    """What is added is changed between the addition and the ReLU."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)

    def forward(self, x):
        y = x * 2
        out = self.norm(self.conv(x)) + y
        y.mul_(3)
        return functional.relu(out) + y


class OverwrittenSource(nn.Module):
    """The convolution's output is changed before its batch norm, but after it was recorded."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)

    def forward(self, x):
        out = self.conv(x)
        out.mul_(3)
        return functional.relu(self.norm(out))


class TakenTwice(nn.Module):
    """The convolution's output is needed behind its batch norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)

    def forward(self, x):
        out = self.conv(x)
        return torch.cat([functional.relu(self.norm(out)), out], 1)


BODIES = {
    "in_place_sum": (lambda: Residual(added_in_place), 2),
    "sum": (lambda: Residual(torch.add), 2),
    "sum_turned": (lambda: Residual(lambda out, x: x + out), 2),
    "scaled_sum": (lambda: Residual(lambda out, x: torch.add(out, x, alpha=2)), 2),
    "number_added": (lambda: Residual(lambda out, _: out + 1.5), 2),
    "smaller_added": (lambda: Residual(lambda out, x: out + x.mean((2, 3), keepdim=True)), 2),
    "pre_activation": (PreActivation, 1),
    "two_branches": (TwoBranches, 2),
    "overwritten": (Overwritten, 3),
    "overwritten_source": (OverwrittenSource, 1),
    "taken_twice": (TakenTwice, 1),
    "relu6": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ReLU6(True)), 1),
    "no_norm": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(True)), 1),
    "identity_between": (
        lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.Identity(), nn.ReLU(True)),
        0,
    ),
    "other_activation": (
        lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.SiLU()),
        1,
    ),
}


def model_of(body):
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    return settle(nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), BODIES[body][0](), head))


def images_of(count=5, side=13):
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(2))
    return images.contiguous(memory_format=torch.channels_last)


def wanted_of(model, images, reductions=ALL):
    return Wanted(find_layers(model, images, patterns=["*"], kinds=KINDS), reductions, ())


def by_hooks(model, wanted, images):
    with HookCapture(model, wanted) as hooks:
        return hooks.run(images)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reductions", [("mean",), MEAN_ACTIVE, ALL])
@pytest.mark.parametrize("body", BODIES)
def test_fuse_chains__records_what_hooks_record_bit_by_bit(body, reductions, threads):
    model, images = model_of(body), images_of()
    wanted = wanted_of(model, images, reductions)
    before = images.clone()
    with torch_threads(threads):
        expected = by_hooks(model, wanted, images)
        found = TracedCapture(model, wanted, unfolded=None).run(images)
    if "active" in reductions:
        assert torch.equal(found, expected)
    else:  # torch's own mean, which is rounded elsewhere
        torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-6)
    assert torch.equal(images, before)


@pytest.mark.parametrize("body", BODIES)
def test_fuse_chains__as_many_as_there_are(body):
    model, images = model_of(body), images_of()
    wanted = wanted_of(model, images)
    assert fuse_chains(model, tap_graph(model, wanted.reducers())) == BODIES[body][1]


@pytest.mark.parametrize("body", ["sum", "pre_activation"])
def test_fuse_chains__behind_folded_batch_norms(body):
    model, images = model_of(body), images_of()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.abs_().add_(0.1)  # a scale of zero is not folded
    wanted = wanted_of(model, images, ("mean", "sd"))
    capture = TracedCapture(model, wanted)
    assert bool(capture.folded) == (body == "sum")
    found = capture.run(images)
    torch.testing.assert_close(found, by_hooks(model, wanted, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [3, 5, 13])
def test_fuse_chains__maps_with_channels_first_and_of_one_pixel(side):
    model = model_of("sum").to(memory_format=torch.contiguous_format)
    images = images_of(side=side).contiguous()
    wanted = wanted_of(model, images)
    found = TracedCapture(model, wanted, unfolded=None).run(images)
    torch.testing.assert_close(found, by_hooks(model, wanted, images), rtol=1e-6, atol=1e-7)


def test_fuse_chains__not_over_layers_whose_maps_are_needed_whole():
    model, images = model_of("in_place_sum"), images_of()
    found = find_layers(model, images, patterns=["*"], kinds=KINDS)
    kept = next(layer for layer in found.layers if layer.name == "1.norm1")
    wanted = Wanted(found, ALL, (PooledLayer(kept, 2, 2),))
    expected = by_hooks(model, wanted, images)
    assert torch.equal(TracedCapture(model, wanted, unfolded=None).run(images), expected)


def test_fuse_chains__other_batch_sizes_and_the_model_afterwards():
    model = model_of("in_place_sum")
    unchanged = copy.deepcopy(model)
    wanted = wanted_of(model, images_of())
    capture = TracedCapture(model, wanted, unfolded=None)
    for count in (1, 4):
        images = images_of(count)
        assert torch.equal(capture.run(images), by_hooks(model, wanted, images))
        assert torch.equal(model(images), unchanged(images))


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "googlenet"])
def test_fuse_chains__torchvisions_models_bit_by_bit(name):
    torch.manual_seed(0)
    more = {"init_weights": False} if name == "googlenet" else {}
    model = settle(getattr(torchvision.models, name)(weights=None, **more))
    images = images_of(3, 64)
    wanted = wanted_of(model, images, MEAN_ACTIVE)
    expected = by_hooks(model, wanted, images)
    assert torch.equal(TracedCapture(model, wanted, unfolded=None).run(images), expected)


@pytest.mark.parametrize("channels", [1, 3, 7, 16, 100, 600])
def test_is_torchs__on_this_machine(channels):
    norm = settle(nn.BatchNorm2d(channels))
    assert is_torchs(norm)


def test_is_torchs__only_fixed_float32_norms():
    assert not is_torchs(nn.BatchNorm2d(4, track_running_stats=False).eval())
    assert not is_torchs(nn.BatchNorm2d(4).train())
    assert not is_torchs(nn.BatchNorm2d(4).double().eval())


def test_chain__nan_stays():
    maps = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    maps[0, 1, 2, 3] = float("nan")
    chain = Chain(nn.BatchNorm2d(3).eval(), 6.0, (), in_place=False)
    found = chain(maps, None, maps)[0]
    assert found.isnan().sum() == 1
    assert bool(found[0, 1, 2, 3].isnan())
