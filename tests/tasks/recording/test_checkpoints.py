"""From a configuration to a model with weights: trained, untrained, from files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import ModelConfig, RunConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.recording import checkpoints
from activarium.tasks.recording.checkpoints import (
    choose_checkpoint,
    configured_preprocessing,
    load_checkpoint,
    load_images,
    record_checkpoint,
    train_checkpoint,
    untrained_control,
)
from activarium.tasks.recording.normalising import normalise
from activarium.tasks.stores.recording import open_recording

from ..exporting import write_export

SHARED = Path(__file__).parents[3].parent / "shared"
SMALL = {"architecture": "two-block-cnn", "width": 4}


def config_of(model=None, **sections):
    return RunConfig.model_validate(
        {
            "name": "run",
            "test_set": {"source": "digits", "limit": 60},
            "preprocessing": {"size": 12},
            "model": SMALL | (model or {"weights": "untrained"}),
            "record": {"device": "cpu"},
        }
        | sections
    )


TRAINED = config_of({"weights": "trained"}, training={"epochs": 1, "batch_size": 64})


@pytest.fixture
def atlas(tmp_path):
    return Atlas(tmp_path / "atlas")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return an atlas with a trained model, and its receipt; nobody may change them."""
    atlas = Atlas(tmp_path_factory.mktemp("trained"))
    return atlas, train_checkpoint(atlas, TRAINED)


# --- choosing -------------------------------------------------------------------------------


def test_choose_checkpoint__untrained_has_no_file():
    found = choose_checkpoint(ModelConfig(**SMALL, weights="untrained"))
    assert (found.model, found.checkpoint, found.path) == ("two-block-cnn-w4", "untrained", None)
    assert not found.made


def test_choose_checkpoint__file_gives_its_stem(tmp_path):
    path = tmp_path / "epoch-007.safetensors"
    path.write_bytes(b"")
    found = choose_checkpoint(ModelConfig(weights=str(path)))
    assert (found.model, found.checkpoint, found.path) == ("resnet18-w64", "epoch-007", path)


def test_choose_checkpoint__pretrained_weights_by_name():
    found = choose_checkpoint(ModelConfig(architecture="googlenet", weights="DEFAULT"))
    assert (found.model, found.checkpoint, found.path) == ("googlenet", "imagenet1k_v1", None)


def test_choose_checkpoint__configured_names_win():
    config = ModelConfig(**SMALL, weights="untrained", name="mine", checkpoint="start")
    found = choose_checkpoint(config)
    assert (found.model, found.checkpoint) == ("mine", "start")


def test_choose_checkpoint__missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"model\.weights: .* there is no such file") as error:
        choose_checkpoint(ModelConfig(weights=str(tmp_path / "absent.safetensors")))
    assert "absent.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


def test_choose_checkpoint__folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match=r"there is no such file; it is a folder: name the file"):
        choose_checkpoint(ModelConfig(weights=str(tmp_path)))


# --- the untrained control ------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["trained", "some/file.safetensors"])
def test_untrained_control__is_the_same_architecture_at_its_start(weights):
    model = {**SMALL, "weights": weights, "checkpoint": "best", "outputs": 7, "seed": 3}
    config = config_of(model, training={"epochs": 1})
    control = untrained_control(config)
    assert (control.model.weights, control.model.checkpoint) == ("untrained", None)
    assert choose_checkpoint(control.model).checkpoint == "untrained"
    kept = {"architecture", "width", "outputs", "seed", "name"}
    assert control.model.model_dump(include=kept) == config.model.model_dump(include=kept)
    assert control.preprocessing == config.preprocessing


def test_untrained_control__has_the_outputs_and_inputs_of_pretrained_weights():
    model = {"architecture": "googlenet", "weights": "DEFAULT"}
    control = untrained_control(config_of(model, preprocessing={"size": 200}))
    assert control.model.outputs == 1_000
    assert (control.preprocessing.resize, control.preprocessing.size) == (256, 200)
    assert control.preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("weights", "setting", "shifts"),
    [
        ("DEFAULT", None, True),
        ("DEFAULT", False, False),
        ("f.pth", None, False),
        ("f.pth", True, True),
    ],
)
def test_untrained_control__transforms_its_input_as_the_model_does(weights, setting, shifts):
    model = {"architecture": "googlenet", "weights": weights, "transform_input": setting}
    assert untrained_control(config_of(model)).model.transform_input is shifts


