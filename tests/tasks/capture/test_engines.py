from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch._inductor import config as inductor

from activarium.schemas.errors import UserError
from activarium.schemas.layers import KINDS
from activarium.tasks.capture import engines
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.engines import EngineChoice, choose_engine, deviations, open_capture
from activarium.tasks.capture.layers import find_layers


class Small(nn.Module):
    """A convolution, a batch norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.bn(self.conv(images))).mean((2, 3)))


class Branching(Small):
    """Looks at its values."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if images.sum() > 0 else -images)


INPUTS = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def wanted_of(model, reductions=("mean",), precision="float32"):
    found = find_layers(model, INPUTS, patterns=["*"], kinds=KINDS)
    return Wanted(found, reductions, (), precision)


def choose(model, reductions=("mean",), *, engine="auto", images=100, density=False):
    wanted = wanted_of(model, reductions)
    return choose_engine(model, wanted, INPUTS, engine=engine, images=images, density=density)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small().eval()


def test_choose_engine__traced_graph_for_short_recordings(model):
    choice = choose(model)
    assert (choice.engine, choice.unfolded) == ("traced", ())
    assert choice.reason == "traced graph, not compiled, because the recording is short"


@pytest.mark.parametrize("settings", [{"reductions": ("mean", "active")}, {"density": True}])
def test_choose_engine__counts_of_positions_are_never_folded(model, settings):
    assert choose(model, **settings).unfolded is None


def test_choose_engine__hooks_where_the_model_cannot_be_traced():
    choice = choose(Branching().eval())
    assert choice.engine == "hooks"
    assert "control flow" in choice.reason


def test_choose_engine__compiled_cannot_be_forced_on_such_a_model():
    with pytest.raises(UserError, match=r"record\.engine: the model cannot be compiled: .*auto"):
        choose(Branching().eval(), engine="compiled")


def test_choose_engine__hooks_when_they_are_asked_for(model):
    assert choose(model, engine="hooks").engine == "hooks"


def test_choose_engine__a_batch_norm_that_costs_exactness_is_left_unfolded(model):
    with torch.no_grad():
        # The batch norm's output hardly depends on the convolution: restoring it loses digits.
        model.bn.weight.fill_(1e-4)
        model.bn.bias.fill_(1.0)
    choice = choose(model)
    assert (choice.engine, choice.unfolded) == ("traced", ("conv",))


@pytest.mark.slow
def test_choose_engine__compiled_agrees_with_hooks_and_takes_short_batches(model):
    choice = choose(model, engine="compiled")
    assert (choice.engine, choice.reason) == ("compiled", "compiled graph")
    wanted = wanted_of(model)
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(INPUTS)
    with open_capture(model, wanted, choice, batch_size=4) as capture:
        whole, part = capture.run(INPUTS), capture.run(INPUTS[:3])
    assert max(deviations(wanted, expected, whole).values()) <= 1e-5
    assert part.shape[0] == 3
    assert torch.equal(part, whole[:3])


def test_choose_engine__long_recordings_are_compiled_where_a_compiler_is(
    model, monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(inductor.cpp, "cxx", (None, "no-such-compiler"))
    monkeypatch.setattr(inductor, "fx_graph_cache", False)
    torch._dynamo.reset()
    torch._inductor.cpu_vec_isa.valid_vec_isa_list.cache_clear()
    monkeypatch.setitem(engines.LONG_RUN_FLOPS, "cpu", 1)
    choice = choose(model)
    assert choice.engine == "traced"
    assert choice.reason == ("traced graph, not compiled: there is no C++ compiler on this machine")


def test_choose_engine__nan_from_the_model_is_left_to_be_reported_by_the_recording(model):
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = float("nan")
    assert choose(model).engine in ("traced", "hooks")


def test_open_capture__engines_record_the_same(model):
    wanted = wanted_of(model, ("mean", "sd"))
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(INPUTS)
    for choice in (
        EngineChoice("hooks", None, ""),
        EngineChoice("traced", None, ""),
        EngineChoice("traced", (), ""),
        EngineChoice("traced", ("conv",), ""),
    ):
        with open_capture(model, wanted, choice) as capture:
            found = capture.run(INPUTS)
            assert capture.engine == choice.engine
        assert max(deviations(wanted, expected, found).values()) <= 5e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "mnasnet0_5", "vit_b_32"])
def test_choose_engine__auto_is_within_tolerance_on_torchvisions_models(name):
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, **options).eval()
    images = torch.randn(2, 3, 224, 224)
    found = find_layers(model, images, patterns=["*"], kinds=KINDS)
    wanted = Wanted(found, ("mean", "sd"), ())
    choice = choose_engine(model, wanted, images, engine="auto", images=100)
    assert choice.engine == "traced"
    other = torch.randn(3, 3, 224, 224)
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(other)
    with open_capture(model, wanted, choice) as capture:
        assert max(deviations(wanted, expected, capture.run(other)).values()) <= 1e-5
