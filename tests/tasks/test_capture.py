from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from activarium.schemas.errors import UserError
from activarium.tasks.capture import HookCapture, PooledLayer
from activarium.tasks.layers import find_layers

ALL = {"patterns": ["*"], "kinds": ["conv", "linear", "block", "pool"]}


class Small(nn.Module):
    """A convolution before an in-place ReLU, which would overwrite a stored reference."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.conv(images)).mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small().eval()


def capture(model, images, reductions=("mean", "max", "sd", "active"), grid=2, precision="float32"):
    found = find_layers(model, images[:1], **ALL)
    pooled = [PooledLayer(found.layers[0], grid, grid)]
    with HookCapture(
        model, found.layers, reductions=reductions, pooled=pooled, precision=precision
    ) as hooks:
        return hooks.run(images)


def test_run__reductions_are_of_the_layer_before_its_inplace_relu(model):
    images = torch.randn(5, 3, 9, 9)
    captured = capture(model, images)
    maps = functional.conv2d(images, model.conv.weight, model.conv.bias).detach()
    conv = slice(0, 6)
    torch.testing.assert_close(captured.responses["mean"][:, conv], maps.mean((2, 3)))
    torch.testing.assert_close(captured.responses["max"][:, conv], maps.amax((2, 3)))
    torch.testing.assert_close(captured.responses["sd"][:, conv], maps.std((2, 3), correction=0))
    active = (maps > 0).float().mean((2, 3))
    torch.testing.assert_close(captured.responses["active"][:, conv], active)


def test_run__vectors_are_their_own_mean_and_have_no_spread(model):
    images = torch.randn(5, 3, 9, 9)
    captured = capture(model, images)
    logits = model(images).detach()
    fc = slice(6, 10)
    torch.testing.assert_close(captured.responses["mean"][:, fc], logits)
    torch.testing.assert_close(captured.responses["max"][:, fc], logits)
    assert (captured.responses["sd"][:, fc] == 0).all()
    torch.testing.assert_close(captured.output, logits)


def test_run__pooled_features_are_channel_row_column(model):
    images = torch.randn(3, 3, 9, 9)
    captured = capture(model, images)
    maps = functional.conv2d(images, model.conv.weight, model.conv.bias).detach()
    expected = functional.adaptive_avg_pool2d(maps, 2)
    torch.testing.assert_close(captured.pooled.reshape(3, 6, 2, 2), expected)


def test_run__reductions_are_float32_under_any_precision(model):
    images = torch.randn(4, 3, 9, 9)
    exact = capture(model, images)
    half = capture(model, images, precision="bfloat16")
    assert half.responses["mean"].dtype == torch.float32
    torch.testing.assert_close(
        half.responses["mean"], exact.responses["mean"], atol=0.02, rtol=0.05
    )


def test_run__hooks_are_gone_afterwards(model):
    capture(model, torch.randn(2, 3, 9, 9))
    assert not any(module._forward_hooks for module in model.modules())


class Growing(Small):
    """Changes its channels once it is told to."""

    grown = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.grown:
            return self.fc(torch.zeros(len(images), 6))
        return super().forward(images)


def test_run__layer_that_is_not_called_any_more_is_named():
    model = Growing().eval()
    images = torch.randn(2, 3, 9, 9)
    found = find_layers(model, images, **ALL)
    model.grown = True
    with (
        HookCapture(model, found.layers, reductions=("mean",), pooled=[]) as hooks,
        pytest.raises(UserError, match="'conv' was called in the trial batch but not in this one"),
    ):
        hooks.run(images)


@pytest.mark.parametrize("images", [1, 2, 3, 7])
def test_map_active__pieces_add_up_to_the_whole(images, monkeypatch):
    from activarium.tasks import capture as module

    channels = torch.randn(images, 4, 5, 6).to(memory_format=torch.channels_last)
    monkeypatch.setattr(module, "COMPARED_VALUES", 2 * 4 * 5 * 6)
    expected = (channels > 0).float().mean((2, 3))
    torch.testing.assert_close(module.map_active(channels), expected)
