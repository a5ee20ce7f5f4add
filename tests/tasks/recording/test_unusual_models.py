"""Models that other programs take as they are: recorded and trained with the right numbers."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import zarr
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RecordConfig
from activarium.schemas.errors import UserError
from activarium.schemas.training_config import TrainingConfig
from activarium.tasks.capture.traced_capture import TracedCapture
from activarium.tasks.images.preprocessing import Preprocessing
from activarium.tasks.images.test_sets import TestSet
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.models.training import train
from activarium.tasks.recording.begun import TRIAL_IMAGES
from activarium.tasks.recording.normalising import normalise
from activarium.tasks.recording.record import record
from activarium.tasks.recording.record_plan import ModelIdentity

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(None, 12, 12, 3, (0.5,) * 3, (0.25,) * 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), np.uint8)
LABELS = (np.arange(20) % 3).astype(np.int32)


class Viewing(nn.Module):
    """Flattens a map by `view`, as the first networks of every tutorial do."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 6, 3), nn.MaxPool2d(2, 2)
        self.fc1, self.fc2 = nn.Linear(6 * 25, 8), nn.Linear(8, 3)

    def forward(self, images):
        maps = self.pool(functional.relu(self.conv(images)))
        return self.fc2(self.fc1(self.flat(maps)).relu())

    def flat(self, maps):
        return maps.view(-1, 6 * 25)


class ViewingChannels(Viewing):
    """Joins images and channels, which one image alone allows in any memory format."""

    def flat(self, maps):
        return maps.view(len(maps) * 6, 25).view(len(maps), 6 * 25)


class ViewingWhenTrained(Viewing):
    """Has a part that is for the training alone."""

    def flat(self, maps):
        return maps.view(-1, 6 * 25) if self.training else maps.reshape(-1, 6 * 25)


class Deep(nn.Module):
    """Has a convolution in three dimensions."""

    def __init__(self):
        super().__init__()
        self.conv, self.deep = nn.Conv2d(3, 6, 3), nn.Conv3d(6, 8, (2, 3, 3))
        self.fc = nn.Linear(8, 3)

    def forward(self, images):
        maps = self.conv(images)
        return self.fc(self.deep(torch.stack([maps, maps.flip(-1)], 2)).mean((2, 3, 4)))


class Bank(nn.Module):
    """Mixes its kernel per image from a bank of five axes."""

    def __init__(self):
        super().__init__()
        self.bank = nn.Parameter(torch.randn(4, 8, 3, 3, 3) / 5)
        self.mix, self.fc = nn.Linear(3, 4), nn.Linear(8, 3)

    def forward(self, images):
        count, side = images.shape[0], images.shape[2:]
        shares = self.mix(images.mean((2, 3))).softmax(1)
        kernels = torch.einsum("nk,koihw->noihw", shares, self.bank).reshape(count * 8, 3, 3, 3)
        maps = functional.conv2d(images.reshape(1, count * 3, *side), kernels, groups=count)
        return self.fc(maps.reshape(count, 8, 10, 10).mean((2, 3)))


class Parametrised(nn.Module):
    """Has weights that are computed anew in each pass."""

    def __init__(self):
        super().__init__()
        self.conv1 = parametrizations.weight_norm(nn.Conv2d(3, 6, 3))
        self.conv2 = parametrizations.spectral_norm(nn.Conv2d(6, 6, 3))
        self.fc = parametrizations.orthogonal(nn.Linear(6, 3))

    def forward(self, images):
        return self.fc(self.conv2(self.conv1(images).relu()).mean((2, 3)))


def softened(maps: torch.Tensor) -> torch.Tensor:
    """Be scripted by torch."""
    return maps * torch.tanh(functional.softplus(maps))


