from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.models.feature_extraction import create_feature_extractor

from activarium.schemas.errors import UserError
from activarium.schemas.layers import KINDS
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.graph_taps import UntraceableError, tap_graph
from activarium.tasks.capture.layers import find_layers
from activarium.tasks.capture.reductions import PooledLayer
from activarium.tasks.capture.traced_capture import TracedCapture

USUAL = ["conv", "linear", "block", "pool"]


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


ENGINES = {
    "hooks": HookCapture,
    "traced": lambda model, wanted: TracedCapture(model, wanted, unfolded=None),
}


@pytest.fixture(params=ENGINES)
def engine(request):
    return ENGINES[request.param]


class Captured:
    """What an engine captured, by array and layer."""

    def __init__(self, engine, model, images, reductions=("mean",), *, kinds=KINDS, grid=None):
        self.found = find_layers(model, images[:1], patterns=["*"], kinds=kinds)
        pooled = (PooledLayer(self.found.layers[0], grid, grid),) if grid else ()
        wanted = Wanted(self.found, reductions, pooled)
        with engine(model, wanted) as capture:
            self.values = capture.run(images)
        self.columns = wanted.columns()

    def of(self, layer, array="channel_mean"):
        names = [each.name for each in self.found.layers]
        place = names.index(layer)
        start = self.columns[array].start + self.found.offsets()[place]
        return self.values[:, start : start + self.found.layers[place].units]

    def whole(self, array):
        return self.values[:, self.columns[array]]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_run__reductions_are_of_the_layer_before_its_inplace_relu(engine, model, layout):
    images = torch.randn(5, 3, 9, 9).contiguous(memory_format=layout)
    captured = Captured(engine, model, images, ("mean", "max", "sd", "active"))
    maps = functional.conv2d(images, model.conv.weight, model.conv.bias).detach()
    torch.testing.assert_close(captured.of("conv"), maps.mean((2, 3)))
    torch.testing.assert_close(captured.of("conv", "channel_max"), maps.amax((2, 3)))
    sd = maps.std((2, 3), correction=0)
    torch.testing.assert_close(captured.of("conv", "channel_sd"), sd)
    active = (maps > 0).float().mean((2, 3))
    torch.testing.assert_close(captured.of("conv", "channel_active"), active)
    rectified = maps.relu()
    torch.testing.assert_close(captured.of("relu"), rectified.mean((2, 3)))


def test_run__vectors_are_their_own_mean_and_have_no_spread(engine, model):
    images = torch.randn(5, 3, 9, 9)
    captured = Captured(engine, model, images, ("mean", "max", "sd"))
    logits = model(images).detach()
    torch.testing.assert_close(captured.of("fc"), logits)
    torch.testing.assert_close(captured.of("fc", "channel_max"), logits)
    assert (captured.of("fc", "channel_sd") == 0).all()
    torch.testing.assert_close(captured.whole("logits"), logits)


def test_run__pooled_features_are_channel_row_column(engine, model):
    images = torch.randn(3, 3, 9, 9)
    captured = Captured(engine, model, images, grid=2)
    maps = functional.conv2d(images, model.conv.weight, model.conv.bias).detach()
    expected = functional.adaptive_avg_pool2d(maps, 2)
    torch.testing.assert_close(captured.whole("pooled").reshape(3, 6, 2, 2), expected)


def test_run__reductions_are_float32_under_any_precision(model):
    images = torch.randn(4, 3, 9, 9)
    found = find_layers(model, images[:1], patterns=["*"], kinds=KINDS)
    results = []
    for precision in ("float32", "bfloat16"):
        with HookCapture(model, Wanted(found, ("mean", "sd"), (), precision)) as capture:
            results.append(capture.run(images))
    expected, result = results
    assert result.dtype == torch.float32
    assert not torch.equal(result, expected)
    torch.testing.assert_close(result, expected, atol=0.02, rtol=0.05)


def test_run__hooks_are_gone_afterwards(model):
    Captured(HookCapture, model, torch.randn(2, 3, 9, 9))
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


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
    found = find_layers(model, images, patterns=["*"], kinds=USUAL)
    model.grown = True
    with (
        HookCapture(model, Wanted(found, ("mean",), ())) as hooks,
        pytest.raises(UserError, match="'conv' was called in the trial batch but not in this one"),
    ):
        hooks.run(images)


