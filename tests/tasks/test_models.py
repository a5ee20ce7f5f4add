from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models import (
    build_model,
    checkpoint_name,
    input_colours,
    is_pretrained,
    load_pretrained,
    load_weights,
    model_name,
    pretrained_classes,
    pretrained_preprocessing,
    weights_sha256,
)

SHARED = Path(__file__).parents[2].parent / "shared"
SMALL = ModelConfig(width=4)


def build(config=SMALL, *, classes=10, colours=3, size=(32, 32)):
    return build_model(config, classes=classes, colours=colours, size=size)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ModelConfig(width=32), "resnet18-w32"),
        (ModelConfig(architecture="two-block-cnn"), "two-block-cnn"),
        (ModelConfig(architecture="two-block-cnn", width=16), "two-block-cnn-w16"),
        (ModelConfig(architecture="googlenet"), "googlenet"),
        (ModelConfig(architecture="torchvision:googlenet"), "googlenet"),
        (ModelConfig(architecture="torchvision:resnet18"), "torchvision-resnet18"),
        (ModelConfig(name="mine"), "mine"),
    ],
)
def test_model_name__tells_architectures_and_widths_apart(config, name):
    assert model_name(config) == name


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ModelConfig(weights="untrained"), "untrained"),
        (ModelConfig(weights="some/where/epoch-003.safetensors"), "epoch-003"),
        (ModelConfig(architecture="googlenet", weights="DEFAULT"), "imagenet1k_v1"),
        (ModelConfig(weights="trained", checkpoint="final"), "final"),
    ],
)
def test_checkpoint_name__follows_from_the_weights(config, name):
    assert checkpoint_name(config) == name


def test_checkpoint_name__of_weights_yet_to_train_is_refused():
    with pytest.raises(UserError, match="before it is trained"):
        checkpoint_name(ModelConfig())


@pytest.mark.parametrize("typo", ["resnet81", "ResNet18", "torchvision:resnet-18", "two_block_cnn"])
def test_build_model__unknown_name_suggests_the_closest(typo):
    with pytest.raises(UserError, match=r"did you mean .*(resnet18|two-block-cnn)"):
        build(ModelConfig(architecture=typo))


def test_build_model__same_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = build(), build()
    other = build(SMALL.model_copy(update={"seed": 1}))
    assert torch.equal(before, torch.random.get_rng_state())
    assert weights_sha256(first) == weights_sha256(second) != weights_sha256(other)


def test_build_model__is_in_eval_mode_and_float32():
    model = build()
    assert not any(module.training for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("architecture", ["resnet18", "two-block-cnn"])
def test_build_model__own_architectures_take_the_images_colours(architecture):
    model = build(ModelConfig(architecture=architecture, width=4), colours=1, classes=5)
    assert model.conv1.in_channels == 1
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 5)


def test_build_model__torchvision_prefix_gives_torchvisions_own_stem():
    model = build(ModelConfig(architecture="torchvision:resnet18", outputs=6), colours=1)
    assert model.conv1.kernel_size == (7, 7)
    assert model.conv1.in_channels == 3
    assert model.fc.out_features == 6


