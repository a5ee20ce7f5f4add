from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from activarium.schemas.errors import UserError
from activarium.tasks.layers import find_layers, output_matrix

ALL = {"patterns": ["*"], "kinds": ["conv", "linear", "block", "pool"]}


class Reused(nn.Module):
    """One convolution called twice, a functional ReLU, a vector head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(3, 5)
        self.fc = nn.Linear(5, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = functional.relu(self.conv(images))
        second = self.norm(self.conv(first))
        return self.fc(torch.relu_(self.hidden(self.pool(second).flatten(1))))


def test_find_layers__second_call_of_a_module_is_named_with_2():
    found = find_layers(Reused().eval(), torch.zeros(1, 3, 8, 8), **ALL)
    names = [layer.name for layer in found.layers]
    assert names == ["conv", "conv:2", "pool", "hidden", "fc"]
    assert [layer.depth for layer in found.layers] == [0, 1, 2, 3, 4]
    assert found.outputs == 4


def test_find_layers__only_outputs_that_a_relu_takes_alone_are_rectified():
    found = find_layers(Reused().eval(), torch.zeros(1, 3, 8, 8), **ALL)
    activations = {layer.name: layer.activation for layer in found.layers}
    assert activations == {"conv": "relu", "conv:2": "", "pool": "", "hidden": "relu", "fc": ""}


class Residual(nn.Module):
    """A convolution whose output goes into a ReLU and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.conv(images)
        return (functional.relu(rows) + rows).mean((2, 3))


def test_find_layers__output_that_also_bypasses_the_relu_is_not_rectified():
    found = find_layers(Residual().eval(), torch.zeros(1, 3, 4, 4), **ALL)
    assert [layer.activation for layer in found.layers] == [""]


def test_find_layers__resnet18_has_every_convolution_block_pool_and_linear():
    model = torchvision.models.resnet18().eval()
    found = find_layers(model, torch.zeros(1, 3, 64, 64), **ALL)
    kinds = [layer.kind for layer in found.layers]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "conv": 20,
        "block": 8,
        "pool": 1,
        "linear": 1,
    }
    assert found.layers[-1].units == found.outputs == 1000
    assert found.offsets()[1] == found.layers[0].units


def test_find_layers__globs_and_kinds_choose():
    model = torchvision.models.resnet18().eval()
    found = find_layers(
        model, torch.zeros(1, 3, 64, 64), patterns=["layer1.*", "fc"], kinds=["block", "linear"]
    )
    assert [layer.name for layer in found.layers] == ["layer1.0", "layer1.1", "fc"]


def test_find_layers__nothing_chosen_names_what_there_is():
    with pytest.raises(
        UserError, match=r"no layer matches 'zzz\*' .*conv \(conv\), conv:2 \(conv\), pool \(pool\)"
    ):
        find_layers(Reused().eval(), torch.zeros(1, 3, 8, 8), patterns=["zzz*"], kinds=["conv"])


@pytest.mark.parametrize(
    ("pattern", "kinds", "near"),
    [
        ("con", ["conv", "linear"], "did you mean conv (conv)"),
        ("hiden", ["conv", "linear"], "did you mean hidden (linear)"),
        ("hidden", ["conv"], "did you mean hidden (linear)"),
    ],
)
def test_find_layers__every_pattern_has_to_match_a_layer_of_the_kinds(pattern, kinds, near):
    with pytest.raises(UserError) as caught:
        find_layers(
            Reused().eval(), torch.zeros(1, 3, 8, 8), patterns=["conv*", pattern], kinds=kinds
        )
    assert f"no layer matches {pattern!r} with kinds {kinds!r}; {near}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_find_layers__no_pattern_at_all_is_refused():
    with pytest.raises(UserError, match="no layer matches ''"):
        find_layers(Reused().eval(), torch.zeros(1, 3, 8, 8), patterns=[], kinds=["conv"])


def test_find_layers__failing_forward_says_what_the_model_got():
    with pytest.raises(UserError, match=r"shape \(2, 1, 8, 8\).*preprocessing.size"):
        find_layers(Reused().eval(), torch.zeros(1, 1, 8, 8), **ALL)


class Positions(nn.Module):
    """A linear layer over a table of positions: its first axis is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(1, 5, 2))
        self.bias = nn.Linear(2, 3)
        self.fc = nn.Linear(3, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(images.mean((2, 3)) + self.bias(self.table).mean((0, 1)))


@pytest.mark.parametrize("images", [1, 2])
def test_find_layers__outputs_without_a_row_per_image_are_dropped(images):
    found = find_layers(Positions().eval(), torch.zeros(images, 3, 8, 8), **ALL)
    assert [(layer.name, layer.units) for layer in found.layers] == [("fc", 4)]


@pytest.mark.parametrize("name", ["resnet18", "swin_v2_t"])
def test_find_layers__one_image_gives_the_layers_of_two(name):
    model = torchvision.models.get_model(name).eval()
    one, two = (find_layers(model, torch.zeros(n, 3, 64, 64), **ALL) for n in (1, 2))
    assert one == two
    assert not any("cpb_mlp" in layer.name for layer in one.layers)


@pytest.mark.parametrize(
    ("name", "layers", "units"), [("vit_b_16", 50, 66_280), ("swin_t", 42, 29_704)]
)
def test_find_layers__transformers_have_channels_last(name, layers, units):
    model = torchvision.models.get_model(name).eval()
    found = find_layers(model, torch.zeros(2, 3, 224, 224), **ALL)
    assert (len(found.layers), found.units) == (layers, units)


def test_output_matrix__maps_are_averaged_and_dicts_opened():
    maps = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(output_matrix({"out": maps}, 2), maps.mean((2, 3)))
    with pytest.raises(UserError, match="2 rows"):
        output_matrix(torch.zeros(3, 4), 2)
