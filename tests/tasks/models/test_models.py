from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.models import ResNet18_Weights

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models import models
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.models.models import build_model, load_own, model_source

SMALL = ModelConfig(width=4)


def build(config=SMALL, *, classes=10, colours=3, size=(32, 32)):
    return build_model(config, classes=classes, colours=colours, size=size)


def model_name(config):
    return models.model_name(model_source(config))


def checkpoint_name(config):
    return models.checkpoint_name(model_source(config))


def input_colours(config, of_images):
    return model_source(config).colours(of_images)


def load_pretrained(config):
    return load_own(model_source(config)).model


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


def test_pretrained__preprocessing_and_outputs_are_those_of_the_weights():
    source = model_source(ModelConfig(architecture="inception_v3", weights="DEFAULT"))
    preprocessing = source.preprocessing
    assert (preprocessing.resize, preprocessing.size) == (342, 299)
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert preprocessing.sd == (0.229, 0.224, 0.225)
    assert source.control()["outputs"] == 1_000


@pytest.mark.parametrize("weights", ["untrained", "trained", "file.pt", "epoch-001.safetensors"])
@pytest.mark.parametrize("architecture", ["resnet18", "googlenet"])
def test_pretrained__other_weights_have_no_preprocessing_of_their_own(architecture, weights):
    source = model_source(ModelConfig(architecture=architecture, weights=weights))
    assert source.own_weights is None
    assert source.preprocessing is None


def test_load_pretrained__own_resnet18_points_to_torchvisions():
    with pytest.raises(UserError, match=r"use torchvision:resnet18"):
        checkpoint_name(ModelConfig(weights="DEFAULT"))


def test_load_pretrained__unknown_weights_list_what_there_is():
    config = ModelConfig(architecture="torchvision:resnet18", weights="IMAGENET1K_V9")
    with pytest.raises(UserError, match="it has IMAGENET1K_V1"):
        checkpoint_name(config)


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


@pytest.mark.parametrize(
    "architecture",
    ["lraspp_mobilenet_v3_large", "torchvision:segmentation/lraspp_mobilenet_v3_large"],
)
def test_build_model__segmentation_returns_maps(architecture):
    config = ModelConfig(architecture=architecture, weights="untrained", outputs=6)
    assert model_name(config) == "lraspp_mobilenet_v3_large"
    found = build(config, size=(64, 64))(torch.zeros(1, 3, 64, 64))
    assert found["out"].shape == (1, 6, 64, 64)


def test_pretrained__segmentation_crops_what_it_resizes():
    config = ModelConfig(architecture="fcn_resnet50", weights="DEFAULT")
    source = model_source(config)
    assert (source.preprocessing.resize, source.preprocessing.size) == (520, 520)
    assert source.control()["outputs"] == 21


def test_build_model__options_reach_torchvisions_function():
    config = ModelConfig(architecture="mobilenet_v2", options={"width_mult": 0.25}, outputs=3)
    assert build(config).last_channel == 1280
    assert build(config).features[0][0].out_channels == 8
    assert model_source(config).definition
    with pytest.raises(UserError, match=r"model\.options of mobilenet_v2: .*depth"):
        build(ModelConfig(architecture="mobilenet_v2", options={"depth": 3}))
    with pytest.raises(UserError, match=r"model\.options are keyword arguments"):
        build(ModelConfig(options={"depth": 3}))


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "raft_small", "r3d_18"])
def test_build_model__models_of_other_inputs_and_outputs_are_unknown(name):
    with pytest.raises(UserError, match=r"unknown model\.architecture"):
        build(ModelConfig(architecture=name))


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("squeezenet1_1", {"num_classes": 5}, "num_classes of .* is given by model.outputs, got 5"),
        ("squeezenet1_1", {"weights": "DEFAULT"}, "weights of .* is given by model.weights"),
        ("googlenet", {"transform_input": True}, "is given by model.transform_input"),
        ("vit_b_32", {"image_size": 64}, "image_size .* is 64, but the images are 32x32"),
    ],
)
def test_options__that_settings_decide_name_the_setting(architecture, options, message):
    config = ModelConfig(architecture=architecture, weights="untrained", options=options)
    with pytest.raises(UserError, match=message):
        build_model(config, classes=4, colours=3, size=(32, 32))
