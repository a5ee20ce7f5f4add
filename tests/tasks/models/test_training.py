from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from activarium.schemas.config import ModelConfig, TrainingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.accuracy import accuracy
from activarium.tasks.models.epoch_plan import cosine_rate, plan_epoch, shifted
from activarium.tasks.models.model_weights import load_weights, weights_sha256
from activarium.tasks.models.models import build_model
from activarium.tasks.models.training import train

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=3, batch_size=16, learning_rate=0.02, crop=1, flip=True, seed=3)
IDENTITY = {"model": "abc", "images": "def"}


def normalise(batch):
    return (batch.permute(0, 3, 1, 2).float() / 255 - 0.3) / 0.35


def build(architecture="two-block-cnn", width=8):
    config = ModelConfig(architecture=architecture, width=width)
    return build_model(config, classes=4, colours=1, size=(8, 8))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Two spinning threads on a busy machine take ten times as long as one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    digits = load_digits(n_class=4)
    images = np.rint(digits.images[:70] * 255 / 16).astype(np.uint8)[..., None]
    return images, digits.target[:70].astype(np.int32)


def run(folder, data, *, model=None, config=CONFIG, identity=IDENTITY, **others):
    model = build() if model is None else model
    paths = train(
        model,
        *data,
        normalise=normalise,
        config=config,
        device=CPU,
        folder=folder,
        identity=identity,
        **others,
    )
    return model, paths


class PulledPlugError(Exception):
    pass


def stop_after(steps):
    @contextmanager
    def progress(description, total):
        done = 0

        def advance(more):
            nonlocal done
            done += more
            if done >= steps:
                raise PulledPlugError

        yield advance

    return progress


def test_cosine_rate__starts_at_the_rate_and_falls_to_nothing():
    rates = [cosine_rate(step, steps=4, start=2.0) for step in range(5)]
    np.testing.assert_allclose(rates, [2, 1 + 2**-0.5, 1, 1 - 2**-0.5, 0], atol=1e-12)


def test_cosine_rate__equals_torchs_annealing():
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=9)
    for step in range(9):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(
            cosine_rate(step, steps=9, start=0.3)
        )
        optimiser.step()
        scheduler.step()


def test_shifted__equals_padding_and_slicing_one_by_one():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
    offsets = generator.integers(0, 5, (6, 2))
    mirrored = np.array([True, False, True, False, False, True])
    cut = shifted(
        torch.from_numpy(images), torch.from_numpy(offsets), torch.from_numpy(mirrored), padding=2
    )
    for image, (row, column), mirror, got in zip(images, offsets, mirrored, cut, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        expected = padded[row : row + 5, column : column + 7]
        np.testing.assert_array_equal(got.numpy(), expected[:, ::-1] if mirror else expected)


def test_plan_epoch__differs_by_epoch_and_seed_and_is_repeatable():
    plans = [
        plan_epoch(50, epoch=epoch, config=CONFIG.model_copy(update={"seed": seed})).order.tolist()
        for seed, epoch in ((0, 1), (0, 2), (1, 1), (0, 1))
    ]
    assert plans[0] == plans[3]
    assert plans[0] != plans[1] != plans[2] != plans[0]
    assert sorted(plans[0]) == list(range(50))


def test_plan_epoch__augmentation_leaves_the_order_alone():
    plain = CONFIG.model_copy(update={"crop": 0, "flip": False})
    with_crop, without = (plan_epoch(50, epoch=1, config=c) for c in (CONFIG, plain))
    np.testing.assert_array_equal(with_crop.order, without.order)
    assert not without.mirrored.any()
    assert not without.offsets.any()
    assert with_crop.mirrored.any()
    assert set(with_crop.offsets.ravel()) == {0, 1, 2}


def test_train__leaves_one_checkpoint_per_epoch_a_log_and_nothing_else(tmp_path, data):
    model, paths = run(tmp_path / "run", data)
    assert [path.name for path in paths] == [f"epoch-00{n}.safetensors" for n in (1, 2, 3)]
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        *(p.name for p in paths),
        "training.json",
    }
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    assert log["identity"] == IDENTITY
    assert log["config"]["batch_size"] == 16
    assert [line["epoch"] for line in log["epochs"]] == [1, 2, 3]
    assert log["epochs"][0].keys() == {"epoch", "loss", "accuracy", "seconds"}
    assert not model.training
    assert model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    last = build()
    load_weights(last, paths[-1])
    assert weights_sha256(last) == weights_sha256(model)


