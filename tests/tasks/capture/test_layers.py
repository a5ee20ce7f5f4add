from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from activarium.schemas.errors import UserError
from activarium.schemas.layers import KINDS
from activarium.tasks.capture.layer_maps import Layout
from activarium.tasks.capture.layers import find_layers
from activarium.tasks.models.architectures import resnet18

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
    assert {layer.name: layer.activation for layer in found.layers} == {"conv": "", "mean": ""}


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
        UserError, match=r"no layer matches 'zzz\*' .*conv \(conv\), relu \(activation\), conv:2"
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
    with pytest.raises(UserError, match=r"shape \(3, 1, 8, 8\).*preprocessing.size"):
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
    assert [(layer.name, layer.units) for layer in found.layers] == [("mean", 3), ("fc", 4)]


@pytest.mark.parametrize("name", ["resnet18", "swin_v2_t"])
def test_find_layers__one_image_gives_the_layers_of_two(name):
    model = torchvision.models.get_model(name).eval()
    one, two = (find_layers(model, torch.zeros(n, 3, 64, 64), **ALL) for n in (1, 2))
    assert one == two
    assert not any("cpb_mlp" in layer.name for layer in one.layers)


@pytest.mark.parametrize(
    ("name", "layers", "units"), [("vit_b_16", 38, 57_064), ("swin_t", 66, 47_368)]
)
def test_find_layers__transformers_have_channels_last(name, layers, units):
    model = torchvision.models.get_model(name).eval()
    found = find_layers(model, torch.zeros(2, 3, 224, 224), **ALL)
    assert (len(found.layers), found.units) == (layers, units)


@pytest.mark.parametrize(
    ("name", "duplicate", "original"),
    [
        ("resnet18", "layer1.0", "layer1.0.relu:2"),
        ("mobilenet_v2", "classifier.0", "adaptive_avg_pool2d"),
        ("googlenet", "dropout", "avgpool"),
        ("densenet121", "features", "features.norm5"),
    ],
)
def test_find_layers__equal_outputs_are_kept_once(name, duplicate, original):
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, **options).eval()
    found = find_layers(model, torch.randn(1, 3, 64, 64), patterns=["*"], kinds=KINDS)
    assert found.duplicates[duplicate] == original
    names = {layer.name for layer in found.layers}
    assert original in names
    assert duplicate not in names


def test_find_layers__resnet18_has_all_units_of_all_its_operations():
    kinds = ["conv", "norm", "activation", "pool", "linear"]
    model = resnet18(colours=3, outputs=10, width=64).eval()
    found = find_layers(model, torch.zeros(1, 3, 32, 32), patterns=["*"], kinds=kinds)
    assert found.units == 14_026
    names = [layer.name for layer in found.layers]
    assert names[3:7] == ["layer1.0.conv1", "layer1.0.bn1", "layer1.0.relu", "layer1.0.conv2"]
    assert "layer1.0.relu:2" in names


class Windows(nn.Module):
    """Folds windows of each image into the first axis, as shifted-window attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.Linear(3, 6)
        self.fc = nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count = len(images)
        windows = images.permute(0, 2, 3, 1).reshape(count * 4, -1, 3)
        return self.fc(self.attend(windows).reshape(count, -1, 6).mean(1))


def test_find_layers__windows_in_the_first_axis_are_positions_of_their_image():
    found = find_layers(Windows().eval(), torch.zeros(1, 3, 8, 8), **ALL)
    attend = found.layers[0]
    assert (attend.name, attend.units, attend.height, attend.width) == ("attend", 6, 64, 1)


class TimeFirst(nn.Module):
    """A recurrent layer whose output is (token, image, channel), with as many tokens as images."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images.flatten(2)[:, :, :2].permute(2, 0, 1)
        return self.rnn(tokens)[0].mean(0)


def test_find_layers__sequences_may_put_time_first():
    kinds = ["recurrent"]
    found = find_layers(TimeFirst().eval(), torch.zeros(1, 3, 8, 8), patterns=["*"], kinds=kinds)
    assert [(tap.layer.units, tap.layer.height) for tap in found.taps] == [(5, 2)]
    assert found.taps[0].layout == Layout((2,), 1)


def test_find_layers__what_is_done_with_the_output_is_no_layer():
    model = torch.nn.Sequential(nn.Conv2d(3, 4, 1)).eval()  # a map, which is averaged
    found = find_layers(model, torch.zeros(1, 3, 5, 5), patterns=["*"], kinds=KINDS)
    assert [layer.name for layer in found.layers] == ["0"]
    assert found.outputs == 4


class Sums(nn.Module):
    """Sums of what a function of the module makes of one map."""

    def __init__(self, branches) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)
        self.f, self.g = nn.ReLU(), nn.ReLU()
        self.twin, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.other.load_state_dict(self.twin.state_dict())
        self.branches = branches

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(sum(self.branches(self, self.conv(images))).mean((2, 3)))


def _found(branches, patterns):
    torch.manual_seed(0)
    model = Sums(branches).eval()
    return find_layers(model, torch.randn(1, 3, 8, 8), patterns=patterns, kinds=KINDS)


@pytest.mark.parametrize(
    ("branches", "duplicates"),
    [
        (lambda m, x: (m.f(x), m.f(x), m.f(x)), {"f:2": "f", "f:3": "f"}),
        (lambda m, x: (m.f(x), m.g(x)), {"g": "f"}),
        (lambda m, x: (m.twin(x), m.twin(x)), {"twin:2": "twin"}),
        (lambda _, x: (functional.relu(x), torch.relu(x)), {"relu:2": "relu"}),
        (lambda m, x: (m.f(m.twin(x)), m.f(m.twin(x))), {"twin:2": "twin", "f:2": "f"}),
    ],
)
def test_find_layers__what_is_computed_twice_is_kept_once(branches, duplicates):
    found = _found(branches, ["*"])
    assert {name: found.duplicates[name] for name in duplicates} == duplicates
    assert not {layer.name for layer in found.layers} & {*duplicates}
    first = next(iter(duplicates.values()))
    assert any(f"recorded once, as {first}" in note for note in found.notes)


def _writes(m, x):
    first = m.f(x)
    x[:, :1].add_(1e-3)
    return first, m.f(x)


def _branch(read):
    """Return two calls that do the same to the images of a trial, and not to all."""

    def branches(m, x):
        return [m.f(x) if read(x) > limit else m.f(x) * 2 for limit in (-1e9, -1e8)]

    return branches


@pytest.mark.parametrize(
    "branches",
    [
        lambda m, x: (m.twin(x), m.other(x)),  # equal weights, of two modules
        lambda m, x: (m.f(m.f(x)), x),  # a ReLU of a ReLU changes nothing
        lambda m, x: (m.f(x), torch.clamp(x, min=0)),
        lambda _, x: (x * 0.0, x * -0.0),
        _writes,
        _branch(lambda x: x.max()),
        _branch(lambda x: x.max().item()),
        _branch(lambda x: max(x.flatten().tolist())),
        _branch(lambda x: x.detach().numpy().max()),
        _branch(lambda x: len(x[x > 1e-9])),
    ],
)
def test_find_layers__what_happens_to_be_equal_is_kept(branches):
    assert not _found(branches, ["*"]).repeated


def test_find_layers__a_repeated_layer_that_alone_is_chosen_is_recorded():
    found = _found(lambda m, x: (m.f(x), m.f(x)), ["f:2"])
    assert [layer.name for layer in found.layers] == ["f:2"]
    assert not found.notes
