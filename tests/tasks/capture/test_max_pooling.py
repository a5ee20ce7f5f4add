from __future__ import annotations

import pytest
import torch
from torch import nn

from activarium.schemas.layers import KINDS
from activarium.tasks.capture import openmp
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.graph_taps import tap_graph
from activarium.tasks.capture.layers import find_layers
from activarium.tasks.capture.max_pooling import MaxPool, replace_pools
from activarium.tasks.capture.traced_capture import TracedCapture
from activarium.tasks.recording.cores import torch_threads

SQUARES = [  # side, step, padding
    nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d(3, stride=2, ceil_mode=True),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.MaxPool2d(5, stride=3, padding=2, ceil_mode=True),
    nn.MaxPool2d(1, stride=2),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 3, 5, 6), (3, 70, 4, 5)])
@pytest.mark.parametrize("pool", SQUARES, ids=str)
def test_max_pool__is_pytorchs_bit_by_bit(shape, layout, pool, threads):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    maps[0, 0, 0, 0], maps[0, 1, 0, 0] = float("nan"), float("-inf")
    maps = maps.contiguous(memory_format=layout)
    before = maps.clone()
    with torch_threads(threads):
        found = MaxPool(pool)(maps)
    torch.testing.assert_close(found, pool(maps), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(maps, before, rtol=0, atol=0, equal_nan=True)
    assert found.is_contiguous(memory_format=layout)


def test_max_pool__threads_of_our_own_give_the_same(monkeypatch):
    maps = torch.randn(5, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(openmp, "region", lambda: None)
    with torch_threads(2):
        assert torch.equal(MaxPool(SQUARES[1])(maps), SQUARES[1](maps))


def pooled(*pools):
    return nn.Sequential(nn.Conv2d(3, 4, 1), *pools, nn.Flatten(2), nn.AdaptiveAvgPool1d(1)).eval()


@pytest.mark.parametrize(
    ("pool", "replaced"),
    [
        (nn.MaxPool2d(3, stride=1, padding=1), 1),
        (nn.MaxPool2d((3, 3), (1, 1), (1, 1)), 1),
        (nn.MaxPool2d(3, stride=2, padding=1), 1),
        (nn.MaxPool2d(2), 1),
        (nn.MaxPool2d((3, 2)), 0),
        (nn.MaxPool2d(3, stride=(1, 2)), 0),
        (nn.MaxPool2d(3, dilation=2), 0),
        (nn.AvgPool2d(3, 1, 1), 0),
    ],
)
def test_replace_pools__only_those_that_are_the_same(pool, replaced):
    model = pooled(pool)
    assert replace_pools(model, tap_graph(model, [])) == replaced


def test_traced_capture__pools_are_replaced_and_values_stay():
    model = pooled(nn.MaxPool2d(3, stride=1, padding=1))
    images = torch.randn(2, 3, 8, 8)
    found = find_layers(model, images, patterns=["*"], kinds=KINDS)
    wanted = Wanted(found, ("mean", "max"), ())
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(images)
    assert torch.equal(TracedCapture(model, wanted).run(images), expected)
    assert type(model[1]) is nn.MaxPool2d