class Scripted(nn.Module):
    """Has a scripted part, and calls a scripted function."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)
        with warnings.catch_warnings(action="ignore"):
            self.part = torch.jit.script(nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU()))
            self.function = torch.jit.script(softened)

    def forward(self, images):
        return self.fc(self.function(self.part(self.conv(images))).mean((2, 3)))


MODELS = [Viewing, ViewingChannels, Deep, Bank, Parametrised, Scripted]


def made(kind):
    torch.manual_seed(0)
    return kind().eval()


def run(tmp_path, model, **settings):
    defaults = {"device": "cpu", "batch_size": 6, "shard_images": 9, "threads": 1}
    test_set = TestSet(
        "t", "test", ("a", "b", "c"), tuple(map(str, range(20))), LABELS, "x", 3, pixels=PIXELS
    )
    return record(
        Atlas(tmp_path / "atlas"),
        model,
        test_set,
        preprocessing=PREPROCESSING,
        config=RecordConfig(**{**defaults, **settings}),
        identity=ModelIdentity("m", "start", "m", weights_sha256(model)),
    )


def trained(tmp_path, model):
    return train(
        model,
        PIXELS,
        LABELS,
        normalise=lambda raw: normalise(raw, PREPROCESSING),
        config=TrainingConfig(epochs=1, batch_size=8),
        device=CPU,
        folder=tmp_path / "training",
        identity={},
    )


def own_inputs():
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).contiguous() / 255
    return (images - 0.5) / 0.25


def of_layer(receipt, name):
    group = zarr.open_group(receipt.path, mode="r")
    columns = np.array([str(each) for each in group["unit_layer"][:]]) == name
    return group["channel_mean"][:][:, columns]


@pytest.mark.parametrize("kinds", [None, "all"])
@pytest.mark.parametrize("kind", MODELS)
def test_record__the_model_is_taken_as_it_is_with_its_own_numbers(tmp_path, kind, kinds, capfd):
    receipt = run(tmp_path, made(kind), **({"kinds": kinds} if kinds else {}))
    own, kept = made(kind), {}
    name = {Deep: "deep", Bank: "mix", Parametrised: "conv2"}.get(kind, "conv")
    own.get_submodule(name).register_forward_hook(lambda _, __, out: kept.update(out=out))
    with torch.no_grad():
        output = own(own_inputs())
    values = kept["out"].flatten(2).mean(2) if kept["out"].dim() > 2 else kept["out"]
    np.testing.assert_allclose(of_layer(receipt, name), values, rtol=2e-5, atol=2e-6)
    logits = zarr.open_group(receipt.path, mode="r")["logits"][:]
    np.testing.assert_allclose(logits, output, rtol=2e-5, atol=2e-6)
    assert sum("layers are captured by" in notice for notice in receipt.notices) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_record__a_scripted_part_is_one_layer_without_inner_ones(tmp_path):
    receipt = run(tmp_path, made(Scripted), kinds="all")
    group = zarr.open_group(receipt.path, mode="r")
    assert [str(name) for name in group["layer"][:]] == ["conv", "part", "mean", "fc"]
    own = made(Scripted)
    with torch.no_grad():
        part = own.part(own.conv(own_inputs())).mean((2, 3))
    np.testing.assert_allclose(of_layer(receipt, "part"), part, rtol=2e-5, atol=2e-6)


def test_record__a_model_that_is_scripted_as_a_whole_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="the model is one TorchScript module") as error:
        run(tmp_path, made(Scripted).part)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("engine", ["auto", "hooks"])
def test_record__view_is_taken_when_the_recording_is_resumed(tmp_path, engine):
    whole = run(tmp_path / "whole", made(Viewing), engine=engine)
    first = run(tmp_path, made(Viewing), engine=engine)
    receipts = sorted((tmp_path / "atlas").rglob("shard-*.json"))
    receipts[1].unlink()
    again = run(tmp_path, made(Viewing), engine=engine)
    assert (again.recording, again.resumed_shards) == (first.recording, 2)
    np.testing.assert_array_equal(of_layer(again, "conv"), of_layer(whole, "conv"))


def test_record__a_model_that_fails_in_any_format_tells_of_its_own_error(tmp_path):
    model = made(Viewing)
    model.fc1 = nn.Linear(7, 8)
    with pytest.raises(UserError, match="mat1 and mat2 shapes cannot be multiplied"):
        run(tmp_path, model)


def test_record__a_graph_that_fails_on_a_full_batch_means_hooks(tmp_path, monkeypatch):
    plain = TracedCapture._run

    def limited(self, images):
        if len(images) > TRIAL_IMAGES:
            raise RuntimeError("a kernel of the graph is too large")
        return plain(self, images)

    monkeypatch.setattr(TracedCapture, "_run", limited)
    receipt = run(tmp_path, made(Deep), batch_size=18, shard_images=18)
    told = [notice for notice in receipt.notices if "layers are captured by" in notice]
    assert told == [
        "layers are captured by hooks: its graph fails on a full batch "
        "(a kernel of the graph is too large)"
    ]
    assert zarr.open_group(receipt.path, mode="r").attrs["engine"] == "hooks"


@pytest.mark.parametrize("kind", [Viewing, ViewingWhenTrained, Deep, Bank])
def test_train__the_model_is_taken_as_it_is(tmp_path, kind):
    model = made(kind)
    start = copy.deepcopy(model.state_dict())
    checkpoints = trained(tmp_path, model)
    assert len(checkpoints) == 1
    assert all(not torch.equal(start[name], each) for name, each in model.state_dict().items())


def test_train__an_error_of_the_model_is_one_line(tmp_path):
    model = made(Viewing)
    model.fc1 = nn.Linear(7, 8)
    with pytest.raises(UserError, match=r"forward pass failed .* cannot be multiplied"):
        trained(tmp_path, model)


class Squeezing(nn.Module):
    """Squeezes its maps whole, which takes the axis of a single image away too."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, images):
        return self.fc(self.pool(self.conv(images)).squeeze())


