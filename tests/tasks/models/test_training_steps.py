"""Training in steps: checkpoints between epochs, resuming there, frozen modules, divergence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch.nn import functional

from activarium.schemas.config import ModelConfig, TrainingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.checkpoint_files import safetensors_bytes
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.models.models import build_model, model_source
from activarium.tasks.models.training import train
from activarium.tasks.models.training_start import load_training_start

from .test_training import CPU, IDENTITY, PulledPlugError, normalise, stop_after

CONFIG = TrainingConfig(
    epochs=2, batch_size=16, learning_rate=0.02, crop=1, flip=True, seed=3, checkpoint_steps=3
)
MODEL = ModelConfig(architecture="two-block-cnn", width=8)
SIZES = {"classes": 4, "colours": 1, "size": (8, 8)}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    """70 digits: five steps per epoch in batches of 16."""
    digits = load_digits(n_class=4)
    images = np.rint(digits.images[:70] * 255 / 16).astype(np.uint8)[..., None]
    return images, digits.target[:70].astype(np.int32)


def build(architecture="two-block-cnn"):
    return build_model(MODEL.model_copy(update={"architecture": architecture}), **SIZES)


def run(folder, data, *, model=None, config=CONFIG, norm=normalise, **others):
    model = build() if model is None else model
    settings = {"normalise": norm, "config": config, "device": CPU, "identity": IDENTITY}
    paths = train(model, *data, folder=folder, **settings, **others)
    return model, paths


def changed(**settings):
    return TrainingConfig.model_validate(CONFIG.model_dump() | settings)


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    return run(tmp_path_factory.mktemp("whole") / "run", data)


def test_train__leaves_step_zero_every_third_the_last_and_the_epochs(whole):
    steps = [f"step-{step:06d}" for step in (0, 3, 6, 9, 10)]
    expected = [*steps[:2], "epoch-001", *steps[2:], "epoch-002"]
    assert [path.stem for path in whole[1]] == expected
    assert {path.name for path in whole[1][0].parent.iterdir()} == {
        "training.json",
        *(f"{name}.safetensors" for name in expected),
    }


def test_train__step_zero_is_the_start_and_the_last_step_the_last_epoch(whole):
    first, *_, step, epoch = whole[1]
    for name, tensor in build().state_dict().items():
        assert torch.equal(load_file(first)[name], tensor), name
    assert step.read_bytes() == epoch.read_bytes()


def test_train__checkpoints_say_when_they_were_saved(whole):
    said = [metadata(path) for path in whole[1]]
    assert said[0] == {"step": "0", "epoch": "0"}
    assert [(each["step"], each["epoch"]) for each in said[1:]] == [
        ("3", "1"),
        ("5", "1"),
        ("6", "2"),
        ("9", "2"),
        ("10", "2"),
        ("10", "2"),
    ]
    annealing = 0.01 * (1 + np.cos(np.pi * np.array([2, 4, 5, 8, 9, 9]) / 10))
    np.testing.assert_allclose([float(each["learning_rate"]) for each in said[1:]], annealing)
    assert all(0 < float(each["loss"]) < 5 for each in said[1:])


def test_train__first_step_is_the_gradient_step_of_torch(tmp_path, data):
    """The loss in the file, and the weights after one step, by autograd without our loop."""
    config = changed(epochs=1, batch_size=70, crop=0, flip=False, checkpoint_steps=1)
    paths = run(tmp_path, data, model=build("resnet18"), config=config)[1]
    model = build("resnet18").double().train()
    images, labels = (torch.from_numpy(each) for each in data)
    loss = functional.cross_entropy(model(normalise(images).double()), labels.long())
    loss.backward()
    assert float(metadata(paths[1])["loss"]) == pytest.approx(loss.item(), rel=1e-4)
    stepped = load_file(paths[1])
    for name, parameter in model.named_parameters():
        gradient = parameter.grad + config.weight_decay * parameter.data
        found = (parameter.data - stepped[name].double()) / config.learning_rate
        assert (found - gradient).norm() < 0.01 * gradient.norm(), name


@pytest.mark.parametrize("steps", [1, 4, 5, 8, 10])
def test_train__killed_anywhere_goes_on_bit_identically(tmp_path, data, whole, steps):
    with pytest.raises(PulledPlugError):
        run(tmp_path / "run", data, progress=stop_after(steps))
    torch.rand(steps)  # the global random state plays no part
    model, cut = run(tmp_path / "run", data)
    assert [path.name for path in cut] == [path.name for path in whole[1]]
    assert [path.read_bytes() for path in cut] == [path.read_bytes() for path in whole[1]]
    assert weights_sha256(model) == weights_sha256(whole[0])
    logs = [json.loads((p[0].parent / "training.json").read_text()) for p in (whole[1], cut)]
    lines = [[{**line, "seconds": None} for line in log["epochs"]] for log in logs]
    assert lines[0] == lines[1]


def test_train__resumes_at_the_last_checkpoint_within_an_epoch(tmp_path, data):
    with pytest.raises(PulledPlugError):
        run(tmp_path, data, progress=stop_after(8))
    seen = []

    def progress(description, total):
        seen.append(total)
        return stop_after(99)(description, total)

    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("step-*")}
    run(tmp_path, data, progress=progress)
    assert sorted(times) == [f"step-{step:06d}.safetensors" for step in (0, 3, 6)]
    for name, time in times.items():
        assert (tmp_path / name).stat().st_mtime_ns == time, name
    assert seen == [10]


def test_train__lost_step_is_made_again(tmp_path, data):
    paths = run(tmp_path, data)[1]
    before = paths[1].read_bytes()
    paths[1].unlink()
    assert run(tmp_path, data)[1][1].read_bytes() == before


def test_train__steps_do_not_change_the_training(tmp_path, data, whole):
    plain = run(tmp_path, data, config=changed(checkpoint_steps=None))[0]
    assert weights_sha256(plain) == weights_sha256(whole[0])


def test_train__constant_schedule_keeps_the_rate(tmp_path, data):
    paths = run(tmp_path, data, config=changed(schedule="constant"))[1]
    assert {metadata(path).get("learning_rate") for path in paths[1:]} == {"0.02"}


def test_safetensors_bytes__are_the_same_each_time_and_load(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.zeros(2, 2, dtype=torch.int64)}
    said = {name: name for name in "zyxwvuts"}
    written = {safetensors_bytes(tensors, said) for _ in range(20)}
    assert len(written) == 1
    path = tmp_path / "a.safetensors"
    path.write_bytes(written.pop())
    assert metadata(path) == said
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, tensors[name])


# --- frozen modules -------------------------------------------------------------------------


def difference(paths):
    """Return the names of the tensors that differ between the first and the last checkpoint."""
    first, last = load_file(paths[0]), load_file(paths[-1])
    return {name for name in first if not torch.equal(first[name], last[name])}


@pytest.mark.parametrize("architecture", ["two-block-cnn", "resnet18"])
def test_train__head_alone_leaves_features_and_batch_norms(tmp_path, data, architecture):
    config = changed(train_only="head")
    model, paths = run(tmp_path, data, model=build(architecture), config=config)
    head = "fc" if architecture == "resnet18" else "fc3"
    assert difference(paths) == {f"{head}.weight", f"{head}.bias"}
    gradients = {name for name, each in model.named_parameters() if each.grad is not None}
    assert gradients == {f"{head}.weight", f"{head}.bias"}


def test_train__head_alone_learns(tmp_path, data):
    config = changed(train_only="head", epochs=8, learning_rate=0.5, crop=0, flip=False)
    log = run(tmp_path, data, model=build("resnet18"), config=config)[1][0].parent / "training.json"
    epochs = json.loads(log.read_text())["epochs"]
    assert epochs[-1]["loss"] < 0.5 * epochs[0]["loss"]


def test_train__frozen_globs_keep_what_they_match(tmp_path, data):
    config = changed(frozen=["conv1", "bn*"])
    paths = run(tmp_path, data, config=config)[1]
    kept = {name for name in load_file(paths[0]) if name not in difference(paths)}
    assert {name.split(".")[0] for name in kept} == {"conv1", "bn1", "bn2"}
    assert "bn1.running_mean" in kept


def test_train__frozen_training_resumes_bit_identically(tmp_path, data):
    config = changed(train_only="head")
    whole = run(tmp_path / "whole", data, config=config)[1]
    with pytest.raises(PulledPlugError):
        run(tmp_path / "cut", data, config=config, progress=stop_after(7))
    cut = run(tmp_path / "cut", data, config=config)[1]
    assert [path.read_bytes() for path in cut] == [path.read_bytes() for path in whole]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frozen": ["layer9*"]}, r"training\.frozen: no module matches 'layer9\*'; .* conv1, bn1"),
        ({"frozen": ["*"]}, "every parameter is frozen"),
    ],
)
def test_train__frozen_modules_that_cannot_be_are_refused(tmp_path, data, settings, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, data, config=changed(**settings))


# --- where a training starts ----------------------------------------------------------------


def start(training, config=MODEL, **sizes):
    source = model_source(config.model_copy(update={"weights": "untrained"}))
    return load_training_start(source, config, changed(**training), **(SIZES | sizes))


def test_start__is_the_untrained_model_without_initial_weights():
    assert weights_sha256(start({})) == weights_sha256(build())


def test_start__initial_weights_are_the_files(whole):
    path = whole[1][-1]
    found = start({"initial_weights": str(path)})
    for name, tensor in load_file(path).items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_start__new_head_is_drawn_anew_for_other_classes(whole):
    path = whole[1][-1]
    training = {"initial_weights": str(path), "train_only": "head"}
    held = load_file(path)
    found = start(training, classes=7).state_dict()
    assert found["fc3.weight"].shape == (7, 32)
    assert all(torch.equal(found[n], held[n]) for n in held if not n.startswith("fc3."))
    same = start(training).state_dict()
    assert not torch.equal(same["fc3.weight"], held["fc3.weight"])
    assert torch.equal(same["fc3.weight"], start(training).state_dict()["fc3.weight"])
    seeded = start(training, MODEL.model_copy(update={"seed": 1})).state_dict()
    assert not torch.equal(same["fc3.weight"], seeded["fc3.weight"])


def test_start__other_shapes_than_the_heads_do_not_fit(whole):
    wider = MODEL.model_copy(update={"width": 12})
    with pytest.raises(UserError, match=r"does not fit the model: .* set model\.width"):
        start({"initial_weights": str(whole[1][-1]), "train_only": "head"}, wider)
    with pytest.raises(UserError, match="does not fit the model"):
        start({"initial_weights": str(whole[1][-1])}, classes=7)


def test_start__missing_file_says_what_there_could_be(tmp_path):
    with pytest.raises(UserError, match=r"training\.initial_weights: expected a file, got .*gone"):
        start({"initial_weights": str(tmp_path / "gone.safetensors")})


ENTRY = """
import torch
from safetensors.torch import load_file