@pytest.mark.parametrize(
    ("architecture", "steps"),
    [("two-block-cnn", 2), ("two-block-cnn", 7), ("two-block-cnn", 13), ("resnet18", 7)],
)
def test_train__interrupted_and_resumed_ends_bit_identical(tmp_path, data, architecture, steps):
    whole = run(tmp_path / "whole", data, model=build(architecture))[1]
    with pytest.raises(PulledPlugError):
        run(tmp_path / "cut", data, model=build(architecture), progress=stop_after(steps))
    torch.rand(steps)  # the global random state plays no part
    model, cut = run(tmp_path / "cut", data, model=build(architecture))
    assert [p.read_bytes() for p in cut] == [p.read_bytes() for p in whole]
    last = build(architecture)
    load_weights(last, whole[-1])
    assert weights_sha256(model) == weights_sha256(last)


def test_train__model_too_narrow_for_the_cpus_gradients_is_refused(tmp_path, data):
    with pytest.raises(UserError, match=r"set model.width to at least 8"):
        run(tmp_path, data, model=build("resnet18", width=4))


def test_train__resumes_at_the_last_finished_epoch(tmp_path, data):
    with pytest.raises(PulledPlugError):
        run(tmp_path, data, progress=stop_after(12))
    seen = []

    @contextmanager
    def progress(description, total):
        seen.append((description, total))
        yield seen.append

    run(tmp_path, data, progress=progress)
    # 70 images in batches of 16: five steps per epoch, two epochs of which were finished.
    assert seen == [("training", 15), 10, 1, 1, 1, 1, 1]


def test_train__stopped_between_state_and_log_goes_on_from_the_state(tmp_path, data):
    whole = run(tmp_path / "whole", data)[1]
    with pytest.raises(PulledPlugError):
        run(tmp_path / "cut", data, progress=stop_after(12))
    log = tmp_path / "cut" / "training.json"
    held = json.loads(log.read_text())
    log.write_text(json.dumps({**held, "epochs": held["epochs"][:1]}))
    cut = run(tmp_path / "cut", data)[1]
    assert cut[-1].read_bytes() == whole[-1].read_bytes()
    assert [line["epoch"] for line in json.loads(log.read_text())["epochs"]] == [1, 2, 3]


def test_train__finished_folder_is_not_trained_again(tmp_path, data):
    first, paths = run(tmp_path, data)
    times = [path.stat().st_mtime_ns for path in paths]
    second, again = run(tmp_path, data, progress=stop_after(1))
    assert again == paths
    assert [path.stat().st_mtime_ns for path in paths] == times
    assert weights_sha256(second) == weights_sha256(first)
    assert not second.training


def test_train__lost_checkpoint_is_made_again(tmp_path, data):
    paths = run(tmp_path, data)[1]
    before = paths[0].read_bytes()
    paths[0].unlink()
    assert run(tmp_path, data)[1][0].read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"identity": {"model": "xyz", "images": "def"}},
        {"config": CONFIG.model_copy(update={"learning_rate": 0.1})},
    ],
)
def test_train__folder_of_another_training_is_refused(tmp_path, data, change):
    run(tmp_path, data)
    with pytest.raises(UserError, match=r"another training.* differs in (model|learning_rate)"):
        run(tmp_path, data, **change)


@pytest.mark.parametrize("name", ["training.json", "state-last.safetensors"])
def test_train__damaged_folder_says_so(tmp_path, data, name):
    with pytest.raises(PulledPlugError):
        run(tmp_path, data, progress=stop_after(7))
    (tmp_path / name).write_bytes(b"{]")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        run(tmp_path, data)