def test_build_model__with_pretrained_weights_named_has_their_outputs():
    config = ModelConfig(architecture="squeezenet1_1", weights="DEFAULT")
    assert build(config, size=(64, 64))(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_build_model__vision_transformer_takes_the_images_size_or_says_why_not():
    config = ModelConfig(architecture="vit_b_32", outputs=2)
    assert build(config, size=(64, 64)).image_size == 64
    with pytest.raises(UserError, match=r"vit_b_32 .*70x70.*preprocessing.size"):
        build(config, size=(70, 70))


@pytest.mark.parametrize("images", [1, 3])
def test_input_colours__are_configured_or_the_test_sets_or_torchvisions_three(images):
    assert input_colours(SMALL, images) == images
    assert input_colours(SMALL.model_copy(update={"colours": 3}), images) == 3
    assert input_colours(SMALL.model_copy(update={"colours": 1}), images) == 1
    assert input_colours(ModelConfig(architecture="googlenet", colours=3), images) == 3
    assert input_colours(ModelConfig(architecture="googlenet"), images) == 3


def test_input_colours__torchvisions_models_refuse_grey():
    with pytest.raises(UserError, match=r"model\.colours: .*googlenet takes 3 colours, got 1"):
        input_colours(ModelConfig(architecture="googlenet", colours=1), 1)


def test_pretrained__preprocessing_and_classes_are_those_of_the_weights():
    config = ModelConfig(architecture="inception_v3", weights="DEFAULT")
    preprocessing = pretrained_preprocessing(config)
    assert (preprocessing.resize, preprocessing.size) == (342, 299)
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert preprocessing.sd == (0.229, 0.224, 0.225)
    classes = pretrained_classes(config)
    assert len(classes) == 1000
    assert classes[0] == "tench"


@pytest.mark.parametrize("weights", ["untrained", "trained", "file.pt", "epoch-001.safetensors"])
def test_pretrained__other_weights_have_no_preprocessing_of_their_own(weights):
    config = ModelConfig(weights=weights)
    assert not is_pretrained(config)
    assert pretrained_preprocessing(config) is None
    assert pretrained_classes(config) is None


def test_load_pretrained__own_resnet18_points_to_torchvisions():
    with pytest.raises(UserError, match=r"use torchvision:resnet18"):
        load_pretrained(ModelConfig(weights="DEFAULT"))


def test_load_pretrained__unknown_weights_list_what_there_is():
    config = ModelConfig(architecture="torchvision:resnet18", weights="IMAGENET1K_V9")
    with pytest.raises(UserError, match="it has IMAGENET1K_V1"):
        load_pretrained(config)


def test_load_pretrained__other_number_of_outputs_is_refused():
    config = ModelConfig(architecture="torchvision:resnet18", weights="DEFAULT", outputs=10)
    with pytest.raises(UserError, match=r"1000 outputs, model.outputs asks for 10"):
        load_pretrained(config)


def test_load_pretrained__failing_download_says_what_to_do(monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", fail)
    config = ModelConfig(architecture="torchvision:resnet18", weights="DEFAULT")
    with pytest.raises(UserError, match=r"Name or service.*fetch https://.*or name the file"):
        load_pretrained(config)


def with_heads(name):
    return torchvision.models.get_model(
        name, weights=None, num_classes=10, aux_logits=True, init_weights=False
    ).state_dict()


@pytest.mark.parametrize("shifts", [None, False])
@pytest.mark.parametrize(
    ("name", "head"), [("googlenet", "aux1.fc2.weight"), ("inception_v3", "AuxLogits.fc.weight")]
)
def test_load_pretrained__leaves_the_auxiliary_heads_out(monkeypatch, name, head, shifts):
    config = ModelConfig(architecture=name, weights="DEFAULT", transform_input=shifts)
    held = torchvision.models.get_model(
        name, weights=None, num_classes=1000, aux_logits=True, init_weights=False
    ).state_dict()
    enum = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(enum, "get_state_dict", lambda *_args, **_kwargs: held)
    model = load_pretrained(config)
    assert head in held
    assert head not in model.state_dict()
    assert model.transform_input is (shifts is None)
    assert not model.training
    assert torch.equal(model.state_dict()["fc.weight"], held["fc.weight"])


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_load_weights__auxiliary_heads_may_be_there_or_not(tmp_path, name):
    model = build(ModelConfig(architecture=name), size=(299, 299))
    full = with_heads(name)
    torch.save(full, tmp_path / "with.pt")
    torch.save({n: t for n, t in full.items() if n in model.state_dict()}, tmp_path / "without.pt")
    sums = set()
    for file in ("with.pt", "without.pt"):
        load_weights(model, tmp_path / file)
        sums.add(weights_sha256(model))
    assert len(sums) == 1


@pytest.mark.parametrize("weights", ["untrained", "trained", "googlenet-1378be20.pth"])
@pytest.mark.parametrize(("setting", "shifts"), [(None, False), (True, True), (False, False)])
def test_build_model__input_transform_is_the_setting(weights, setting, shifts):
    config = ModelConfig(architecture="googlenet", weights=weights, transform_input=setting)
    assert build(config).transform_input is shifts


@pytest.mark.parametrize("name", ["resnet18", "two-block-cnn", "mobilenet_v2"])
def test_build_model__input_transform_of_another_model_is_refused(name):
    with pytest.raises(UserError, match=rf"expected googlenet or inception_v3, '{name}' cannot"):
        build(ModelConfig(architecture=name, transform_input=True))
    build(ModelConfig(architecture=name, transform_input=False))


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
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
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
    with pytest.raises(UserError, match=r"save model.state_dict\(\)"):
        load_weights(build(), tmp_path / "model.pt")
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
