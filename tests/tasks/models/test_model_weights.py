"""Weights: files of all kinds, what does not fit, and checksums."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.model_weights import draw_anew, load_weights, weights_sha256
from activarium.tasks.models.models import build_model

from ..exporting import write_export, write_script

SHARED = Path(__file__).parents[3].parent / "shared"
SMALL = ModelConfig(width=4)


def build(config=SMALL, *, classes=10, colours=3, size=(32, 32)):
    return build_model(config, classes=classes, colours=colours, size=size)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def with_heads(name):
    return torchvision.models.get_model(
        name, weights=None, num_classes=10, aux_logits=True, init_weights=False
    ).state_dict()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_load_weights__auxiliary_heads_may_be_there_or_not(tmp_path, name):
    model = build(ModelConfig(architecture=name), size=(299, 299))
    full = with_heads(name)
    torch.save(full, tmp_path / "with.pt")
    torch.save({n: t for n, t in full.items() if n in model.state_dict()}, tmp_path / "without.pt")
    sums = set()
    for file, said in (("with.pt", True), ("without.pt", False)):
        notes = load_weights(model, tmp_path / file)
        assert any("of heads that only training uses" in note for note in notes) == said
        sums.add(weights_sha256(model))
    assert len(sums) == 1


class OwnHead(nn.Module):
    """A model of one's own whose head is called as one of torchvision's, and is used."""

    def __init__(self, *, head=True):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        if head:
            self.aux1 = nn.Linear(4, 3)


def test_load_weights__heads_of_other_models_must_be_there_and_have_a_place(tmp_path):
    full = OwnHead().state_dict()
    torch.save({n: t for n, t in full.items() if not n.startswith("aux1")}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"2 missing \(aux1.weight, aux1.bias\)"):
        load_weights(OwnHead(), tmp_path / "a.pt")
    torch.save(full, tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"2 unexpected \(aux1.weight, aux1.bias\)"):
        load_weights(OwnHead(head=False), tmp_path / "b.pt")


@pytest.mark.parametrize("nest", ["plain", "state_dict", "model", "module", "compiled"])
def test_load_weights__finds_the_state_dict_in_common_wrappings(tmp_path, nest):
    source = build(SMALL.model_copy(update={"seed": 5}))
    weights = state(source)
    if nest in ("state_dict", "model"):
        saved = {nest: weights, "epoch": 3}
    else:
        prefix = {"plain": "", "module": "module.", "compiled": "_orig_mod."}[nest]
        saved = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save(saved, tmp_path / "weights.pt")
    model = build()
    load_weights(model, tmp_path / "weights.pt")
    assert weights_sha256(model) == weights_sha256(source)


@pytest.mark.parametrize("architecture", ["resnet18", "mnasnet0_5"])
def test_load_weights__safetensors_round_trip(tmp_path, architecture):
    config = ModelConfig(architecture=architecture, width=4)
    source = build(config.model_copy(update={"seed": 5}))
    save_file(state(source), tmp_path / "weights.safetensors")
    model = build(config)
    load_weights(model, tmp_path / "weights.safetensors")
    assert weights_sha256(model) == weights_sha256(source)


def test_load_weights__files_without_batch_counters_load(tmp_path):
    weights = {n: t for n, t in state(build()).items() if "num_batches" not in n}
    save_file(weights, tmp_path / "old.safetensors")
    model = build()
    load_weights(model, tmp_path / "old.safetensors")
    assert all(
        torch.equal(tensor, weights[n]) for n, tensor in state(model).items() if n in weights
    )


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        (ModelConfig(width=8), r"\(8, 3, 3, 3\) in the file, \(4, 3, 3, 3\) in the .*model.width"),
        (ModelConfig(width=4, outputs=6), "2 of another shape.*6 outputs: set model.outputs"),
        (ModelConfig(architecture="torchvision:resnet18"), "use torchvision:resnet18"),
        (ModelConfig(architecture="two-block-cnn", width=4), "missing .*unexpected "),
    ],
)
def test_load_weights__other_model_is_one_line_with_counts_shapes_and_a_hint(tmp_path, other, hint):
    save_file(state(build(other)), tmp_path / "other.safetensors")
    model = build()
    before = weights_sha256(model)
    with pytest.raises(UserError, match=hint) as caught:
        load_weights(model, tmp_path / "other.safetensors")
    assert "\n" not in str(caught.value)
    assert weights_sha256(model) == before


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"a-1.pt", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"]
)
def test_load_weights__damaged_file_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="is damaged or no state dict") as caught:
        load_weights(build(), tmp_path / name)
    assert "\n" not in str(caught.value)


def test_load_weights__truncated_file_is_refused(tmp_path):
    for name, write in (("a.safetensors", save_file), ("a.pt", torch.save)):
        write(state(build()), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="is damaged"):
            load_weights(build(), tmp_path / name)


def test_load_weights__whole_model_or_other_content_is_refused(tmp_path):
    torch.save(build(), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"other than tensors.*save model.state_dict\(\)") as caught:
        load_weights(build(), tmp_path / "model.pt")
    assert "\n" not in str(caught.value)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        load_weights(build(), tmp_path / "list.pt")


def test_load_weights__missing_file_names_it(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*gone.pt"):
        load_weights(build(), tmp_path / "gone.pt")


def test_weights_sha256__ignores_memory_format_and_batch_counters():
    model = build()
    before = weights_sha256(model)
    model.to(memory_format=torch.channels_last)
    model.bn1.num_batches_tracked += 3
    assert weights_sha256(model) == before


def test_weights_sha256__one_changed_value_changes_it():
    model = build()
    before = weights_sha256(model)
    with torch.no_grad():
        model.layer3[0].bn2.running_mean[0] = 1e-30
    assert weights_sha256(model) != before


def test_weights_sha256__tells_an_input_transform_and_no_other_setting():
    model = build(ModelConfig(architecture="googlenet", outputs=2))
    before = weights_sha256(model)
    model.transform_input = True
    assert weights_sha256(model) != before
    del model.transform_input
    assert weights_sha256(model) == before


def test_weights_sha256__covers_every_precision():
    model = build()
    sums = {weights_sha256(model.to(d)) for d in (torch.float32, torch.bfloat16, torch.float16)}
    assert len(sums) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_weights_sha256__is_the_same_on_the_gpu():
    model = build()
    assert weights_sha256(model) == weights_sha256(model.cuda())


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared models beside the checkout")
def test_load_weights__shared_cifar10_model_fits_width_32():
    model = build(ModelConfig(width=32))
    load_weights(model, SHARED / "models" / "cifar10-resnet18-w32.safetensors")
    assert sum(p.numel() for p in model.parameters()) == 2_797_610
    assert bool(torch.isfinite(model(torch.zeros(1, 3, 32, 32))).all())


def test_load_weights__half_weights_become_float32_and_are_noted(tmp_path):
    weights = {name: tensor.half() for name, tensor in state(build()).items()}
    save_file(weights, tmp_path / "half.safetensors")
    model = build()
    notes = load_weights(model, tmp_path / "half.safetensors")
    assert notes == ("the model's weights are float16; they are used as float32",)
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    assert torch.equal(model.conv1.weight, weights["conv1.weight"].float())


def test_load_weights__whole_programs_say_what_to_do(tmp_path):
    model, images = build(), torch.zeros(2, 3, 32, 32)
    with pytest.raises(UserError, match="is TorchScript, which is not supported: save") as caught:
        load_weights(build(), write_script(tmp_path / "script.pt", model, images))
    assert "\n" not in str(caught.value)
    program = write_export(tmp_path / "program.pt2", nn.Flatten(), images)
    with pytest.raises(UserError, match=r"torch\.export program.*leave model\.architecture out"):
        load_weights(build(), program)


class Elsewhere(torch.nn.Linear):
    """Tells of the device that its weights are drawn on; it begins on another one."""

    def __init__(self):
        super().__init__(2, 2)
        self.device = "cuda:0"

    def cpu(self):
        self.device = "cpu"
        return super().cpu()

    def reset_parameters(self):
        self.drawn_on = getattr(self, "device", None)
        super().reset_parameters()


def test_draw_anew__draws_on_the_cpu_wherever_the_model_was():
    model = Elsewhere()
    draw_anew(model, 1)
    assert model.drawn_on == "cpu"


def test_draw_anew__follows_the_seed_and_changes_every_parameter():
    model, again, other = (build(ModelConfig(width=4, seed=9)) for _ in range(3))
    start = state(model)
    before = torch.random.get_rng_state()
    draw_anew(model, 1)
    draw_anew(again, 1)
    draw_anew(other, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert weights_sha256(model) == weights_sha256(again) != weights_sha256(other)
    drawn = [name for name, _ in model.named_parameters() if "bn" not in name and "1." not in name]
    assert drawn
    for name in drawn:
        assert not torch.equal(model.get_parameter(name), start[name]), name


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (torch.ones(3, 4, dtype=torch.bool), "true and false in the file"),
        (torch.full((3, 4), float("nan")), "NaN or infinite values in the file"),
        (torch.full((3, 4), float("-inf"), dtype=torch.float16), "NaN or infinite values"),
        (torch.full((3, 4), float("nan")).to(torch.float8_e4m3fn), "NaN or infinite values"),
    ],
)
def test_load_weights__truths_and_values_that_are_not_finite_are_said(tmp_path, weight, said):
    torch.save({"weight": weight, "bias": torch.ones(3)}, tmp_path / "a.pt")
    notes = load_weights(nn.Linear(4, 3), tmp_path / "a.pt")
    assert [note for note in notes if said in note and "1 entry of the weights ('weight')" in note]


def test_load_weights__complex_numbers_are_refused_where_the_model_is_real(tmp_path):
    weight = torch.ones(3, 4, dtype=torch.complex64)
    torch.save({"weight": weight, "bias": torch.ones(3)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"'weight'\): complex in the file, real in the model"):
        load_weights(nn.Linear(4, 3), tmp_path / "a.pt")
    load_weights(nn.Linear(4, 3, dtype=torch.complex64), tmp_path / "a.pt")


def test_load_weights__names_in_files_cannot_write_to_the_terminal(tmp_path):
    odd = "\x1b[2J\nmodel.weights: all is well \u202e"
    torch.save({"weight": torch.ones(3, 4), odd: torch.ones(3)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="does not fit") as caught:
        load_weights(nn.Linear(4, 3), tmp_path / "a.pt")
    assert str(caught.value).isprintable()
    assert r"\x1b[2J\nmodel.weights" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"weight": torch.ones(3, 4), "extra": None}, "'extra' among .* no tensor but NoneType"),
        ({"model": {"weight": torch.ones(3, 4), "n": 3}, "x": 1}, "'n' among .* no tensor but int"),
        ({"weight": torch.ones(3, 4), "bias": [1.0]}, "'bias' among .* no tensor but list"),
    ],
)
def test_load_weights__entry_that_is_no_tensor_is_named(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=said):
        load_weights(nn.Linear(4, 3), tmp_path / "a.pt")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_load_weights__tar_archives_are_named_as_such(tmp_path, mode):
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "a.pt")
    with tarfile.open(tmp_path / "a.pth.tar", mode) as archive:
        archive.add(tmp_path / "a.pt", "pickle")
    with pytest.raises(UserError, match=r"a.pth.tar is a tar archive, .* unpack it"):
        load_weights(nn.Linear(4, 3), tmp_path / "a.pth.tar")
    (tmp_path / "zeros.pt").write_bytes(bytes(4096))
    with pytest.raises(UserError, match="damaged or no state dict"):
        load_weights(nn.Linear(4, 3), tmp_path / "zeros.pt")