def test_untrained_control__interpolates_as_pretrained_weights_do():
    model = {"architecture": "efficientnet_b0", "weights": "DEFAULT"}
    control = untrained_control(config_of(model, preprocessing={}))
    assert control.preprocessing.interpolation == "bicubic"


# --- images ---------------------------------------------------------------------------------


def test_load_images__source_gives_the_defaults(atlas):
    images = load_images(atlas, config_of(preprocessing={}))
    assert images.size == (32, 32)
    assert images.preprocessing.mean == (0.3058,)
    assert len(images.test_set) == 60


def test_load_images__torchvisions_models_take_three_colours(atlas):
    model = {"architecture": "googlenet", "weights": "untrained"}
    images = load_images(atlas, config_of(model))
    assert images.preprocessing.colours == 3
    assert images.preprocessing.mean == (0.3058,) * 3
    assert images.test_set.colours == 1


def test_load_images__pretrained_weights_give_theirs_and_configured_values_win(atlas):
    model = {"architecture": "googlenet", "weights": "DEFAULT"}
    given = load_images(atlas, config_of(model, preprocessing={})).preprocessing
    assert (given.resize, given.height, given.mean) == (256, 224, (0.485, 0.456, 0.406))
    own = load_images(atlas, config_of(model, preprocessing={"size": 96})).preprocessing
    assert (own.resize, own.height) == (256, 96)


@pytest.mark.parametrize(
    ("configured", "resize", "size"),
    [
        ({"size": 256}, 256, 256),
        ({"size": 257}, 294, 257),
        ({"size": 288}, 329, 288),
        ({"size": 288, "resize": 300}, 300, 288),
        ({"resize": 224}, 224, 224),
    ],
)
def test_configured_preprocessing__resize_is_never_smaller_than_size(configured, resize, size):
    model = {"architecture": "googlenet", "weights": "DEFAULT"}
    found = configured_preprocessing(config_of(model, preprocessing=configured))
    assert (found.resize, found.size) == (resize, size)


def test_configured_preprocessing__resize_below_the_weights_crop_is_refused():
    model = {"architecture": "googlenet", "weights": "DEFAULT"}
    with pytest.raises(UserError, match=r"cropped to 224 pixels, got a resize to 200; set pre"):
        configured_preprocessing(config_of(model, preprocessing={"resize": 200}))


def test_load_images__configured_colours_give_a_colour_models_input(atlas):
    config = config_of({"weights": "untrained", "colours": 3})
    images = load_images(atlas, config)
    assert (images.test_set.colours, images.preprocessing.colours) == (1, 3)
    model, _ = load_checkpoint(config.model, choose_checkpoint(config.model), images)
    assert model.conv1.in_channels == 3
    assert record_checkpoint(atlas, config, choose_checkpoint(config.model)).images == 60


def test_load_images__grey_input_of_torchvisions_model_is_refused(atlas):
    model = {"architecture": "googlenet", "weights": "untrained", "colours": 1}
    with pytest.raises(UserError, match=r"model\.colours: .* takes 3 colours, got 1"):
        load_images(atlas, config_of(model))


def test_load_images__another_split_comes_whole(atlas):
    images = load_images(atlas, config_of(), split="train")
    assert (len(images.test_set), images.test_set.split) == (1_257, "train")


# --- training -------------------------------------------------------------------------------


def test_train_checkpoint__makes_the_last_epochs_file(trained):
    atlas, receipt = trained
    assert receipt.made
    assert (receipt.model, receipt.checkpoint) == ("two-block-cnn-w4", "epoch-001")
    assert receipt.path.is_file()
    assert receipt.path.parent.parent == atlas.models
    assert receipt.path.parent.name.startswith("two-block-cnn-w4-digits-")


def test_train_checkpoint__again_trains_nothing(trained):
    atlas, first = trained
    before = first.path.stat().st_mtime_ns
    again = train_checkpoint(atlas, TRAINED)
    assert not again.made
    assert again.path == first.path
    assert first.path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "changes",
    [
        {"model": SMALL | {"seed": 1}},
        {"model": SMALL | {"width": 5}},
        {"training": {"epochs": 1, "batch_size": 32}},
        {"preprocessing": {"size": 8}},
    ],
)
def test_train_checkpoint__anything_else_is_another_training(trained, changes, monkeypatch):
    atlas, first = trained
    folders = []
    monkeypatch.setattr(checkpoints, "train", lambda *_, folder, **__: folders.append(folder))
    config = RunConfig.model_validate(TRAINED.model_dump(exclude_none=True) | changes)
    assert train_checkpoint(atlas, config).made
    assert folders != [first.path.parent]


