from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import nn
from torch._inductor import config as inductor

from activarium.schemas.errors import UserError
from activarium.schemas.layers import KINDS
from activarium.tasks.capture import engines
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.engine_agreement import deviations
from activarium.tasks.capture.engines import EngineChoice, choose_engine, open_capture
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


def scaled(model, scale):
    """Return the model with batch norms whose scales go down to `scale`."""
    with torch.no_grad():
        model.bn.weight.copy_(torch.linspace(scale, 1.0, 6))
        model.bn.bias.fill_(0.5)
    return model


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


class Repeating(nn.Module):
    """Answers otherwise while it is traced."""

    def __init__(self, wrong) -> None:
        super().__init__()
        self.block = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.wrong = wrong

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shift = self.wrong if isinstance(images, torch.fx.Proxy) else 0.0
        return self.norm(self.block(images) + shift).mean((2, 3))


def test_choose_engine__a_differing_graph_says_where_and_how_far():
    choice = choose(Repeating(1.0).eval())
    assert choice.engine == "hooks"
    assert choice.reason.startswith("hooks: its traced graph gives other values (layer '")
    where = r"channel_mean of channel \d, image \d: -?[\d.e-]+ by hooks, -?[\d.e-]+ in the graph, "
    assert re.search(
        where + r"[\d.e+-]+ of the layer's largest value; 1e-05 is allowed\)$", choice.reason
    )


def test_choose_engine__a_graph_that_is_no_number_says_so():
    reason = choose(Repeating(float("nan")).eval()).reason
    assert "nan in the graph; 1e-05 is allowed" in reason


@pytest.mark.parametrize(
    ("hooks", "graph", "differs"),
    [
        ([0.0, 0.0], [0.0, 0.5], True),  # a layer of zeros alone
        ([1.0, torch.nan], [1.0, torch.nan], False),
        ([1.0, torch.nan], [1.0, 2.0], True),
        ([1.0, 2.0], [torch.nan, 2.0], True),
        ([1.0, torch.inf], [1.0, torch.inf], False),
        ([1.0, torch.inf], [1.0, -torch.inf], True),
        ([1.0, torch.inf], [1.1, torch.inf], True),
        ([1e-30, 0.0], [1e-30, 0.0], False),
    ],
)
def test_deviations__what_is_no_number_is_none_of_another(hooks, graph, differs):
    wanted = wanted_of(nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)).eval())
    columns = wanted.columns()["logits"].stop
    one, other = torch.ones(2, columns), torch.ones(2, columns)
    one[:, :2], other[:, :2] = torch.tensor(hooks), torch.tensor(graph)
    off = deviations(wanted, one, other)
    assert (off["0"] > 1e-5) == differs
    assert not any(off[name] for name in off if name != "0")


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


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32"])
@pytest.mark.parametrize("scale", [0.05, 1e-3, 1e-6])
def test_choose_engine__low_precision_is_never_divided_by_a_batch_norms_scale(
    model, precision, scale
):
    scaled(model, scale)
    exact, wanted = wanted_of(model), wanted_of(model, precision=precision)
    choice = choose_engine(model, wanted, INPUTS, engine="auto", images=100)
    assert (choice.engine, choice.unfolded) == ("traced", None)
    with HookCapture(model, exact) as hooks:
        expected = hooks.run(INPUTS)
    with open_capture(model, wanted, choice) as traced:
        found = traced.run(INPUTS)
    assert max(deviations(exact, expected, found).values()) < 0.01