def test_train__diverging_loss_names_the_step_and_keeps_finished_epochs(tmp_path, data):
    def poisoned(batch):
        poisoned.calls += 1
        return normalise(batch) * (float("nan") if poisoned.calls == 10 else 1.0)

    # The first two calls look at the memory format and the outputs; five steps make an epoch.
    poisoned.calls = 0
    with pytest.raises(UserError, match=r"epoch 2, step 3 of 5, at learning rate 0.0\d+; set"):
        train(
            build(),
            *data,
            normalise=poisoned,
            config=CONFIG,
            device=CPU,
            folder=tmp_path,
            identity=IDENTITY,
        )
    assert (tmp_path / "epoch-001.safetensors").exists()
    assert not (tmp_path / "epoch-002.safetensors").exists()


def test_train__leaves_out_images_without_a_label(tmp_path, data):
    images, labels = data
    some = np.where(np.arange(len(labels)) % 5 == 0, -1, labels).astype(np.int32)
    known = some >= 0
    masked = run(tmp_path / "masked", (images, some))[0]
    picked = run(tmp_path / "picked", (images[known], some[known]))[0]
    assert weights_sha256(masked) == weights_sha256(picked)
    with pytest.raises(UserError, match="labelled"):
        run(tmp_path / "none", (images, np.full_like(labels, -1)))


def test_train__skips_a_last_batch_of_one_image_under_batch_norm(tmp_path, data):
    images, labels = data
    seen = []

    @contextmanager
    def progress(description, total):
        yield seen.append

    run(tmp_path, (images[:33], labels[:33]), progress=progress)
    assert seen == [0, 1, 1, 1, 1, 1, 1]


def test_train__label_beyond_the_outputs_is_refused(tmp_path, data):
    images, labels = data
    with pytest.raises(UserError, match="4 outputs, but labels go up to 5"):
        run(tmp_path, (images, labels + 2))


def test_train__leaves_the_global_random_state_alone(tmp_path, data):
    before = torch.random.get_rng_state()
    run(tmp_path, data)
    assert torch.equal(before, torch.random.get_rng_state())


def test_train__without_momentum_resumes_too(tmp_path, data):
    config = CONFIG.model_copy(update={"momentum": 0.0})
    whole = run(tmp_path / "whole", data, config=config)[1]
    with pytest.raises(PulledPlugError):
        run(tmp_path / "cut", data, config=config, progress=stop_after(8))
    assert run(tmp_path / "cut", data, config=config)[1][-1].read_bytes() == whole[-1].read_bytes()


def test_accuracy__counts_labelled_images_only_and_does_not_depend_on_the_batch_size(data):
    images, labels = data
    model = build()
    inputs = normalise(torch.from_numpy(images))
    expected = model(inputs).argmax(dim=1).numpy()
    truth = np.where(np.arange(len(labels)) < 30, expected, labels).astype(np.int32)
    truth[50:] = -1
    share = float((expected[:50] == truth[:50]).mean())
    for size in (7, 512):
        got = accuracy(model, images, truth, normalise=normalise, device=CPU, batch_size=size)
        assert got == pytest.approx(share)
    with pytest.raises(UserError, match="labelled"):
        accuracy(model, images, np.full_like(labels, -1), normalise=normalise, device=CPU)


def test_train__learns_the_digits(tmp_path):
    digits = load_digits()
    raw = np.rint(digits.images * 255 / 16).astype(np.uint8)
    raw = [np.asarray(Image.fromarray(x).resize((32, 32), Image.Resampling.BILINEAR)) for x in raw]
    order = np.random.default_rng(0).permutation(len(raw))
    images, labels = np.stack(raw)[order, ..., None], digits.target[order].astype(np.int32)
    config = ModelConfig(architecture="two-block-cnn", width=16)
    model = build_model(config, classes=10, colours=1, size=(32, 32))
    settings = TrainingConfig(epochs=6, batch_size=64, learning_rate=0.05, crop=2)
    cut = int(0.7 * len(labels))
    run(tmp_path, (images[:cut], labels[:cut]), model=model, config=settings)
    test = images[cut:], labels[cut:]
    assert accuracy(model, *test, normalise=normalise, device=CPU) >= 0.97
