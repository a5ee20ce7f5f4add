"""Exported programs as modules: every layer equals the original's, under its name."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.ops.misc import Permute

from activarium.tasks.models.exported_modules import ExportedModule, module_tree

from ..exporting import export_model


class StretchedConv2d(nn.Conv2d):
    """A convolution that does more than its one operation."""

    def forward(self, images):
        return super().forward(functional.pad(images, (1, 1, 0, 0)))


class Odd(nn.Module):
    """Modules called twice, in-place activations, functions, constants, buffers, and a dict."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
        self.stretched = StretchedConv2d(4, 4, 3, padding=(1, 0), groups=2)
        self.act = nn.ReLU(inplace=True)
        self.block = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding="same", dilation=2), nn.BatchNorm2d(4, eps=0.1), nn.SiLU()
        )
        self.residual = torchvision.models.resnet.BasicBlock(4, 4)
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.norm = nn.LayerNorm(4, eps=0.1, bias=False)
        self.last = Permute([0, 2, 3, 1])
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.same = nn.Identity()
        self.fc = nn.Linear(4, 3, bias=False)
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 4).reshape(1, 4, 1, 1))
        self.register_buffer("shift", torch.arange(4.0).reshape(1, 4, 1, 1), persistent=False)
        self.table = torch.tensor([1.0, -1.0, 0.5, 2.0])

    def forward(self, images):
        maps = self.act(self.stretched(self.act(self.conv(images))))
        maps = self.block(functional.max_pool2d(self.block(maps), 2))
        maps = functional.interpolate(self.residual(self.residual(maps)), scale_factor=2)
        maps = maps * self.scale + self.shift
        tokens = self.norm(self.last(maps)).flatten(1, 2) + self.table
        states, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        steps = torch.arange(tokens.shape[1], device=images.device).float()
        start = torch.zeros(images.shape[0], 4, device=images.device)
        logits = self.same(self.drop(self.fc(self.pool(maps).flatten(1) + start)))
        return {"out": logits, "more": [torch.cat([states.mean(1), states[:, -1]], 1), steps]}


def random_images(images=3, colours=3, side=16):
    return torch.randn(images, colours, side, side, generator=torch.Generator().manual_seed(1))


def outputs(model, images):
    """Return what every call of every module returned, by the name of the call, in order."""
    seen, calls, handles = {}, Counter(), []
    for path, module in model.named_modules():

        def keep(_module, _inputs, output, path=path):
            calls[path] += 1
            name = path if calls[path] == 1 else f"{path}:{calls[path]}"
            # Programs return blocks' sizes along with their maps, where later blocks use them.
            tensors = [output] if isinstance(output, torch.Tensor) else list(output or ())
            tensors = [each for each in tensors if isinstance(each, torch.Tensor)]
            seen[name] = tensors[0].clone() if tensors else None

        handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        result = model(images)
    for handle in handles:
        handle.remove()
    return seen, result