def to_tf32(values):
    """Round float32 values to a mantissa of 10 bits, as TF32 does."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.slow
def test_choose_engine__tf32_is_compiled_where_it_only_rounds_in_other_places(model, monkeypatch):
    plain = nn.Conv2d._conv_forward

    def rounded(self, images, weight, bias):
        return plain(self, to_tf32(images), to_tf32(weight), bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", rounded)
    scaled(model, 0.05)
    for reductions in (("mean",), ("mean", "active")):
        wanted = wanted_of(model, reductions, precision="tf32")
        choice = choose_engine(model, wanted, INPUTS, engine="compiled", images=100)
        assert (choice.engine, choice.unfolded) == ("compiled", None)


def test_deviations__one_position_that_jumps_is_no_difference_where_that_is_allowed(model):
    wanted = wanted_of(model, ("mean", "active"))
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(INPUTS)
    found = expected.clone()
    found[0, wanted.columns()["channel_active"].start] += 1 / 49
    assert deviations(wanted, expected, found)["conv"] > 0.02
    assert deviations(wanted, expected, found, jumps=True)["conv"] < 2e-3
    with pytest.raises(ValueError, match="expected rows of"):
        deviations(wanted, expected, found[:1])


def test_deviations__tell_of_the_output_where_no_layer_differs(model):
    wanted = wanted_of(model)
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(INPUTS)
    found = expected.clone()
    found[:, wanted.columns()["logits"]] *= 1.5
    assert max(deviations(wanted, expected, found).values()) == pytest.approx(0.5, rel=1e-3)


class Remembering(Small):
    """Keeps what it has computed once, by device, as position biases are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(6))
        self.kept = {}

    def forward(self, images):
        device = str(images.device)
        if device not in self.kept:
            self.kept[device] = self.bias * 2
        return self.fc(self.conv(images).mean((2, 3)) + self.kept[device])


class Unpacking(Small):
    """Unpacks a shape, which a stand-in of a tensor cannot."""

    def forward(self, images):
        return super().forward(torch.stack([*images]))


def test_choose_engine__tracing_leaves_nothing_in_the_model():
    model = Remembering().eval()
    first = choose(model)
    assert {type(each) for each in model.kept.values()} == {torch.Tensor}
    assert "_tensor_constant0" not in model.__dict__
    assert choose(model) == first
    wanted = wanted_of(model)
    with open_capture(model, wanted, first) as capture, HookCapture(model, wanted) as hooks:
        found, expected = capture.run(INPUTS), hooks.run(INPUTS)
    assert max(deviations(wanted, expected, found).values()) <= 1e-5


@pytest.mark.parametrize("name", ['a"b', "a'b", "a\nb", "a:2", "a b", "é", "class", "self", "9"])
def test_choose_engine__whatever_a_module_is_called_it_is_captured(name, capsys):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    model.add_module(name, nn.Linear(4, 5))
    model.eval()
    wanted, choice = wanted_of(model), choose(model)
    assert choice.engine in ("traced", "hooks")
    assert "\n" not in choice.reason
    assert capsys.readouterr().err == ""
    with open_capture(model, wanted, choice) as capture:
        found = capture.run(INPUTS)
    place = [layer.name for layer in wanted.layers.layers].index(name)
    start = wanted.layers.offsets()[place]
    torch.testing.assert_close(found[:, start : start + 5], model(INPUTS).detach())


def test_open_capture__a_module_called_like_a_second_call_is_refused():
    class Twice(Small):
        def __init__(self):
            super().__init__()
            self.add_module("fc:2", nn.Linear(4, 4))

        def forward(self, images):
            rows = self.conv(images).mean((2, 3))
            return self.get_submodule("fc:2")(self.fc(rows) + self.fc(rows * 2))

    with pytest.raises(UserError, match="two layers are called 'fc:2'"):
        choose(Twice().eval())


@pytest.mark.parametrize("model", [Unpacking, Branching])
def test_choose_engine__whatever_a_tracer_meets_means_hooks_in_one_line(model, capsys):
    choice = choose(model().eval())
    assert (choice.engine, choice.unfolded) == ("hooks", None)
    assert choice.reason.startswith("hooks: the model cannot be traced (")
    assert "\n" not in choice.reason
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UserError, match=r"record\.engine: the model cannot be compiled: .*hooks"):
        choose(model().eval(), engine="compiled")


def test_choose_engine__no_memory_is_not_taken_for_a_model_that_cannot_be_traced(
    model, monkeypatch
):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engines, "TracedCapture", fail)
    with pytest.raises(torch.OutOfMemoryError):
        choose(model)


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
