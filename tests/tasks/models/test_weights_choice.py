"""Which state dict of a file a model gets: keys, prefixes, averages, old names, extra states."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.inert_pickle import InertObject
from activarium.tasks.models.model_weights import load_weights, weights_sha256
from activarium.tasks.models.models import load_own, model_source
from activarium.tasks.models.state_dicts import find_state_dicts
from activarium.tasks.models.weights_fit import unread_parts


class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, outputs)


class Counting(Net):
    """A module with an extra state."""

    steps: object = 0

    def get_extra_state(self):
        return {"steps": self.steps, "names": ("a", None), "mean": torch.ones(2)}

    def set_extra_state(self, state):
        self.steps = state["steps"]


class Renaming(Net):
    """Takes the names of its older self."""

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        old = state_dict.pop(f"{prefix}head.weight", None)
        if old is not None:
            state_dict[f"{prefix}fc.weight"] = old
            state_dict[f"{prefix}fc.bias"] = state_dict.pop(f"{prefix}head.bias")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def net(seed, kind=Net, **options):
    torch.manual_seed(seed)
    return kind(**options)


STATE = net(5).state_dict()
OTHER = net(6).state_dict()


def prefixed(prefix, state=STATE):
    return {prefix + name: tensor for name, tensor in state.items()}


def load(tmp_path, content, model=None, **options):
    """Save and load; return the notes, and whether the weights are those of `STATE`."""
    path = tmp_path / "net.pt"
    torch.save(content, path)
    model = model or net(0)
    notes = load_weights(model, path, **options)
    state = model.state_dict()
    return notes, all(torch.equal(state[n], t) for n, t in STATE.items() if n in state)


ARGS = {"args": argparse.Namespace(lr=0.1), "epoch": 3, "best": np.float64(3), "optimizer": {}}


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "arch": "net", "state_dict": STATE, "metric": 71.2, **ARGS},
        {"model": STATE, **ARGS},
        {"model_state_dict": STATE, "optimizer_state_dict": {"state": {0: {"m": torch.ones(2)}}}},
        {"net": STATE, "acc": 91.2},
        {"network": STATE},
        {"params": STATE},
        {"ours": STATE},
        {"checkpoint": {"model": {"weights": STATE}}},
        {"state_dict": {"model": STATE}},
        {"classifier": {"state": STATE}, "means": [torch.ones(3)]},
        prefixed("module."),
        prefixed("_orig_mod.module."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod._orig_mod.module.model."),
        prefixed("model.net.backbone."),
        {n.replace("fc.", "fc._orig_mod."): t for n, t in STATE.items()},
        {n.replace("conv.", "conv.module."): t for n, t in prefixed("model.").items()},
        {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.0", "loops": {}},
        {"state_dict": prefixed("net._orig_mod.")},
        {"model": OrderedDict(STATE), "mean": torch.ones(3), "lr": torch.tensor(0.1)},
    ],
    ids=lambda content: " ".join([*content][:2]),
)
def test_load__state_dict_is_found_by_any_key_and_prefix(tmp_path, content):
    notes, is_same = load(tmp_path, content)
    assert is_same
    assert notes == ()


@pytest.mark.parametrize(
    ("content", "taken", "other"),
    [
        ({"model_ema": OTHER, "model": STATE}, "model", "model_ema"),
        ({"model": STATE, "model_ema": {"n_averaged": 1, "module": OTHER}}, "model", "model_ema"),
        ({"state_dict": STATE, "state_dict_ema": OTHER}, "state_dict", "state_dict_ema"),
        ({"ema": prefixed("module.", OTHER), "net": STATE}, "net", "ema"),
        ({"params_ema": OTHER, "params": STATE}, "params", "params_ema"),
        ({"best": OTHER, "model": STATE}, "model", "best"),
        ({"weights": STATE, "swa_weights": OTHER, **ARGS}, "weights", "swa_weights"),
        (prefixed("ema_model.", OTHER) | prefixed("model."), "model", "ema_model"),
        ({"state_dict": prefixed("t.teacher.", OTHER) | prefixed("t.net.")}, "t.net", "t.teacher"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_load__likeliest_of_several_is_taken_and_said_and_a_key_chooses(
    tmp_path, content, taken, other
):
    notes, is_same = load(tmp_path, content)
    assert is_same
    said = f"the weights are those under '(state_dict.)?{taken}'; '.*{other}.*' would fit too"
    assert len([note for note in notes if re.match(said, note)]) == 1
    notes, is_same = load(tmp_path, content, key=other)
    assert not is_same
    assert not any("would fit too" in note for note in notes)
    assert load(tmp_path, content, key=taken)[1]


def test_load__entries_beside_the_model_are_left_out_and_said(tmp_path):
    content = {"state_dict": prefixed("model.") | {"criterion.weight": torch.ones(3)}}
    notes, is_same = load(tmp_path, content)
    assert is_same
    assert notes == (
        "1 entry of the weights ('criterion.weight') beside 'state_dict.model': left out; "
        "no place in the model",
    )
    averaged = {"model": 3, "model_ema": {"n_averaged": torch.tensor(9), **prefixed("module.")}}
    notes, is_same = load(tmp_path, averaged)
    assert is_same
    assert "'n_averaged'" in " ".join(notes)
    assert "the weights are those under 'model_ema.module'" in " ".join(notes)


def test_load__several_without_a_telling_name_are_refused_until_a_key_chooses(tmp_path):
    content = {"generator": STATE, "critic": OTHER}
    with pytest.raises(
        UserError, match=r"several .*'generator' and 'critic': set model.weights_key"
    ):
        load(tmp_path, content)
    assert load(tmp_path, content, key="generator") == ((), True)
    assert load(tmp_path, {"one": STATE, "two": dict(STATE)}) == ((), True)


def test_load__key_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(UserError, match=r"weights_key: .* no state dict 'ema'; it has 'a', 'b.c'"):
        load(tmp_path, {"a": STATE, "b": {"c": OTHER}}, key="ema")
    with pytest.raises(UserError, match="it has one alone"):
        load(tmp_path, STATE, key="ema")
    fewer = {name: tensor for name, tensor in STATE.items() if "fc" not in name}
    with pytest.raises(UserError, match=r"under 'a', does not fit the model: 2 missing \(fc"):
        load(tmp_path, {"a": fewer, "b": STATE}, key="a")


def test_load__content_without_a_state_dict_names_its_keys(tmp_path):
    with pytest.raises(UserError, match=r"no state dict: .* got a dict of 'epoch', 'args'"):
        load(tmp_path, {"epoch": 3, "args": argparse.Namespace()})


def test_load__whole_model_under_a_key_is_named_unless_a_state_dict_lies_beside_it(tmp_path):
    content = {"epoch": 3, "ema": None, "model": nn.Sequential(nn.Linear(2, 2))}
    with pytest.raises(UserError, match=r"where 'model' is a whole model \(torch.nn.*Sequential"):
        load(tmp_path, content)
    assert load(tmp_path, {**content, "state_dict": STATE}) == ((), True)


def test_load__part_that_fits_in_no_way_is_refused(tmp_path):
    before = net(0)
    start = weights_sha256(before)
    for content in (prefixed("a.") | prefixed("b.", {"fc.weight": STATE["fc.weight"]}) | {"c": 1},):
        with pytest.raises(UserError):
            load(tmp_path, content, before)
    assert weights_sha256(before) == start


def test_load__part_without_the_head_fits_where_the_head_is_kept(tmp_path):
    headless = {name: tensor for name, tensor in STATE.items() if "fc" not in name}
    content = {"state_dict": prefixed("backbone.", headless) | {"queue": torch.ones(2)}}
    model = net(0)
    head = model.fc.weight.clone()
    load(tmp_path, content, model, except_module="fc")
    assert torch.equal(model.fc.weight, head)
    assert torch.equal(model.conv.weight, STATE["conv.weight"])


# --- what loading itself takes --------------------------------------------------------------------


def test_load__old_names_of_weight_norm_are_taken(tmp_path):
    def normed(seed, norm):
        model = net(seed)
        model.conv = norm(model.conv)
        return model

    source = normed(5, parametrizations.weight_norm)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in source.state_dict().items()
    }
    assert "conv.weight_g" in old
    for content in (old, {"state_dict": prefixed("model.", old), **ARGS}, prefixed("module.", old)):
        model = normed(0, parametrizations.weight_norm)
        load(tmp_path, content, model)
        assert weights_sha256(model) == weights_sha256(source)


def test_load__names_that_a_module_renames_itself_are_taken(tmp_path):
    old = {name.replace("fc.", "head."): tensor for name, tensor in STATE.items()}
    assert load(tmp_path, {"model": prefixed("module.", old)}, net(0, Renaming)) == ((), True)
    model = net(0, Renaming)
    start = weights_sha256(model)
    wrong = old | {"head.bias": torch.ones(9)}
    with pytest.raises(
        UserError, match=r"does not fit the model: 2 missing \(fc.weight, fc.bias\)"
    ):
        load(tmp_path, wrong, model)
    assert weights_sha256(model) == start


def test_load__versions_of_modules_in_the_file_count(tmp_path):
    class Versioned(Net):
        _version = 2

        def _load_from_state_dict(self, state_dict, prefix, metadata, *rest):
            if metadata.get("version", 1) < 2:
                state_dict[f"{prefix}fc.bias"] = state_dict[f"{prefix}fc.bias"] + 1
            super()._load_from_state_dict(state_dict, prefix, metadata, *rest)

    new = net(5, Versioned).state_dict()
    assert load(tmp_path, {"model": prefixed("module.", new)}, net(0, Versioned))[1]
    old = net(5).state_dict()
    model = net(0, Versioned)
    load(tmp_path, {"model": old, **ARGS}, model)
    assert torch.equal(model.fc.bias, STATE["fc.bias"] + 1)


def test_load__extra_state_is_taken_and_counted(tmp_path):
    source = net(5, Counting)
    source.steps = 7
    content = {"model": prefixed("module.", source.state_dict()), **ARGS}
    model = net(0, Counting)
    assert load(tmp_path, content, model)[0] == ()
    assert model.steps == 7
    assert weights_sha256(model) == weights_sha256(source)
    model.steps = 8
    assert weights_sha256(model) != weights_sha256(source)
    model.steps = np.float64(7)
    assert len(weights_sha256(model)) == 64
    model.steps = {2: {"a"}, 1: argparse.Namespace(a=1)}
    assert weights_sha256(model) == weights_sha256(model)
    model.steps = iter([1])
    model.steps = object()
    assert len(weights_sha256(model)) == 64
    model.steps = open(tmp_path / "net.pt", "rb")  # noqa: SIM115, PTH123 - it has no content
    with pytest.raises(UserError, match=r"entry '_extra_state' cannot be told"):
        weights_sha256(model)
    model.steps.close()


def test_load__extra_state_that_is_missing_strange_or_unread_is_said(tmp_path):
    save_file(STATE, tmp_path / "net.safetensors")
    notes = load_weights(net(0, Counting), tmp_path / "net.safetensors")
    assert notes == (
        "1 entry of the weights ('_extra_state'): not in the file; the model's own kept",
    )
    notes, is_same = load(tmp_path, {**STATE, "fc._extra_state": {"a": 1}})
    assert is_same
    assert "('fc._extra_state'): left out" in notes[0]
    unread = {**STATE, "_extra_state": {"steps": argparse.Namespace()}}
    with pytest.raises(UserError, match=r"'_extra_state' holds an object of argparse"):
        load(tmp_path, unread, net(0, Counting))


def test_load__types_that_change_are_said(tmp_path):
    whole = {n: (t * 10).to(torch.int8) if t.is_floating_point() else t for n, t in STATE.items()}
    model = net(0)
    notes, _ = load(tmp_path, whole, model)
    assert "8 entries" in notes[0]
    assert "whole numbers in the file, floats in the model" in notes[0]
    assert torch.equal(model.fc.weight, whole["fc.weight"].float())
    notes, is_same = load(tmp_path, {n: t.bfloat16() for n, t in STATE.items()})
    assert not is_same
    assert notes[0] == "the model's weights are bfloat16; they are used as float32"
    halves = {**STATE, "bn.num_batches_tracked": torch.tensor(1.5)}
    assert "rounded" in load(tmp_path, halves)[0][0]


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_load__quantised_tensors_are_used_by_their_values_and_said(tmp_path):
    packed = torch.quantize_per_tensor(STATE["fc.weight"], 0.01, 0, torch.qint8)
    model = net(0)
    notes, _ = load(tmp_path, {**STATE, "fc.weight": packed}, model)
    assert notes == ("1 entry of the weights ('fc.weight'): quantised; values used as float32",)
    assert torch.equal(model.fc.weight, packed.dequantize())


def quantised(seed=3):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore")
def test_quantised_model__is_loaded_and_its_weights_counted(tmp_path):
    config = ModelConfig(architecture=f"{__name__}:quantised", weights="DEFAULT")
    loaded = load_own(model_source(config))
    assert "quantised; they are used as they are" in loaded.notes[0]
    assert weights_sha256(loaded.model) == weights_sha256(quantised())
    other = quantised(4)
    assert weights_sha256(other) != weights_sha256(loaded.model)
    torch.save({"model": other.state_dict(), **ARGS}, tmp_path / "quantised.pt")
    load_weights(loaded.model, tmp_path / "quantised.pt")
    assert weights_sha256(other) == weights_sha256(loaded.model)


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        (net(5, outputs=7).state_dict(), "the file has 7 outputs: set model.outputs"),
        ({**STATE, "conv.weight": torch.ones(8, 3, 3, 3)}, None),
        ({n: t for n, t in net(5, outputs=7).state_dict().items() if "bn" not in n}, None),
        ({**STATE, "more": torch.ones(1)}, None),
        (net(5, outputs=7).state_dict() | {"conv.bias": torch.ones(9)}, None),
    ],
)
def test_load__outputs_are_named_only_where_they_alone_differ(tmp_path, state, hint):
    with pytest.raises(UserError) as caught:
        load(tmp_path, state)
    assert ("model.outputs" in str(caught.value)) == (hint is not None)
    assert hint is None or hint in str(caught.value)


def test_state_dicts__files_that_hold_themselves_are_read_once():
    weights = {"weight": torch.ones(2)}
    content = {"model": weights}
    content |= {f"own{n}": content for n in range(200)}
    assert [each.label for each in find_state_dicts(content)] == ["model"]
    level = {"a": {"b": {}}}
    for _ in range(6):
        level = {f"k{n}": level for n in range(60)}
    assert find_state_dicts(level) == []
    found = find_state_dicts({"best": weights, "net": weights})
    assert [each.label for each in found] == ["net", "best"]


def test_unread_parts__containers_that_hold_themselves_or_lie_deep_are_looked_into_once():
    hidden = InertObject(3)
    own = [hidden]
    own += [own, own]
    assert list(unread_parts({"a": own, "b": own})) == [hidden]
    deep = hidden
    for _ in range(100_000):
        deep = [deep]
    assert list(unread_parts(deep)) == [hidden]
