"""The order of a training's checkpoints, as trainers name and fill their files."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.checkpoint_files import Noted, noted_moment
from activarium.tasks.recording.checkpoint_series import list_checkpoints
from activarium.tasks.recording.step_names import bare_numbers


def write(folder, files):
    """Write files of torch.save by name; each holds what is given, and weights of its own."""
    for number, (name, content) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {"a": torch.full((2,), float(number))}, **content}, path)
    return folder


def found(where):
    config = ModelConfig(architecture="two-block-cnn", width=4, checkpoints=str(where))
    return list_checkpoints(config)


def steps(where):
    return [(each.step, each.checkpoint) for each in found(where).checkpoints]


def named(*names):
    return {name: {} for name in names}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["epoch=0-val_loss=0.91.ckpt", "epoch=2-val_loss=0.40.ckpt", "epoch=10-loss=0.33.ckpt"],
            [0, 2, 10],
        ),
        (
            ["epoch=0-step=40.ckpt", "epoch=1-step=80.ckpt", "epoch=2-step=120-v1.ckpt"],
            [40, 80, 120],
        ),
        (
            ["net_epoch_1_acc_45.2.pth", "net_epoch_2_acc_61.0.pth", "net_epoch_10_acc_58.7.pth"],
            [1, 2, 10],
        ),
        (["epoch_12.pth", "epoch_9.pth"], [9, 12]),
        (["iter_4000.pth", "iter_12000.pth"], [4000, 12000]),
        (["net_5k.pth", "net_10k.pth", "net_1M.pth", "net_2.5k.pth"], [2500, 5000, 10000, 1000000]),
        (["resnet18-005.pt", "resnet18-010.pt"], [5, 10]),
        (["vit_b_16_cifar10_3.pt", "vit_b_16_cifar10_20.pt"], [3, 20]),
        (["ckpt-3-v1.pt", "ckpt-4-v2.pt"], [3, 4]),
        (["acc_61_7.pt", "acc_45_8.pt"], [7, 8]),
        (["weights.01-0.83.pt", "weights.02-0.51.pt"], [1, 2]),
        (["ep3_lr1e-3.pt", "ep4_lr1e-3.pt"], [3, 4]),
        (["Epoch1.pt", "Epoch2.pt"], [1, 2]),
        (["step=1e5.pt", "step=2e4.pt"], [20_000, 100_000]),
        (["global_step100.pt", "global_step20.pt"], [20, 100]),
        (["weights.3.0.91.pt", "weights.10.0.81.pt"], [3, 10]),
        (["step_900.pt", "step_1,000.pt", "step_10,000.pt"], [900, 1000, 10_000]),
        (["ckpt_1B.pt", "ckpt_900M.pt"], [900_000_000, 1_000_000_000]),
        (["step_1.5e3.pt", "step_2e3.pt"], [1500, 2000]),
        (["ep0-ba500-rank0.pt", "ep0-ba1000-rank0.pt", "ep1-ba1500-rank0.pt"], [500, 1000, 1500]),
        (["1000steps.pt", "200steps.pt", "10k-steps.pt"], [200, 1000, 10_000]),
        (["cp-0010.pt", "cp-0020.pt"], [10, 20]),
        (["vit_b_16_3.pt", "vit_b_16_10.pt"], [3, 10]),
        (["checkpoint-500/model.pt", "checkpoint-1000/model.pt"], [500, 1000]),
        (["out/step_7/pytorch_model.bin", "out/step_30/pytorch_model.bin"], [7, 30]),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)
def test_steps__are_those_of_the_training(tmp_path, names, expected):
    write(tmp_path, named(*names))
    where = tmp_path / "out" if names[0].startswith("out") else tmp_path
    assert [step for step, _ in steps(where)] == expected


def test_steps__hugging_face_folders_are_one_series_named_by_the_folder_around(tmp_path):
    run = tmp_path / "run"
    for step in (1000, 500):
        save_path = run / f"checkpoint-{step}"
        save_path.mkdir(parents=True)
        save_file({"a": torch.full((1,), step)}, save_path / "model.safetensors", {"format": "pt"})
        write(
            save_path, named("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
        )
    save_file({"a": torch.zeros(1)}, run / "model.safetensors")
    for where in (run, run / "checkpoint-*", run / "checkpoint-*" / "*.safetensors"):
        listed = found(where)
        assert [(each.series, each.step, each.checkpoint) for each in listed.checkpoints] == [
            ("run", 500, "checkpoint-500"),
            ("run", 1000, "checkpoint-1000"),
        ]
    assert found(run).notices == ("model.safetensors is left out: it tells no step",)


def test_steps__in_the_files_go_before_bare_numbers(tmp_path):
    moments = {"b-1.pt": {"global_step": 900}, "a-2.pt": {"global_step": np.int64(30)}}
    assert steps(write(tmp_path / "step", moments)) == [(30, "a-2"), (900, "b-1")]
    moments = {"b-1.pt": {"epoch": 9}, "a-2.pt": {"epoch": 3, "args": argparse.Namespace()}}
    assert steps(write(tmp_path / "epoch", moments)) == [(3, "a-2"), (9, "b-1")]
    moments = {"best.pt": {"meta": {"iter": 9}}, "latest.pt": {"meta": {"iter": 12}}}
    assert steps(write(tmp_path / "words", moments)) == [(9, "best"), (12, "latest")]
    moments = {"b.pt": {"global_steps": 90}, "a.pt": {"global_steps": 30}}
    assert steps(write(tmp_path / "steps", moments)) == [(30, "a"), (90, "b")]
    moments = {"b.pt": {"current_epoch": 9}, "a.pt": {"current_epoch": 3}}
    assert steps(write(tmp_path / "current", moments)) == [(3, "a"), (9, "b")]
    moments = {"net-100.pt": {"epoch": 1}, "net-200.pt": {"epoch": 1}}
    assert steps(write(tmp_path / "same", moments)) == [(100, "net-100"), (200, "net-200")]


def test_steps__last_counts_where_its_own_note_agrees_with_the_others(tmp_path):
    files = {
        "epoch=0-step=40.ckpt": {"epoch": 0, "global_step": 40},
        "epoch=1-step=80-v1.ckpt": {"epoch": 1, "global_step": 80},
        "last.ckpt": {"epoch": 2, "global_step": 120},
    }
    assert [step for step, _ in steps(write(tmp_path / "steps", files))] == [40, 80, 120]
    files = {name.replace("-step=", "-val="): content for name, content in files.items()}
    assert [step for step, _ in steps(write(tmp_path / "epochs", files))] == [0, 1, 2]
    files["last.ckpt"] = {"epoch": 1}
    listed = found(write(tmp_path / "again", files))
    assert [each.step for each in listed.checkpoints] == [0, 1]
    (said,) = listed.notices
    assert said.startswith("last.ckpt is left out: it is of epoch 1 as epoch=1")
    off_by_one = {"epoch_1.pt": {"epoch": 0}, "epoch_2.pt": {"epoch": 1}, "last.pt": {"epoch": 2}}
    listed = found(write(tmp_path / "off", off_by_one))
    assert [each.step for each in listed.checkpoints] == [1, 2]
    assert listed.notices == ("last.pt is left out: it tells no step",)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["net-3-7.pt", "other-4-9.pt"], r"net-3-7.pt has 3, 7; expected step=N or epoch=N"),
        (["epoch-2.pt", "step-3.pt"], r"by step \(step-3.pt\) and by epoch \(epoch-2.pt\)"),
        (["model-7.pt", "epoch-7.pt"], r"are both step 7"),
        (["model-00001-of-00002.pt", "model-00002-of-00002.pt"], r"a part of a checkpoint"),
        (["epoch=2.ckpt", "epoch=2-v1.ckpt"], r"are both step 2"),
        (["model_61.pt", "epoch_3.pt"], r"epoch_3.pt, .* model_61.pt, which has a number"),
        (["ppl_35.pt", "ppl_28.pt"], r"with a step in .* \(ppl_28.pt has none\)"),
        (["prec1_61.pt", "prec1_70.pt"], r"with a step"),
        (["valacc61.pt", "valacc70.pt"], r"with a step"),
        (["loss(2).pt", "loss(1).pt"], r"with a step"),
        (["acc_is_61.pt", "acc_is_50.pt"], r"with a step"),
        (["top-1_61.pt", "top-1_50.pt"], r"with a step"),
        (["vgg16.pt", "vgg19.pt"], r"with a step"),
        (["model-123e4567.pt"], r"with a step"),
        (["epoch_1_step_90.pt", "epoch_2_step_10.pt"], r"epoch_2_step_10.pt goes before epoch_1_"),
        (["epoch-0-iter-99.pt", "epoch-1-iter-5.pt"], r"epoch-1-iter-5.pt goes before epoch-0-"),
        (["ep1-ba90-rank0.pt", "ep2-ba10-rank0.pt"], r"ep2-ba10-rank0.pt goes before ep1-ba90"),
        (["resnet18-5c106cde.pt", "resnet50-3fa9c1.pt"], r"no file of weights with a step"),
        (["sgd_1e-3.pt", "sgd_1e-4.pt"], r"no file of weights with a step"),
        (["acc_61.0.pt", "acc_45.2.pt"], r"no file of weights with a step"),
    ],
)
def test_steps__that_cannot_be_told_are_refused_with_what_was_seen(tmp_path, names, said):
    with pytest.raises(UserError, match=said) as caught:
        steps(write(tmp_path, named(*names)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stem", "numbers"),
    [
        ("last", []),
        ("acc_61.0", []),
        ("a-v1", []),
        ("v2", [2]),
        ("val_loss=0.33", []),
        ("resnet50", []),
        ("run_3_5", []),
        ("ckpt_1e5", [100_000]),
        ("lr1e-3", []),
        ("lr_0.001_7", [7]),
        ("net-3fa9c1-12", [12]),
        ("net10k", [10_000]),
        ("0007", [7]),
        ("2024-01-05", [2024, 1, 5]),
    ],
)
def test_bare_numbers__are_those_that_may_count_steps(stem, numbers):
    assert bare_numbers(stem) == numbers


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_noted_moment__is_read_without_tensors_and_without_code(tmp_path, options):
    path = tmp_path / "a.ckpt"
    model = torch.nn.Linear(2, 2)
    said = {
        "epoch": 3,
        "global_step": np.int32(40),
        "args": argparse.Namespace(a=1),
        "model": model,
    }
    torch.save(said, path, **options)
    assert noted_moment(path) == Noted(step=40, epoch=3)
    torch.save({"epoch": 3.0, "step": 1.5, "best": True}, path, **options)
    assert noted_moment(path) == Noted(epoch=3)
    for content in (b"", b"abc", path.read_bytes()[:60]):
        path.write_bytes(content)
        assert noted_moment(path) == Noted()


@pytest.mark.parametrize(
    ("unclear", "clear"),
    [
        ("step_1e400.pt", "step_1.pt"),
        ("step_99999999999999999999.pt", "step_1.pt"),
        ("ckpt_12e45678.pt", "ckpt_1.pt"),
        ("epoch=-1.pt", "epoch=1.pt"),
        ("epoch_1.5.pt", "epoch_1.pt"),
        ("step_7x.pt", "step_1.pt"),
        ("recovery-3-100.pt", "checkpoint-1.pt"),
    ],
)
def test_steps__numbers_that_cannot_be_read_are_none_and_named(tmp_path, unclear, clear):
    listed = found(write(tmp_path, named(unclear, clear)))
    assert [each.step for each in listed.checkpoints] == [1]
    assert listed.notices == (f"{unclear} is left out: it tells no step",)


def test_steps__states_of_optimisers_and_samplers_are_no_checkpoints(tmp_path):
    names = [
        "checkpoint-0/sampler.bin",
        "checkpoint-0/model.bin",
        "step_1.pt",
        "step_1_optimizer.pt",
    ]
    write(tmp_path, named(*names[:2]))
    assert steps(tmp_path) == [(0, "checkpoint-0")]
    write(tmp_path / "b", named(*names[2:]))
    assert steps(tmp_path / "b") == [(1, "step_1")]
