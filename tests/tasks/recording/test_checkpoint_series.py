"""Series of checkpoints: which files, in which order, and what is recorded of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig, ModelConfig, RecordCall, RunConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.recording import checkpoint_series
from activarium.tasks.recording.checkpoint_series import list_checkpoints, record_series
from activarium.tasks.recording.checkpoints import (
    choose_checkpoint,
    record_checkpoint,
    train_checkpoint,
    untrained_control,
)
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.recording import open_recording

CALL = RecordCall()
SMALL = {"architecture": "two-block-cnn", "width": 4}


def config_of(where, *, training=None, **model):
    return RunConfig.model_validate(
        {
            "name": "run",
            "test_set": {"source": "digits", "limit": 40},
            "preprocessing": {"size": 12},
            "model": {**SMALL, "checkpoints": str(where), **model},
            "record": {"device": "cpu", "threads": 1, "layers": ["conv*", "fc3"], "density": True},
            "training": training,
        }
    )


TRAINING = {"limit": 96, "epochs": 2, "batch_size": 32, "checkpoint_steps": 2}
TRAINED = config_of("trained", training=TRAINING)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training of six steps; nobody may change it."""
    atlas = Atlas(tmp_path_factory.mktemp("trained"))
    return train_checkpoint(atlas, TRAINED).path.parent


@pytest.fixture
def atlas(tmp_path):
    return Atlas(tmp_path / "atlas")


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


def listed(where, **settings):
    found = list_checkpoints(ModelConfig(**SMALL, checkpoints=str(where), **settings))
    return [(each.series, each.step, each.checkpoint) for each in found.checkpoints]


# --- listing --------------------------------------------------------------------------------


def test_list__training_folder_comes_by_step_and_equal_files_count_once(trained):
    shutil.copy(trained / "epoch-001.safetensors", trained / "state-last.safetensors")
    found = listed(trained)
    (trained / "state-last.safetensors").unlink()
    name = trained.name
    assert found == [
        (name, 0, "step-000000"),
        (name, 2, "step-000002"),
        (name, 3, "epoch-001"),
        (name, 4, "step-000004"),
        (name, 6, "step-000006"),
    ]


def test_list__numbers_in_names_count_where_the_file_says_nothing(tmp_path):
    folder = touch(tmp_path / "run2", "a-10.pt", "a-9.pth", "a_100.pth.tar", "x3.bin", "v2.ckpt")
    touch(folder, "notes-1.txt", "net-5.pt2", ".a-1.pt.partial", ".hidden-7.pt")
    assert [each[1:] for each in listed(folder)] == [
        (2, "v2"),
        (3, "x3"),
        (9, "a-9"),
        (10, "a-10"),
        (100, "a_100"),
    ]
    assert {each[0] for each in listed(folder)} == {"run2"}


def test_list__step_in_the_file_goes_before_its_name(tmp_path):
    for number, step in ((1, 500), (2, 20)):
        said = {"step": str(step)}
        save_file({"a": torch.zeros(1)}, tmp_path / f"part-{number}.safetensors", metadata=said)
    assert [each[1:] for each in listed(tmp_path)] == [(20, "part-2"), (500, "part-1")]


def test_list__glob_of_files_and_of_folders(tmp_path):
    for run in ("b", "a"):
        touch(tmp_path / run, "epoch-1.pt", "step-1.pt", "epoch-2.pt")
    expected = [("a", 1, "epoch-1"), ("a", 2, "epoch-2")]
    assert listed(tmp_path / "a" / "epoch-*.pt") == expected
    touch(tmp_path / "a", "epoch-3.pt")
    assert listed(tmp_path / "?" / "*[23].pt") == [
        ("a", 2, "epoch-2"),
        ("a", 3, "epoch-3"),
        ("b", 2, "epoch-2"),
    ]
    for run in ("b", "a"):
        (tmp_path / run / "step-1.pt").unlink()
    assert [each[0] for each in listed(tmp_path / "*")] == ["a", "a", "a", "b", "b"]
    assert listed(tmp_path / "a", series="mine")[0] == ("mine", 1, "epoch-1")


