from __future__ import annotations

import pytest
import torch
from torch import nn

from activarium.schemas.layers import KINDS
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.engine_agreement import deviations
from activarium.tasks.capture.layers import find_layers
from activarium.tasks.capture.reductions import PooledLayer
from activarium.tasks.capture.traced_capture import TracedCapture


class Normed(nn.Module):
    """A convolution with a batch norm, one whose output goes past it too, one that is reused."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 6, 3, bias=True), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.past, self.past_bn = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.twice, self.twice_bn = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.bn(self.conv(images)))
        past = self.past(maps)
        maps = self.past_bn(past) + past
        maps = self.twice_bn(self.twice(maps)) + self.twice_bn(self.twice(maps * 2))
        return maps.mean((2, 3))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Normed().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


def captured(model, reductions, grid=None):
    images = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    found = find_layers(model, images, patterns=["*"], kinds=KINDS)
    pooled = (PooledLayer(found.layers[0], grid, grid),) if grid else ()
    wanted = Wanted(found, reductions, pooled)
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(images)
    traced = TracedCapture(model, wanted)
    return wanted, traced.folded, expected, traced.run(images)


def test_fold__only_a_convolution_whose_batch_norm_alone_takes_it(model):
    _, folded, _, _ = captured(model, ("mean",))
    assert folded == ("conv",)


@pytest.mark.parametrize("reductions", [("mean",), ("mean", "sd")])
def test_fold__values_of_the_convolution_are_restored(model, reductions):
    wanted, folded, expected, found = captured(model, reductions, grid=2)
    assert folded == ("conv",)
    assert max(deviations(wanted, expected, found).values()) < 5e-6
    pooled = wanted.columns()["pooled"]
    torch.testing.assert_close(found[:, pooled], expected[:, pooled], atol=1e-5, rtol=1e-5)
    assert not torch.equal(found, expected)


@pytest.mark.parametrize("reductions", [("mean", "max"), ("mean", "active")])
def test_fold__not_where_more_is_kept_than_can_be_restored(model, reductions):
    _, folded, expected, found = captured(model, reductions)
    assert folded == ()
    assert torch.equal(found, expected)


def test_fold__a_scale_of_zero_keeps_the_convolution(model):
    with torch.no_grad():
        model.bn.weight[3] = 0
    _, folded, expected, found = captured(model, ("mean",))
    assert folded == ()
    assert torch.equal(found, expected)


def test_fold__the_model_stays_as_it_was(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    captured(model, ("mean",))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert type(model.conv) is nn.Conv2d