def test_train_checkpoint__recording_options_change_no_training(trained):
    atlas, first = trained
    config = TRAINED.model_copy(
        update={"test_set": TRAINED.test_set.model_copy(update={"limit": 5})}
    )
    assert train_checkpoint(atlas, config).path == first.path


def test_train_checkpoint__configured_name_of_the_checkpoint(trained):
    atlas, first = trained
    model = TRAINED.model.model_copy(update={"checkpoint": "best"})
    again = train_checkpoint(atlas, TRAINED.model_copy(update={"model": model}))
    assert (again.checkpoint, again.path) == ("best", first.path)


def test_train_checkpoint__without_a_training_section_is_refused(atlas):
    with pytest.raises(UserError, match="run 'run' has no `training` section"):
        train_checkpoint(atlas, config_of())


def test_train_checkpoint__more_images_than_memory_is_refused(atlas, monkeypatch):
    monkeypatch.setattr(checkpoints, "TRAINING_BYTES", 1_000)
    with pytest.raises(UserError, match=r"digits needs .* set a smaller preprocessing\.size"):
        train_checkpoint(atlas, TRAINED)


# --- loading and recording ------------------------------------------------------------------


def test_load_checkpoint__weights_and_identity_are_the_files(trained):
    atlas, receipt = trained
    images = load_images(atlas, TRAINED)
    model, identity = load_checkpoint(TRAINED.model, receipt, images)
    start, _ = load_checkpoint(TRAINED.model, choose_checkpoint(config_of().model), images)
    assert identity.weights_sha256 == weights_sha256(model) != weights_sha256(start)
    assert (identity.name, identity.checkpoint) == ("two-block-cnn-w4", "epoch-001")
    assert identity.architecture == "two-block-cnn"
    assert not model.training


def test_load_checkpoint__weights_of_another_width_say_which(trained):
    atlas, receipt = trained
    images = load_images(atlas, TRAINED)
    wider = TRAINED.model.model_copy(update={"width": 8})
    with pytest.raises(UserError, match=r"first convolution has 4 channels: set model\.width"):
        load_checkpoint(wider, receipt, images)


def test_load_checkpoint__weights_of_more_classes_say_so(atlas, trained, tmp_path):
    _, receipt = trained
    for label in ("ant", "bee"):
        (tmp_path / "set" / "test" / label).mkdir(parents=True)
        Image.new("L", (12, 12), 77).save(tmp_path / "set" / "test" / label / "0.png")
    source = {"source": "imagefolder", "path": tmp_path / "set"}
    config = config_of({"weights": str(receipt.path)}, test_set=source)
    with pytest.raises(UserError, match=r"the file has 10 outputs: set model\.outputs"):
        record_checkpoint(atlas, config, choose_checkpoint(config.model))
    model = config.model.model_copy(update={"outputs": 10})
    config = config.model_copy(update={"model": model})
    receipt = record_checkpoint(atlas, config, choose_checkpoint(model))
    assert open_recording(atlas, receipt.recording).read("logits").shape == (2, 10)


def test_record_checkpoint__trained_end_to_end(trained):
    atlas, receipt = trained
    recorded = record_checkpoint(atlas, TRAINED, receipt)
    assert recorded.made
    assert recorded.recording.startswith("two-block-cnn-w4-epoch-001-digits-test-")
    found = open_recording(atlas, recorded.recording)
    images = load_images(atlas, TRAINED)
    model, _ = load_checkpoint(TRAINED.model, receipt, images)
    pixels, _ = checkpoints._all_images(images)
    with torch.inference_mode():
        logits = model(normalise(torch.from_numpy(pixels), images.preprocessing)).numpy()
    np.testing.assert_allclose(found.read("logits"), logits, rtol=1e-4, atol=1e-5)
    assert not record_checkpoint(atlas, TRAINED, receipt).made