def test_list__file_without_a_step_is_left_out_and_said(tmp_path):
    touch(tmp_path, "best.pt", "epoch-2.pt")
    found = list_checkpoints(ModelConfig(**SMALL, checkpoints=str(tmp_path)))
    assert [each.checkpoint for each in found.checkpoints] == ["epoch-2"]
    assert found.notices == ("best.pt is left out: it tells no step",)


@pytest.mark.parametrize("name", ["", "absent", "*.pt", "notes.txt"])
def test_list__nothing_there_is_one_clear_line(tmp_path, name):
    touch(tmp_path, "notes.txt")
    with pytest.raises(UserError, match=r"no file of weights with a step in .*; expected a folder"):
        listed(tmp_path / name)


def test_list__two_files_of_one_step_are_refused(tmp_path):
    touch(tmp_path, "epoch-7.pt", "ckpt-7.pt")
    with pytest.raises(UserError, match=r"ckpt-7.pt and .*epoch-7.pt are both step 7"):
        listed(tmp_path)


# --- recording ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(trained, tmp_path_factory):
    """A recorded series; nobody may change it."""
    atlas = Atlas(tmp_path_factory.mktemp("recorded"))
    return atlas, record_series(atlas, TRAINED, call=CALL, trained=trained)


def test_record_series__one_recording_each_in_order_and_named_so(recorded, trained):
    _, receipt = recorded
    names = [each.recording for each in receipt.recordings]
    assert names == sorted(names)
    beginnings = [f"{trained.name}-step-{step:06d}-digits-test-" for step in (0, 2, 3, 4, 6)]
    assert [name[:-12] for name in names] == beginnings
    assert receipt.made
    assert receipt.failure is None


def test_record_series__series_and_step_are_in_attributes_and_table(recorded, trained):
    atlas, receipt = recorded
    name = receipt.recordings[2].recording
    opened = open_recording(atlas, name)
    assert (opened.attributes["series"], opened.attributes["step"]) == (trained.name, 3)
    assert opened.attributes["checkpoint"] == "epoch-001"
    files = analyse(
        atlas, opened, config=AnalyseConfig(scheduler="synchronous", permutations=0)
    ).files
    row = next(read_table(path) for path in files if path.stem == "recordings").to_pylist()[0]
    assert (row["series"], row["step"]) == (trained.name, 3)


def test_record_series__each_holds_what_its_checkpoint_answers_alone(recorded, trained, atlas):
    series_atlas, receipt = recorded
    for each, path in zip(
        receipt.recordings, ("step-000000", "step-000002", "epoch-001"), strict=False
    ):
        weights = str(trained / f"{path}.safetensors")
        alone = config_of("", checkpoints=None, weights=weights)
        single = record_checkpoint(atlas, alone, choose_checkpoint(alone.model))
        assert single.recording != each.recording
        first, second = (
            open_recording(series_atlas, each.recording),
            open_recording(atlas, single.recording),
        )
        assert "series" not in second.attributes
        for array in ("channel_mean", "logits", "density"):
            np.testing.assert_array_equal(first.read(array), second.read(array))


def test_record_series__again_makes_nothing_and_a_new_checkpoint_alone(trained, atlas, tmp_path):
    folder = tmp_path / "growing"
    folder.mkdir()
    for step in (2, 0):
        shutil.copy(trained / f"step-{step:06d}.safetensors", folder)
    config = config_of(folder)
    assert [each.made for each in record_series(atlas, config, call=CALL).recordings] == [True] * 2
    assert not record_series(atlas, config, call=CALL).made
    shutil.copy(trained / "step-000004.safetensors", folder)
    again = record_series(atlas, config, call=CALL)
    assert [each.made for each in again.recordings] == [False, False, True]