def build(weights):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    model.load_state_dict(load_file(weights))
    return model
"""


def test_start__entry_points_own_weights_with_a_new_head(tmp_path, monkeypatch):
    layers = {"1.weight": (5, 64), "1.bias": (5,), "3.weight": (4, 5), "3.bias": (4,)}
    held = {name: torch.full(shape, 0.5) for name, shape in layers.items()}
    save_file(held, tmp_path / "own.safetensors")
    (tmp_path / "entry_of_start.py").write_text(ENTRY)
    monkeypatch.syspath_prepend(tmp_path)
    options = {"weights": str(tmp_path / "own.safetensors")}
    config = ModelConfig(architecture="entry_of_start:build", options=options)
    found = start({"initial_weights": "DEFAULT", "train_only": "head"}, config).state_dict()
    assert torch.equal(found["1.weight"], held["1.weight"])
    assert found["3.weight"].unique().numel() == 20


def test_start__model_without_a_linear_layer_has_no_head():
    config = ModelConfig(architecture="squeezenet1_0")
    with pytest.raises(UserError, match="the model has none; name the modules"):
        start({"train_only": "head"}, config, colours=3, size=(64, 64))


# --- divergence and identity ----------------------------------------------------------------


def poisoned(at):
    """Return a normalisation whose call of that number, from 1, gives NaN; the first two look ahead."""
    calls = []

    def norm(batch):
        calls.append(batch)
        return normalise(batch) * (float("nan") if len(calls) == at else 1.0)

    return norm


def test_train__divergence_keeps_the_steps_before_it(tmp_path, data):
    with pytest.raises(UserError, match=r"epoch 2, step 3 of 5, .*, or training\.on_divergence to"):
        run(tmp_path, data, norm=poisoned(10))
    kept = sorted(path.stem for path in tmp_path.glob("*-0*.safetensors"))
    assert kept == ["epoch-001", "step-000000", "step-000003", "step-000006"]


def test_train__divergence_can_be_gone_through(tmp_path, data):
    config = changed(on_divergence="continue")
    paths = run(tmp_path, data, config=config, norm=poisoned(10))[1]
    assert all(path.exists() for path in paths)
    assert metadata(paths[-1])["loss"] == "nan"
    assert not torch.isfinite(load_file(paths[-1])["fc3.weight"]).all()
    log = json.loads((tmp_path / "training.json").read_text(), parse_constant=pytest.fail)
    assert log["epochs"][1]["loss"] is None


def test_train__stopped_by_divergence_goes_on_when_it_may(tmp_path, data):
    with pytest.raises(UserError, match="not finite"):
        run(tmp_path, data, norm=poisoned(10))
    run(tmp_path, data, config=changed(on_divergence="continue"))
    assert (tmp_path / "epoch-002.safetensors").exists()


def test_train__any_learning_rate_is_taken(tmp_path, data):
    config = changed(learning_rate=1.0, schedule="constant", on_divergence="continue")
    paths = run(tmp_path, data, model=build("resnet18"), config=config)[1]
    assert metadata(paths[-1])["learning_rate"] == "1.0"


def test_identity__of_settings_that_were_there_before_is_as_before():
    before = {
        "split": "train",
        "epochs": 15,
        "batch_size": 128,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "seed": 0,
        "crop": 0,
        "flip": False,
    }
    assert TrainingConfig().identity() == before
    elsewhere = TrainingConfig(on_divergence="continue", initial_weights="a.pt")
    assert elsewhere.identity() == before
    more = TrainingConfig(train_only="head", checkpoint_steps=5, schedule="constant", limit=9)
    assert more.identity() == before | {
        "train_only": "head",
        "checkpoint_steps": 5,
        "schedule": "constant",
        "limit": 9,
    }


def test_train__old_folder_counts_as_finished(tmp_path, data):
    """A folder as it was written before there were steps: without them in its log and files."""
    config = changed(checkpoint_steps=None)
    paths = run(tmp_path, data, config=config)[1]
    for number, path in enumerate(paths, 1):
        path.write_bytes(safetensors_bytes(load_file(path), {"epoch": str(number)}))
    times = [path.stat().st_mtime_ns for path in paths]
    run(tmp_path, data, config=config, progress=stop_after(1))
    assert [path.stat().st_mtime_ns for path in paths] == times


def test_train__old_state_is_gone_on_from(tmp_path, data):
    config = changed(checkpoint_steps=None)
    whole = run(tmp_path / "whole", data, config=config)[1]
    with pytest.raises(PulledPlugError):
        run(tmp_path / "cut", data, config=config, progress=stop_after(7))
    state = tmp_path / "cut" / "state-last.safetensors"
    tensors, said = load_file(state), metadata(state)
    kept = {name: t for name, t in tensors.items() if name.startswith(("model.", "momentum."))}
    save_file(kept, state, metadata={"epochs": said["epochs"]})
    cut = run(tmp_path / "cut", data, config=config)[1]
    assert cut[-1].read_bytes() == whole[-1].read_bytes()
