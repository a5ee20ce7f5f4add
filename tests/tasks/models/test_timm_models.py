"""timm's models: names, preprocessing, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from activarium.schemas.config import ModelConfig, PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images.preprocessing import Preprocessing, fit_image
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.models.models import (
    build_model,
    checkpoint_name,
    load_own,
    model_name,
    model_source,
)

SMALL = "test_resnet"
"""One of the models of 0.5 million parameters that timm keeps for tests."""


def test_source__without_timm_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        UserError, match=r"not installed: pip install 'activarium\[timm\]'"
    ) as caught:
        model_name(model_source(config_of()))
    assert "\n" not in str(caught.value)


def config_of(name=SMALL, **settings):
    return ModelConfig(**{"architecture": f"timm:{name}", "weights": "untrained", **settings})


@pytest.fixture
def timm():
    return pytest.importorskip("timm")


def build(config, *, size=(32, 32), classes=4):
    colours = model_source(config).colours(3)
    return build_model(config, classes=classes, colours=colours, size=size)


def test_build__is_timms_model_of_the_seed(timm):
    model = build(config_of(seed=3))
    torch.manual_seed(3)
    wanted = timm.create_model(SMALL, num_classes=4).eval()
    assert weights_sha256(model) == weights_sha256(wanted)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), wanted(images))
    assert not any(module.training for module in model.modules())


def test_build__takes_options_outputs_and_grey(timm):
    config = config_of(outputs=7, colours=1, options={"global_pool": "max"})
    model = build(config)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    assert model.global_pool.pool_type == "max"
    assert model_source(config).definition != model_source(config_of()).definition == ""


def test_build__transformers_take_the_images_size_or_say_why_not(timm):
    model = build(config_of("test_vit"), size=(64, 64))
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    with pytest.raises(UserError, match=r"timm could not make test_vit: .*depth_of"):
        build(config_of("test_vit", options={"depth_of": 3}))


@pytest.mark.parametrize(
    ("architecture", "weights", "checkpoint"),
    [
        (SMALL, "untrained", "untrained"),
        (SMALL, "DEFAULT", "r160_in1k"),
        (SMALL, "r160_in1k", "r160_in1k"),
        (f"{SMALL}.r160_in1k", "DEFAULT", "r160_in1k"),
        ("resnet18.a2_in1k", "DEFAULT", "a2_in1k"),
        ("resnet18.a2_in1k", "a1_in1k", "a1_in1k"),
        ("resnet18", "some/weights.safetensors", "weights"),
    ],
)
def test_names__are_timms_and_the_tag(timm, architecture, weights, checkpoint):
    source = model_source(config_of(architecture, weights=weights))
    assert model_name(source) == f"timm-{architecture.partition('.')[0]}"
    assert checkpoint_name(source) == checkpoint


@pytest.mark.parametrize(
    ("typo", "match"),
    [
        ("resnet81", r"timm \S+ has no model 'resnet81'; did you mean .*timm:resnet"),
        ("zzzzzzzz", r"no model 'zzzzzzzz'; timm.list_models\(\) names them"),
        ("resnet18.a9_in1k", r"no weights 'a9_in1k' of resnet18; it has .*a1_in1k"),
    ],
)
def test_names__unknown_ones_show_the_closest(timm, typo, match):
    with pytest.raises(UserError, match=match) as caught:
        model_name(model_source(config_of(typo)))
    assert "\n" not in str(caught.value)


def test_own_weights__model_without_any_says_so(timm):
    without = next(name for name in timm.list_models() if not timm.list_pretrained(f"{name}.*"))
    source = model_source(config_of(without, weights="DEFAULT"))
    with pytest.raises(UserError, match=f"timm has no weights of {without}; set model.weights"):
        checkpoint_name(source)


def test_load__other_number_of_outputs_is_refused(timm):
    with pytest.raises(UserError, match=r"1000 outputs, model.outputs asks for 10"):
        load_own(model_source(config_of(weights="DEFAULT", outputs=10)))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The cache of a machine without a network, empty."""
    constants = pytest.importorskip("huggingface_hub.constants")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_load__failing_download_says_where_to_put_what(timm, offline):
    with pytest.raises(UserError, match="could not download or read timm's weights of") as caught:
        load_own(model_source(config_of(weights="DEFAULT")))
    text = str(caught.value)
    assert "\n" not in text
    hub = timm.get_pretrained_cfg(SMALL).hf_hub_id
    assert f"model.safetensors of the repository {hub} of the Hugging Face Hub" in text
    assert f"folder models--{hub.replace('/', '--')} in its cache" in text
    assert f"put it into {offline} (HF_HUB_CACHE)" in text
    assert "model.weights, with model.outputs=1000" in text