def assert_close(found, wanted):
    """Agree to 1e-5 of the largest value: eager attention takes a way of its own."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def pair(model, images):
    model = model.eval()
    tree = module_tree(export_model(model, images)).eval()
    return tuple(each.to(memory_format=torch.channels_last) for each in (model, tree))


ARCHITECTURES = {
    "resnet18": 32,
    "googlenet": 32,
    "mobilenet_v3_small": 32,
    "vit_b_32": 32,
    "swin_t": 32,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_module_tree__every_layer_equals_the_originals_under_its_name(name):
    side = ARCHITECTURES[name]
    options = {"vit_b_32": {"image_size": side}}.get(name, {})
    if name == "googlenet":
        options = {"aux_logits": False, "init_weights": False}
    original = torchvision.models.get_model(name, weights=None, num_classes=5, **options)
    original, tree = pair(original, random_images(3, 3, side))
    images = random_images(5, 3, side).contiguous(memory_format=torch.channels_last)
    wanted, logits = outputs(original, images)
    found, same = outputs(tree, images)
    assert_close(same, logits)
    missing = {
        type(original.get_submodule(key.partition(":")[0])) for key in set(wanted) - {*found}
    }
    assert missing <= {torchvision.ops.StochasticDepth}
    assert [key for key in wanted if key in found] == list(found)
    for key, output in found.items():
        assert_close(output, wanted[key])
    assert list(tree.state_dict()) == list(original.state_dict())


@pytest.fixture(scope="module")
def odd():
    """Return the odd model and its tree; nobody may change them."""
    return pair(Odd(), random_images())


def test_module_tree__odd_model_has_the_same_calls_and_values(odd):
    original, tree = odd
    images = random_images(4)
    wanted, result = outputs(original, images)
    found, same = outputs(tree, images)
    assert set(wanted) - set(found) == {"same"}
    assert set(found) <= set(wanted)
    for key in set(found) - {""}:
        assert_close(found[key], wanted[key])
    assert list(same) == ["out", "more"]
    for output, original_output in zip(
        (same["out"], *same["more"]), (result["out"], *result["more"]), strict=True
    ):
        assert_close(output, original_output)


def test_module_tree__layers_are_instances_of_their_classes(odd):
    original, tree = odd
    exact = ("act", "block", "block.0", "block.1", "block.2", "pool", "norm", "drop", "fc")
    for path in (*exact, "residual.conv1", "residual.bn2", "residual.relu"):
        assert type(tree.get_submodule(path)) is type(original.get_submodule(path)), path
        wanted, found = original.get_submodule(path), tree.get_submodule(path)
        assert repr(found) == repr(wanted)
    for path in ("conv", "stretched"):
        found = tree.get_submodule(path)
        assert isinstance(found, nn.Conv2d)
        assert isinstance(found, ExportedModule)
    assert type(tree.residual).__name__ == "BasicBlock"
    assert type(tree.residual).__module__ == "torchvision.models.resnet"
    assert isinstance(tree.attention, nn.MultiheadAttention)
    assert type(tree.attention).__module__ == "torch.nn.modules.activation"


@pytest.mark.parametrize("way", ["trace", "copy"])
def test_module_tree__can_be_traced_and_copied(odd, way):
    _, tree = odd
    images = random_images(3)
    with torch.no_grad():
        wanted = tree(images)["out"]
        other = torch.fx.symbolic_trace(tree) if way == "trace" else copy.deepcopy(tree)
        torch.testing.assert_close(other(images)["out"], wanted, rtol=0, atol=0)
    if way == "trace":
        called = {str(node.target) for node in other.graph.nodes if node.op == "call_module"}
        assert {"conv", "block.0", "residual.conv1", "attention", "fc"} <= called


def test_module_tree__functions_have_the_names_that_models_call_them_by(odd):
    graph = torch.fx.symbolic_trace(odd[1]).graph
    names = [node.target.__name__ for node in graph.nodes if node.op == "call_function"]
    assert {"add", "mul", "cat", "interpolate", "mean"} <= set(names)


def test_module_tree__creates_tensors_on_its_inputs_device(odd):
    with torch.no_grad():
        found = copy.deepcopy(odd[1]).to("meta")(random_images(3).to("meta"))
    assert {each.device.type for each in (found["out"], *found["more"])} == {"meta"}


class Recurrent(nn.Module):
    """Rows of an image, one after the other."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 5, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(10, 4, batch_first=True)

    def forward(self, images):
        rows, _ = self.lstm(images.mean(1))
        states, last = self.gru(rows)
        return states.mean(1) + last[0]


def test_module_tree__recurrent_layers_are_copied_moved_and_equal():
    original, tree = pair(Recurrent(), random_images(side=8))
    assert isinstance(tree.lstm, nn.LSTM)
    assert isinstance(tree.gru, nn.GRU)
    images = random_images(4, side=8)
    wanted, _ = outputs(original, images)
    found, _ = outputs(copy.deepcopy(tree).double().float(), images)
    for key in ("", "lstm", "gru"):
        assert_close(found[key], wanted[key])


class Repeated(nn.Module):
    """A block that bakes the size of its input into its graph, at two sizes."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1), nn.Flatten(2), nn.Unflatten(2, (-1, 2))
        )

    def forward(self, images):
        return self.inner(images).mean((2, 3)) + self.inner(images[:, :, :4, :4]).mean((2, 3))


def test_module_tree__calls_at_two_sizes_go_to_the_same_layers():
    original, tree = pair(Repeated(), random_images())
    wanted, _ = outputs(original, random_images(3))
    found, _ = outputs(tree, random_images(3))
    torch.testing.assert_close(found[""], wanted[""], rtol=0, atol=0)
    assert "inner.0" in found
    assert sum(key.startswith("inner.0") for key in found) + sum("@" in key for key in found) >= 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_module_tree__runs_on_the_gpu(odd):
    tree = copy.deepcopy(odd[1]).cuda()
    with torch.no_grad():
        found = tree(random_images(3).cuda())["out"].cpu()
        torch.testing.assert_close(found, odd[1](random_images(3))["out"], rtol=1e-3, atol=1e-4)
