"""Models that a Python function of the user returns."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.models.models import (
    checkpoint_name,
    load_own,
    load_start,
    model_name,
    model_source,
)

from ..exporting import write_script

CODE = """
import warnings

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=3, colours=3):
        super().__init__()
        self.conv = nn.Conv2d(colours, width, 3)
        self.token = nn.Parameter(torch.arange(float(width)))
        self.fc = nn.Linear(width, 2)

    def forward(self, images):
        return self.fc(self.conv(images).mean((2, 3)) + self.token)


def build(width=3):
    model = Net(width)
    model.preprocessing = {"size": 24, "mean": [0.5], "sd": [0.25], "interpolation": "bicubic"}
    return model


def trained():
    model = Net()
    with torch.no_grad():
        for place, each in enumerate(model.parameters()):
            each.copy_(torch.linspace(-1, 1, each.numel()).view_as(each) + place)
    return model


def fails():
    raise ValueError("two\\nlines")


def half():
    return Net().half().train()


def wrapped():
    return nn.DataParallel(Net())


def compiled():
    return torch.compile(Net())


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))


def wide():
    return Net(colours=4)


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load("script.pt")


def odd_preprocessing():
    model = Net()
    model.preprocessing = {"size": 8, "side": 3}
    return model


def method_preprocessing():
    model = Net()
    model.preprocessing = nn.Identity()
    return model


def lazy():
    return nn.Sequential(nn.LazyConv2d(3, 3))


def meta():
    return Net().to("meta")


def nothing():
    return {"model": 1}
"""


@pytest.fixture(autouse=True)
def own_models(tmp_path, monkeypatch):
    """Put a module `own_models` into the current folder."""
    (tmp_path / "own_models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("own_models", None)


def config_of(function="build", **settings):
    return ModelConfig(
        **{"architecture": f"own_models:{function}", "weights": "DEFAULT", **settings}
    )


def source_of(function="build", **settings):
    return model_source(config_of(function, **settings))


def start(source):
    return load_start(source, classes=5, colours=3, size=(8, 8))


def test_load__is_what_the_function_returns_with_the_options():
    model = load_own(source_of(options={"width": 7})).model
    assert type(model).__name__ == "Net"
    assert model.conv.out_channels == 7
    assert not any(module.training for module in model.modules())
    assert load_own(source_of("Net", options={"width": 5})).model.conv.out_channels == 5


def test_load__follows_the_seed_and_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    models = [load_own(source_of(seed=seed)).model for seed in (4, 4, 5)]
    assert torch.equal(before, torch.random.get_rng_state())
    sums = [weights_sha256(model) for model in models]
    assert sums[0] == sums[1] != sums[2]
    assert weights_sha256(start(source_of(seed=4, weights="untrained")).model) == sums[0]


def test_names__are_the_module_and_function():
    assert model_name(source_of()) == "own_models-build"
    assert checkpoint_name(source_of()) == "default"
    assert checkpoint_name(source_of(weights="untrained")) == "untrained"
    assert checkpoint_name(source_of(weights="a/b.pt")) == "b"
    assert checkpoint_name(source_of(weights="restarted")) == "restarted"


def test_preprocessing__is_the_models_attribute():
    found = source_of().preprocessing
    assert found.model_dump(exclude_none=True) == {
        "size": 24,
        "mean": (0.5,),
        "sd": (0.25,),
        "interpolation": "bicubic",
    }
    assert source_of("trained").preprocessing is None
    assert source_of("method_preprocessing").preprocessing is None
    with pytest.raises(
        UserError, match=r"`preprocessing` of the model of .*: side: no such setting"
    ):
        assert source_of("odd_preprocessing").preprocessing


def test_colours__are_what_the_first_convolution_takes():
    assert source_of().colours(1) == 3
    assert source_of("Net", options={"colours": 1}).colours(3) == 1
    assert source_of("linear").colours(1) == 1
    assert source_of("linear", colours=3).colours(1) == 3
    with pytest.raises(UserError, match="takes images of 4 channels; images have 1 or 3 colours"):
        source_of("wide").colours(3)
    with pytest.raises(UserError, match=r"model\.colours: .*takes 3 colours, got 1"):
        source_of(colours=1).colours(1)


@pytest.mark.parametrize("function", ["wrapped", "compiled"])
def test_load__takes_the_model_out_of_its_wrapping(function):
    model = load_own(source_of(function)).model
    assert [name for name, _ in model.named_children()] == ["conv", "fc"]


def test_load__half_weights_become_float32_and_are_noted():
    loaded = load_own(source_of("half"))
    assert loaded.notes == ("the model's weights are float16; they are used as float32",)
    assert {each.dtype for each in loaded.model.parameters()} == {torch.float32}
    assert load_own(source_of()).notes == ()


def test_control__of_weights_that_the_function_brings_draws_all_of_them_anew():
    source = source_of("trained")
    config = source.config.model_copy(update=source.control())
    assert (config.weights, config.checkpoint) == ("restarted", "untrained")
    model, original = load_own(model_source(config)).model, load_own(source_of("trained")).model
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, original.get_parameter(name)), name
    assert torch.equal(model.token.sort().values, original.token.sort().values)
    assert source_of(weights="file.pt").control()["weights"] == "untrained"


def test_definition__changes_with_options_and_code(own_models):
    first = source_of().definition
    assert first == source_of().definition
    assert source_of(options={"width": 3}).definition != first
    (own_models / "own_models.py").write_text(CODE.replace("+ self.token", "- self.token"))
    assert source_of().definition != first


@pytest.mark.parametrize(
    ("architecture", "match"),
    [
        (
            "absent_module:build",
            "^model.architecture: cannot import 'absent_module' .*No module named 'absent_module'",
        ),
        ("own_models:absent", "^model.architecture: 'own_models:absent' has no such function"),
        ("own_models:fails", r"own_models:fails raised ValueError: two lines \(called with"),
        ("own_models:nothing", "expected a torch.nn.Module to be returned, got dict"),
        ("own_models:lazy", "parameter '0.weight' of the model has no values yet"),
        ("own_models:meta", "parameter 'token' of the model has no values yet"),
        ("own_models:scripted", "returned a TorchScript module, which is not supported"),
    ],
)
def test_load__failing_entry_points_are_one_line(own_models, architecture, match):
    write_script(own_models / "script.pt", nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4))
    with pytest.raises(UserError, match=match) as caught:
        load_own(model_source(ModelConfig(architecture=architecture, weights="DEFAULT")))
    assert "\n" not in str(caught.value)


def test_load__wrong_options_name_them():
    with pytest.raises(UserError, match=r"TypeError.*'depth'.*model\.options: depth\)"):
        load_own(source_of(options={"depth": 3}))


def test_load__outputs_belong_into_the_options():
    with pytest.raises(UserError, match=r"model\.outputs is no setting of an entry point"):
        load_own(source_of(outputs=4))


def test_unknown_architecture__says_what_there_is():
    with pytest.raises(UserError, match=r"timm:<name>, export:<file> and package\.module:function"):
        model_source(ModelConfig(architecture="resnet81"))
    with pytest.raises(UserError, match=r"named export:net\.pt2"):
        model_source(ModelConfig(architecture="net.pt2"))