def test_load__weights_that_lie_where_it_says_are_found(timm, offline):
    made = timm.create_model(SMALL)
    folder = offline / f"models--{timm.get_pretrained_cfg(SMALL).hf_hub_id.replace('/', '--')}"
    kept = folder / "snapshots" / "of-a-commit"
    kept.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("of-a-commit")
    save_file(made.state_dict(), kept / "model.safetensors")
    found = load_own(model_source(config_of(weights="DEFAULT"))).model
    for name, value in made.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_control__has_the_outputs_of_the_weights_and_no_others(timm):
    assert model_source(config_of(weights="DEFAULT")).control()["outputs"] == 1_000
    assert model_source(config_of(weights="file.pt")).control()["outputs"] is None


def test_transform_input__is_refused(timm):
    with pytest.raises(UserError, match="cannot transform its input"):
        model_source(config_of(transform_input=True))


@pytest.mark.parametrize("sizes", [(300, 200), (97, 400), (224, 224)])
@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",
        "test_vit",
        "tf_efficientnet_b0.ns_jft_in1k",
        "eva02_tiny_patch14_336.mim_in22k_ft_in1k",
        "resnet10t",
    ],
)
def test_preprocessing__fits_images_as_timms_transform_does(timm, name, sizes):
    from timm.data import create_transform, resolve_data_config

    settings = timm.get_pretrained_cfg(name).to_dict()
    transform = create_transform(**resolve_data_config(pretrained_cfg=settings))
    found = model_source(config_of(name)).preprocessing
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*sizes, 3), np.uint8))
    fitted = fit_image(image, resolved(found)).astype(np.float32) / 255
    wanted = transform(image).permute(1, 2, 0).numpy()
    np.testing.assert_allclose((fitted - found.mean) / found.sd, wanted, atol=1e-5)


def resolved(config: PreprocessingConfig) -> Preprocessing:
    return Preprocessing(
        resize=config.resize,
        height=config.size,
        width=config.size,
        colours=3,
        mean=config.mean,
        sd=config.sd,
        interpolation=config.interpolation,
        squash=config.squash,
    )


def test_preprocessing__padding_is_refused(timm):
    padded = next(
        name
        for name in timm.list_pretrained()
        if timm.get_pretrained_cfg(name).crop_mode == "border"
    )
    with pytest.raises(UserError, match=r"pads images .*only square crops are supported"):
        assert model_source(config_of(padded)).preprocessing


def test_options__img_size_is_that_of_the_images_or_one_line_says_what_gives_it(timm):
    model = build(config_of("test_vit", options={"img_size": 64}), size=(64, 64))
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    model = build(config_of("test_vit", options={"img_size": [64, 64]}), size=(64, 64))
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    with pytest.raises(UserError, match=r"img_size .* is 64, but the images are 32x32 .*size"):
        build(config_of("test_vit", options={"img_size": 64}), size=(32, 32))
    with pytest.raises(UserError, match=r"img_size .* expected pixels, such as 224, .*got 'big'"):
        build(config_of("test_vit", options={"img_size": "big"}), size=(32, 32))


def test_options__img_size_gives_the_size_of_the_images_where_none_is_set(timm):
    settings = model_source(config_of("test_vit", options={"img_size": 64})).preprocessing
    usual = model_source(config_of("test_vit")).preprocessing
    assert (settings.size, usual.size) == (64, 160)
    assert settings.resize / settings.size == pytest.approx(usual.resize / usual.size, rel=0.02)


@pytest.mark.parametrize(
    ("argument", "setting"),
    [
        ("num_classes", "model.outputs"),
        ("in_chans", "model.colours"),
        ("pretrained", "model.weights"),
        ("checkpoint_path", "model.weights"),
    ],
)
def test_options__that_settings_decide_name_the_setting(timm, argument, setting):
    for weights in ("untrained", "DEFAULT"):
        config = config_of(weights=weights, options={argument: 5})
        with pytest.raises(UserError, match=f"{argument} of .* is given by {setting}, got 5: set"):
            build(config) if weights == "untrained" else load_own(model_source(config))
