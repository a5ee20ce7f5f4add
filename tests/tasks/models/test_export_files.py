"""Files of torch.export: what is read, and what is refused in one line."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.tasks.capture.forward import run_forward
from activarium.tasks.models import export_files
from activarium.tasks.models.architectures import TwoBlockCNN
from activarium.tasks.models.export_files import read_export_file
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.models.models import load_own, load_start, model_source

from ..exporting import export_model, write_export, write_script


def small(**settings):
    return TwoBlockCNN(**{"outputs": 4, "size": (12, 12), "width": 4, **settings}).eval()


def images_of(count=3, colours=3, side=12):
    return torch.randn(count, colours, side, side, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a model and its file with preprocessing; nobody may change them."""
    model = small()
    path = tmp_path_factory.mktemp("exported") / "small.pt2"
    offered = json.dumps({"mean": [0.5], "sd": [0.25], "interpolation": "bicubic"})
    return model, write_export(
        path, model, images_of(), extra_files={"preprocessing.json": offered}
    )


def source_of(path, **settings):
    return model_source(ModelConfig(architecture=f"export:{path}", weights="DEFAULT", **settings))


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        read_export_file(path)
    assert "\n" not in str(caught.value)


def test_read__is_the_model_for_any_number_of_images(exported):
    model, path = exported
    found = read_export_file(path)
    assert (found.colours, found.size) == (3, (12, 12))
    assert weights_sha256(found.model) == weights_sha256(model)
    assert not any(module.training for module in found.model.modules())
    for count in (1, 2, 7):
        with torch.no_grad():
            torch.testing.assert_close(found.model(images_of(count)), model(images_of(count)))


def test_source__names_inputs_and_preprocessing_come_from_the_file(exported):
    _, path = exported
    source = source_of(path)
    assert (source.name, source.own_weights) == ("small", "exported")
    assert source.colours(1) == source.colours(3) == 3
    found = source.preprocessing
    assert (found.size, found.mean, found.sd) == (12, (0.5,), (0.25,))
    assert (found.interpolation, found.resize) == ("bicubic", None)


def test_source__size_alone_is_offered_without_an_extra_file(tmp_path):
    path = write_export(tmp_path / "grey.pt2", small(colours=1), images_of(colours=1))
    source = source_of(path)
    assert source.preprocessing.model_dump(exclude_none=True) == {"size": 12}
    assert source.colours(3) == 1
    with pytest.raises(UserError, match=r"model\.colours: .* takes 1 colours, got 3"):
        source_of(path, colours=3).colours(3)


def test_source__program_for_any_size_offers_none(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    axes = {0: torch.export.Dim("n"), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(model, (images_of(),), dynamic_shapes=(axes,))
    torch.export.save(program, tmp_path / "free.pt2")
    source = source_of(tmp_path / "free.pt2")
    assert source.preprocessing is None
    found = load_own(source).model
    assert found(images_of(2, side=9)).shape == (2, 2)


def test_source__definition_is_the_files_content(tmp_path, exported):
    model, path = exported
    other = write_export(tmp_path / "small.pt2", model, images_of())
    copied = tmp_path / "copied.pt2"
    copied.write_bytes(path.read_bytes())
    assert source_of(path).definition == source_of(copied).definition
    assert source_of(path).definition != source_of(other).definition


def test_source__restarted_draws_all_weights_anew_from_the_seed(exported):
    model, path = exported
    control = ModelConfig(architecture=f"export:{path}").model_copy(
        update=source_of(path).control()
    )
    assert (control.weights, control.checkpoint) == ("restarted", "untrained")
    first, again = (load_own(model_source(control)).model for _ in range(2))
    other = load_own(model_source(control.model_copy(update={"seed": 1}))).model
    sums = {weights_sha256(each) for each in (model, first, again, other)}
    assert weights_sha256(first) == weights_sha256(again)
    assert len(sums) == 3
    for path_, parameter in first.named_parameters():
        if path_.endswith("weight") and "bn" not in path_:
            assert not torch.equal(parameter, model.get_parameter(path_)), path_


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"weights": "untrained"}, "small.pt2 holds its weights; expected DEFAULT or restarted"),
        ({"weights": "other.pt"}, "small.pt2 holds its weights; .* got 'other.pt'"),
        ({"outputs": 3}, "model.outputs: small.pt2 has its own"),
        ({"options": {"depth": 3}}, "model.options are keyword arguments"),
    ],
)
def test_source__settings_of_other_sources_are_refused(exported, settings, match):
    config = ModelConfig(**{"architecture": f"export:{exported[1]}", **settings})
    with pytest.raises(UserError, match=match):
        choose_and_load(model_source(config))


def choose_and_load(source):
    assert source.own_weights
    return load_own(source)