class Changing(Small):
    """Calls one more module from its second batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Identity()
        self.is_later = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.more(images) if self.is_later else images)


def test_run__model_that_changes_its_layers_between_batches_is_refused():
    model, images = Changing().eval(), torch.randn(2, 3, 9, 9)
    found = find_layers(model, images, patterns=["*"], kinds=USUAL)
    with HookCapture(model, Wanted(found, ("mean",), ())) as hooks:
        hooks.run(images)
        model.is_later = True
        with pytest.raises(UserError, match=r"changed its layers between batches \(more\)"):
            hooks.run(images)


class Mixed(nn.Module):
    """Everything that a name has to be found for: reuse, functions, tuples, dicts, sequences."""

    class Pair(nn.Module):
        """Returns a tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 6, 1)

        def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.left(maps), self.right(maps)

    class Named(nn.Module):
        """Returns a dictionary."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(10, 5, 1)

        def forward(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": functional.gelu(self.conv(maps)), "in": maps}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pair, self.named = self.Pair(), self.Named()
        self.tokens = nn.Linear(5, 7)
        self.norm = nn.LayerNorm(7)
        self.rnn = nn.GRU(7, 9)
        self.attention = nn.MultiheadAttention(9, 3, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(9, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.conv(images))
        maps = self.relu(maps - 0.5)
        maps += functional.relu(maps)
        named = self.named(torch.cat(self.pair(maps), 1))
        rows = self.norm(self.tokens(named["out"].flatten(2).transpose(1, 2)))
        states, _ = self.rnn(rows.transpose(0, 1))
        sequence = states.transpose(0, 1)
        attended, _ = self.attention(sequence, sequence, sequence)
        return self.fc(self.drop(attended.mean(1)))


def test_run__names_are_the_same_and_values_are_the_layers_own(engine):
    torch.manual_seed(1)
    model, images = Mixed().eval(), torch.randn(4, 3, 6, 6)
    captured = Captured(engine, model, images)
    assert [layer.name for layer in captured.found.layers] == [
        *("conv", "relu", "sub", "relu:2", "relu()", "add", "pair.left", "pair.right"),
        *("cat", "named.conv", "named[out]", "tokens", "norm", "rnn", "attention"),
        *("mean", "fc"),
    ]
    assert captured.found.duplicates == {
        "pair[0]": "pair.left",
        "pair[1]": "pair.right",
        "named[in]": "cat",
        "named.gelu": "named[out]",
        "drop": "mean",
    }
    with torch.no_grad():
        first = model.conv(images).relu()
        second = (first - 0.5).relu()
        rows = model.tokens(
            functional.gelu(model.named.conv(torch.cat(model.pair(second + second), 1)))
            .flatten(2)
            .mT
        )
        states = model.rnn(model.norm(rows).transpose(0, 1))[0].transpose(0, 1)
    torch.testing.assert_close(captured.of("relu:2"), second.mean((2, 3)))
    torch.testing.assert_close(captured.of("add"), 2 * second.mean((2, 3)))
    torch.testing.assert_close(captured.of("tokens"), rows.mean(1))
    torch.testing.assert_close(captured.of("rnn"), states.mean(1))
    torch.testing.assert_close(captured.of("fc"), model(images).detach())


class Branching(nn.Module):
    """Looks at its values, which a stand-in of a tensor does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        return (maps if maps.sum() > 0 else -maps).mean((2, 3))


def test_traced__a_model_that_looks_at_its_values_cannot_be_traced():
    with pytest.raises(UntraceableError, match="control flow"):
        Captured(ENGINES["traced"], Branching().eval(), torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "googlenet", "densenet121", "convnext_tiny", "shufflenet_v2_x0_5"]
)
def test_run__engines_agree_bit_by_bit_where_nothing_is_folded(name):
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    images = torch.randn(2, 3, 64, 64)
    reductions = ("mean", "max", "sd", "active")
    hooks, traced = (
        Captured(ENGINES[each], model, images, reductions) for each in ("hooks", "traced")
    )
    assert len(hooks.found.layers) > 50
    assert torch.equal(hooks.values, traced.values)


def test_run__means_are_those_of_torchvisions_feature_extractor(engine):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    images = torch.randn(3, 3, 64, 64)
    captured = Captured(engine, model, images)
    # Outputs of batch norms are overwritten by the ReLU in place before the extractor hands them
    # out, so they are left out here.
    kinds = {layer.name: layer.kind for layer in captured.found.layers}
    names = [name for name, kind in kinds.items() if kind in ("conv", "pool", "linear")]
    extract = create_feature_extractor(model, {name: name for name in [*names, "layer3.1"]})
    with torch.no_grad():
        features = extract(images)
    assert len(names) == 22
    for name in names:
        expected = features[name].flatten(2).mean(2) if name != "fc" else features[name]
        torch.testing.assert_close(captured.of(name), expected, atol=1e-6, rtol=1e-5)
    block = captured.found.duplicates["layer3.1"]
    torch.testing.assert_close(captured.of(block), features["layer3.1"].mean((2, 3)))


class Adding(nn.Module):
    """Adds in place, over a tensor that the layer before it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        maps += self.other(images)
        return maps.mean((2, 3))


def test_run__additions_in_place_leave_the_layer_before_them_as_it_was(engine):
    model, images = Adding().eval(), torch.randn(2, 3, 5, 5)
    captured = Captured(engine, model, images)
    with torch.no_grad():
        conv, other = model.conv(images), model.other(images)
    torch.testing.assert_close(captured.of("conv"), conv.mean((2, 3)))
    torch.testing.assert_close(captured.of("add"), (conv + other).mean((2, 3)))


def test_traced__additions_stay_in_place():
    model = Adding().eval()
    code = tap_graph(model, []).graph.python_code("self").src
    assert "+= other" in code