def test_record_checkpoint__control_is_another_recording_of_the_same_units(trained):
    atlas, receipt = trained
    control = untrained_control(TRAINED)
    recorded = record_checkpoint(atlas, TRAINED, receipt)
    untrained = record_checkpoint(atlas, control, choose_checkpoint(control.model))
    assert untrained.recording.startswith("two-block-cnn-w4-untrained-digits-test-")
    first, second = (open_recording(atlas, each.recording) for each in (recorded, untrained))
    assert first.text("unit") == second.text("unit")
    assert first.image_names == second.image_names
    assert not np.allclose(first.read("channel_mean"), second.read("channel_mean"))


def test_record_checkpoint__own_weights_file_equals_the_model_it_was_saved_from(atlas, tmp_path):
    config = config_of()
    images = load_images(atlas, config)
    start = choose_checkpoint(config.model)
    model, _ = load_checkpoint(config.model, start, images)
    save_file(model.state_dict(), tmp_path / "saved.safetensors")
    saved = config_of({"weights": str(tmp_path / "saved.safetensors")})
    first = record_checkpoint(atlas, config, start)
    second = record_checkpoint(atlas, saved, choose_checkpoint(saved.model))
    assert second.recording.startswith("two-block-cnn-w4-saved-")
    means = [open_recording(atlas, each.recording).read("channel_mean") for each in (first, second)]
    np.testing.assert_array_equal(*means)


@pytest.mark.shared
def test_record_checkpoint__real_checkpoint_on_real_images_has_its_accuracy(atlas):
    weights = SHARED / "models" / "cifar10-resnet18-w32.safetensors"
    images = SHARED / "data" / "cifar10-test-jpeg.zip"
    if not (weights.is_file() and images.is_file()):
        pytest.skip("the trained model and its images are not there")
    config = config_of(
        test_set={"source": "imagefolder", "path": images, "limit": 500},
        preprocessing={"mean": (0.4914, 0.4822, 0.4465), "sd": (0.2470, 0.2435, 0.2616)},
        model={"architecture": "resnet18", "width": 32, "weights": str(weights)},
    )
    receipt = record_checkpoint(atlas, config, choose_checkpoint(config.model))
    found = open_recording(atlas, receipt.recording)
    right = found.read("logits").argmax(axis=1) == found.labels
    assert receipt.images == 500
    assert 0.86 <= right.mean() <= 0.92


ENTRY = """
import torch
from safetensors.torch import load_file

from activarium.tasks.models.architectures import TwoBlockCNN


def build(weights):
    model = TwoBlockCNN(colours=1, outputs=10, size=(12, 12), width=4)
    model.load_state_dict(load_file(weights))
    model.preprocessing = {"size": 12}
    return model


def fails_on_images():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(7, 2))
"""


def test_record_checkpoint__one_model_from_every_source_has_the_same_responses(
    atlas, tmp_path, monkeypatch
):
    start = config_of({"weights": "untrained"})
    model, _ = load_checkpoint(
        start.model, choose_checkpoint(start.model), load_images(atlas, start)
    )
    (tmp_path / "entry_of_test.py").write_text(ENTRY)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("entry_of_test", None)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    write_export(tmp_path / "program.pt2", model, torch.zeros(2, 1, 12, 12))
    options = {"weights": str(tmp_path / "weights.safetensors")}
    settings = [
        {**SMALL, "weights": "untrained"},
        {"architecture": "entry_of_test:build", "options": options, "weights": "DEFAULT"},
        {"weights": str(tmp_path / "program.pt2")},
    ]
    found = []
    for model_settings, preprocessing in zip(settings, ({"size": 12}, {}, {}), strict=True):
        sections = config_of().model_dump(exclude_unset=True)
        config = RunConfig.model_validate(
            sections | {"model": model_settings, "preprocessing": preprocessing}
        )
        receipt = record_checkpoint(atlas, config, choose_checkpoint(config.model))
        found.append(open_recording(atlas, receipt.recording))
    assert len({each.attributes["fingerprint"] for each in found}) == 3
    assert len({each.attributes["weights_sha256"] for each in found}) == 1
    assert [each.attributes["architecture"] for each in found][1:] == [
        "entry_of_test:build",
        "export:program.pt2",
    ]
    for other in found[1:]:
        assert other.text("unit") == found[0].text("unit")
        assert other.attributes["preprocessing"]["height"] == 12
        for name in ("channel_mean", "pooled", "logits"):
            np.testing.assert_allclose(other.read(name), found[0].read(name), atol=1e-5)


