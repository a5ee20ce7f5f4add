from __future__ import annotations

import pytest
import torch
from torch import nn

from activarium.schemas.layers import KINDS
from activarium.tasks.capture import HookCapture, Wanted
from activarium.tasks.graph_taps import tap_graph
from activarium.tasks.layers import find_layers
from activarium.tasks.separable_pooling import SeparableMaxPool, separate_pools
from activarium.tasks.traced_capture import TracedCapture


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 3, 1, 6), (3, 4, 2, 1), (2, 2, 1, 1)])
def test_separable_max_pool__is_pytorchs_bit_by_bit(shape, layout):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    maps[0, 0, 0, 0], maps[0, 1, 0, 0] = float("nan"), float("-inf")
    maps = maps.contiguous(memory_format=layout)
    before = maps.clone()
    expected = nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True)(maps)
    torch.testing.assert_close(SeparableMaxPool()(maps), expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(maps, before, rtol=0, atol=0, equal_nan=True)


def pooled(*pools):
    return nn.Sequential(nn.Conv2d(3, 4, 1), *pools, nn.Flatten(2), nn.AdaptiveAvgPool1d(1)).eval()


@pytest.mark.parametrize(
    ("pool", "replaced"),
    [
        (nn.MaxPool2d(3, stride=1, padding=1), 1),
        (nn.MaxPool2d((3, 3), (1, 1), (1, 1)), 1),
        (nn.MaxPool2d(3, stride=2, padding=1), 0),
        (nn.MaxPool2d(3, stride=1), 0),
        (nn.MaxPool2d(2), 0),
        (nn.AvgPool2d(3, 1, 1), 0),
    ],
)
def test_separate_pools__only_those_that_are_the_same(pool, replaced):
    model = pooled(pool)
    assert separate_pools(model, tap_graph(model, [])) == replaced


def test_traced_capture__pools_are_separated_and_values_stay():
    model = pooled(nn.MaxPool2d(3, stride=1, padding=1))
    images = torch.randn(2, 3, 8, 8)
    found = find_layers(model, images, patterns=["*"], kinds=KINDS)
    wanted = Wanted(found, ("mean", "max"), ())
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(images)
    assert torch.equal(TracedCapture(model, wanted).run(images), expected)
    assert type(model[1]) is nn.MaxPool2d