def test_config__pt2_file_alone_is_architecture_and_weights():
    config = ModelConfig.model_validate({"weights": "some/model.pt2"})
    assert (config.architecture, config.weights) == ("export:some/model.pt2", "DEFAULT")
    config = ModelConfig.model_validate({"architecture": "export:some/model.pt2"})
    assert config.weights == "DEFAULT"


def test_half_weights__become_float32_and_are_noted(tmp_path):
    model = small()
    images = images_of()
    path = write_export(tmp_path / "half.pt2", small().to(torch.bfloat16), images.bfloat16())
    loaded = load_own(source_of(path))
    assert loaded.notes == ("the model's weights are bfloat16; they are used as float32",)
    assert {each.dtype for each in loaded.model.parameters()} == {torch.float32}
    assert loaded.model(images).dtype == torch.float32
    assert model(images).shape == loaded.model(images).shape


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((2, 1, 12, 12), r"\(2, 1, 12, 12\).*exported for images of 3 colours and 12x12 pixels"),
        ((2, 3, 16, 16), r"\(2, 3, 16, 16\).*exported for images of 3 colours and 12x12 pixels"),
    ],
)
def test_forward__other_images_say_what_the_program_was_exported_for(exported, shape, says):
    model = read_export_file(exported[1]).model
    with pytest.raises(UserError, match=says):
        run_forward(model, torch.zeros(shape))


def test_forward__batch_above_the_exported_limit_says_so(tmp_path):
    path = write_export(tmp_path / "four.pt2", small(), images_of(), max=4)
    model = read_export_file(path).model
    assert model(images_of(4)).shape == (4, 4)
    with pytest.raises(UserError, match=r"at most 4 images: set record\.batch_size to 4"):
        run_forward(model, images_of(5))


def test_read__fixed_batch_says_how_to_export(tmp_path):
    path = write_export(tmp_path / "fixed.pt2", small(), images_of(2), batch=None)
    refused(path, r"exactly 2 images: export it with a dynamic batch dimension, .*dynamic_shapes")


def test_read__training_mode_is_refused(tmp_path):
    path = write_export(tmp_path / "trains.pt2", small().train(), images_of())
    refused(path, r"exported in training mode .*model\.eval\(\) before torch\.export")


def test_read__more_than_images_is_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, images, more):
            return images + more

    program = torch.export.export(Two(), (images_of(), images_of()))
    torch.export.save(program, tmp_path / "two.pt2")
    refused(tmp_path / "two.pt2", "one input, images .*, got 2 inputs")
    vector = write_export(tmp_path / "vector.pt2", nn.Linear(3, 2), torch.randn(4, 3))
    refused(vector, r"expected an input \(image, colour, row, column\)")


def test_read__other_files_say_what_they_are(tmp_path):
    model = small()
    write_script(tmp_path / "script.pt2", model, images_of())
    refused(tmp_path / "script.pt2", "it is TorchScript, which is not supported")
    torch.save(model.state_dict(), tmp_path / "state.pt2")
    refused(tmp_path / "state.pt2", "a file of torch.save; name the architecture")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    refused(tmp_path / "weights.safetensors", "a safetensors file; name the architecture")
    (tmp_path / "empty.pt2").write_bytes(b"")
    refused(tmp_path / "empty.pt2", "of another kind, or damaged")
    refused(tmp_path / "absent.pt2", "model.architecture: cannot read .*absent.pt2: No such file")


def test_read__damaged_archive_is_one_line(tmp_path, exported):
    whole = exported[1].read_bytes()
    damaged = tmp_path / "damaged.pt2"
    place = whole.index(b"graph_module")
    damaged.write_bytes(whole[:place] + b"#" * 40 + whole[place + 40 :])
    refused(damaged, "is not loaded.*export the model again")
    damaged.write_bytes(whole[: len(whole) // 2])
    refused(damaged, "of another kind, or damaged")


def test_read__tree_that_is_not_the_program_is_refused(tmp_path, exported, monkeypatch):
    def other(program):
        del program
        return small()

    monkeypatch.setattr(export_files, "module_tree", other)
    refused(exported[1], r"cannot be taken apart into its layers \(AssertionError: .*entry point")


@pytest.mark.parametrize("text", ['{"sd": [0]}', "[1", '{"side": 3}'])
def test_source__wrong_preprocessing_is_one_line(tmp_path, text):
    extra = {"preprocessing.json": text}
    path = write_export(tmp_path / "m.pt2", small(), images_of(), extra_files=extra)
    with pytest.raises(
        UserError, match=r"preprocessing\.json does not hold the settings"
    ) as caught:
        assert source_of(path).preprocessing
    assert "\n" not in str(caught.value)


def test_start__is_the_model_as_exported(exported):
    model, path = exported
    loaded = load_start(source_of(path), classes=9, colours=3, size=(12, 12))
    assert weights_sha256(loaded.model) == weights_sha256(model)
    assert export_model(loaded.model, images_of()).graph_signature.user_inputs