def test_record_checkpoint__failing_forward_says_what_the_model_got(atlas, tmp_path, monkeypatch):
    (tmp_path / "entry_of_test.py").write_text(ENTRY)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("entry_of_test", None)
    model = {"architecture": "entry_of_test:fails_on_images", "weights": "DEFAULT"}
    config = RunConfig.model_validate(config_of().model_dump(exclude_unset=True) | {"model": model})
    with pytest.raises(UserError, match=r"1, 12, 12\) \(torch\.float32\)") as caught:
        record_checkpoint(atlas, config, choose_checkpoint(config.model))
    assert "\n" not in str(caught.value)


def test_train_checkpoint__exported_model_is_not_trained(atlas, tmp_path):
    path = write_export(tmp_path / "program.pt2", torch.nn.Flatten(), torch.zeros(2, 1, 12, 12))
    model = ModelConfig(architecture=f"export:{path}", weights="trained")
    config = config_of(training={"epochs": 1}).model_copy(update={"model": model})
    with pytest.raises(UserError, match=r"program\.pt2 holds its weights"):
        train_checkpoint(atlas, config)


@pytest.mark.parametrize(
    ("architecture", "offers"),
    [
        ("resnet18", "expected a file, trained or untrained, got 'a1_in2k'"),
        ("googlenet", r"trained, torchvision's weights by name \(IMAGENET1K_V1, DEFAULT\) or"),
    ],
)
def test_choose_checkpoint__unknown_weights_say_what_the_source_offers(architecture, offers):
    with pytest.raises(UserError, match=offers):
        choose_checkpoint(ModelConfig(architecture=architecture, weights="a1_in2k"))


def test_record_checkpoint__half_weights_are_said_and_noted(atlas, tmp_path):
    start = config_of()
    model, _ = load_checkpoint(
        start.model, choose_checkpoint(start.model), load_images(atlas, start)
    )
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    config = config_of({"weights": str(tmp_path / "half.safetensors")})
    receipt = record_checkpoint(atlas, config, choose_checkpoint(config.model))
    said = "the model's weights are float16; they are used as float32"
    assert said in receipt.notices
    assert open_recording(atlas, receipt.recording).attributes["model_notes"] == [said]


@pytest.mark.parametrize("weights", ["untrained", "DEFAULT"])
def test_choose_checkpoint__weights_key_without_a_file_is_refused(weights):
    config = ModelConfig(architecture="squeezenet1_1", weights=weights, weights_key="ema")
    with pytest.raises(UserError, match=r"weights_key chooses within a file of weights, got"):
        choose_checkpoint(config)


def test_record_checkpoint__notes_the_seed_of_weights_as_they_were_drawn(atlas, tmp_path):
    config = config_of({"weights": "untrained", "seed": 7})
    start = choose_checkpoint(config.model)
    found = open_recording(atlas, record_checkpoint(atlas, config, start).recording)
    assert found.attributes["seed"] == 7
    model, _ = load_checkpoint(config.model, start, load_images(atlas, config))
    save_file(model.state_dict(), tmp_path / "drawn.safetensors")
    of_file = config_of({"weights": str(tmp_path / "drawn.safetensors"), "seed": 7})
    name = record_checkpoint(atlas, of_file, choose_checkpoint(of_file.model)).recording
    assert "seed" not in open_recording(atlas, name).attributes


def test_untrained_control__needs_no_key_of_the_file():
    config = config_of({"weights": "net.pt", "weights_key": "ema"})
    assert untrained_control(config).model.weights_key is None


@pytest.mark.parametrize("key", [None, "model_ema"])
def test_load_checkpoint__takes_the_state_dict_of_the_key_and_notes_a_choice(tmp_path, key):
    config = config_of()
    images = load_images(Atlas(tmp_path), config)
    models = []
    for seed in (1, 2):
        seeded = config_of({"weights": "untrained", "seed": seed})
        receipt = choose_checkpoint(seeded.model)
        models.append(load_checkpoint(seeded.model, receipt, images)[0])
    states = [model.state_dict() for model in models]
    torch.save({"model": states[0], "model_ema": states[1]}, tmp_path / "net.pt")
    chosen = config_of({"weights": str(tmp_path / "net.pt"), "weights_key": key}).model
    _, identity = load_checkpoint(chosen, choose_checkpoint(chosen), images)
    assert identity.weights_sha256 == weights_sha256(models[0 if key is None else 1])
    said = (
        "the weights are those under 'model'; 'model_ema' would fit too: model.weights_key chooses"
    )
    assert (said in identity.notes) == (key is None)