def test_record_series__same_weights_in_two_series_are_two_recordings(trained, atlas, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(trained / "step-000000.safetensors", tmp_path / name)
    receipt = record_series(atlas, config_of(tmp_path / "*"), call=CALL)
    assert [each.series for each in receipt.checkpoints] == ["one", "two"]
    assert len({each.recording for each in receipt.recordings}) == 2


def broken(folder, trained):
    """Five checkpoints, three of which cannot be recorded: cut off, another model, not finite."""
    folder.mkdir()
    for step in (0, 2):
        shutil.copy(trained / f"step-{step:06d}.safetensors", folder)
    whole = (trained / "step-000004.safetensors").read_bytes()
    (folder / "step-000001.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({"a": torch.zeros(1)}, folder / "step-000003.safetensors")
    weights = load_file(trained / "step-000004.safetensors")
    weights["conv2.weight"][:] = float("nan")
    save_file(weights, folder / "step-000004.safetensors")
    return folder


def test_record_series__checkpoints_that_fail_are_noted_and_the_rest_goes_on(
    trained, atlas, tmp_path
):
    config = config_of(broken(tmp_path / "broken", trained))
    receipt = record_series(atlas, config, call=CALL)
    assert [each.step for each in receipt.checkpoints] == [0, 2]
    assert len(receipt.recordings) == 2
    assert [(each.step, each.path.name) for each in receipt.failed] == [
        (step, f"step-00000{step}.safetensors") for step in (1, 3, 4)
    ]
    reasons = [each.reason for each in receipt.failed]
    for reason, words in zip(
        reasons, ("is damaged", "does not fit the model", "'conv2' is the first"), strict=True
    ):
        assert words in reason
        assert "\n" not in reason
        assert reason in receipt.failure
    assert receipt.failure.startswith("3 of 5 checkpoints could not be recorded: step 1 (")
    assert json.loads(receipt.model_dump_json())["failed"][0]["step"] == 1
    # The mended file is recorded, and nothing else again.
    shutil.copy(
        trained / "step-000004.safetensors", tmp_path / "broken" / "step-000001.safetensors"
    )
    (tmp_path / "broken" / "step-000004.safetensors").unlink()
    mended = record_series(atlas, config, call=CALL)
    assert [each.made for each in mended.recordings] == [False, False, True]


def test_record_series__nothing_that_can_be_recorded_is_an_error(atlas, tmp_path):
    touch(tmp_path / "run", "a-1.pt", "a-2.pt")
    with pytest.raises(
        UserError, match=r"none of 2 checkpoints could be recorded; the first: .*a-1"
    ):
        record_series(atlas, config_of(tmp_path / "run"), call=CALL)


def test_record_series__options_that_cannot_be_are_no_failed_checkpoints(atlas, trained):
    with pytest.raises(UserError, match="--part: expected i/n"):
        record_series(atlas, TRAINED, call=RecordCall.model_construct(part="3/2"), trained=trained)


def test_record_series__loads_the_test_set_once(trained, atlas, monkeypatch):
    calls = []
    load = checkpoint_series.load_images

    def counted(*arguments, **settings):
        calls.append(arguments)
        return load(*arguments, **settings)

    monkeypatch.setattr(checkpoint_series, "load_images", counted)
    monkeypatch.setattr("activarium.tasks.recording.checkpoints.load_images", counted)
    record_series(atlas, TRAINED, call=CALL, trained=trained)
    assert len(calls) == 1


def test_untrained_control__of_a_series_is_one_state():
    control = untrained_control(TRAINED)
    assert (control.model.checkpoints, control.model.series) == (None, None)
    assert control.model.weights == "untrained"


def test_record_series__parts_make_a_recording_together(trained, atlas, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    shutil.copy(trained / "step-000002.safetensors", folder)
    config = config_of(folder)
    first = record_series(atlas, config, call=RecordCall(part="1/2"))
    assert [each.shards_left for each in first.recordings] == [1]
    second = record_series(atlas, config, call=RecordCall(part="2/2"))
    assert [each.shards_left for each in second.recordings] == [0]