@pytest.mark.parametrize("engine", ["auto", "hooks"])
@pytest.mark.parametrize("density", [False, True])
def test_record__one_image_that_is_left_over_has_company(tmp_path, engine, density):
    receipt = run(
        tmp_path, made(Squeezing), engine=engine, density=density, shard_images=19, batch_size=19
    )
    group = zarr.open_group(receipt.path, mode="r")
    with torch.no_grad():
        expected = made(Squeezing)(own_inputs())
    np.testing.assert_allclose(group["logits"][:], expected, rtol=2e-5, atol=2e-6)
    if density:
        assert group["density"][:].sum() == 20 * (6 * 100 + 6 + 3)


class Dropping(Squeezing):
    """Drops values whatever it is told."""

    def forward(self, images):
        return self.fc(functional.dropout(self.conv(images).mean((2, 3))))


def test_record__a_random_model_is_refused_or_noted(tmp_path):
    with pytest.raises(UserError, match="no function of the image alone"):
        run(tmp_path, made(Dropping))
    assert not list((tmp_path / "atlas").rglob("*.zarr"))
    receipt = run(tmp_path, made(Dropping), allow_random=True)
    attributes = zarr.open_group(receipt.path, mode="r").attrs
    assert attributes["random"] == ["fc", "the model's output"]
    assert "2 layers (fc, the model's output) are recorded although not of each image alone" in (
        receipt.notices
    )


class Both(Squeezing):
    """Returns features beside logits."""

    def forward(self, images):
        rows = self.conv(images).mean((2, 3))
        return {"features": rows, "logits": self.fc(rows)}


def test_record__another_output_is_another_recording(tmp_path):
    def recorded(**reading):
        model = made(Both)
        identity = ModelIdentity("m", "start", "m", weights_sha256(model), **reading)
        test_set = TestSet(
            "t", "test", ("a", "b", "c"), tuple(map(str, range(20))), LABELS, "x", 3, pixels=PIXELS
        )
        receipt = record(
            Atlas(tmp_path / "atlas"),
            model,
            test_set,
            preprocessing=PREPROCESSING,
            config=RecordConfig(device="cpu", batch_size=6, threads=1),
            identity=identity,
        )
        return receipt, zarr.open_group(receipt.path, mode="r")

    usual, logits = recorded()
    other, features = recorded(output="features")
    assert (logits["logits"].shape, features["logits"].shape) == ((20, 3), (20, 6))
    assert (logits.attrs["output"], features.attrs["output"]) == ("logits", "features")
    assert usual.recording != other.recording
    assert any("'logits' is taken as its output" in notice for notice in usual.notices)


@pytest.mark.parametrize(
    ("build", "got"),
    [(Both, "got dict"), (lambda: nn.Conv2d(3, 3, 3), r"got a tensor of shape \(1, 3, 10, 10\)")],
)
def test_train__a_model_that_returns_no_logits_is_one_line(tmp_path, build, got):
    with pytest.raises(UserError, match=rf"returns logits \(image, class\), {got}") as caught:
        trained(tmp_path, build())
    assert "\n" not in str(caught.value)
