"""Models and pages: whatever byte is wrong, it is found and named; and no file is overlooked."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from activarium.schemas.atlas import TRAINING_LOG, TRAINING_STATE, Atlas
from activarium.schemas.config import RecordCall, RunConfig, TrainingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models import lost_checkpoints
from activarium.tasks.recording.checkpoint_series import record_series
from activarium.tasks.recording.checkpoints import record_checkpoint, train_checkpoint
from activarium.tasks.reporting.page_files import replace_page
from activarium.tasks.stores import atlas_files
from activarium.tasks.stores.checksum_files import HAS_CHECKSUM, checksum_file
from activarium.tasks.stores.verify import verify

from ..models.test_training import PulledPlugError, stop_after

CONFIG = RunConfig.model_validate(
    {
        "name": "run",
        "test_set": {"source": "digits", "limit": 20},
        "preprocessing": {"size": 12},
        "model": {"architecture": "two-block-cnn", "width": 4, "weights": "trained"},
        "training": {"epochs": 2, "batch_size": 16, "limit": 48, "checkpoint_steps": 1},
        "record": {"device": "cpu"},
    }
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return an atlas with a training and a page; nobody may change them."""
    atlas = Atlas(tmp_path_factory.mktemp("made"))
    train_checkpoint(atlas, CONFIG)
    replace_page(atlas.report("run"), "<html>a page</html>\n")
    return atlas


@pytest.fixture
def atlas(made, tmp_path, monkeypatch):
    monkeypatch.setattr(atlas_files, "_PAUSE_SECONDS", 0)
    shutil.copytree(made.root, tmp_path / "atlas")
    return Atlas(tmp_path / "atlas")


def look(atlas):
    return verify(atlas, [], others=True)


def faults(atlas):
    return {fault.object: fault.problem for fault in look(atlas).faults}


def stored(atlas):
    files = [file for file in sorted(atlas.root.rglob("*")) if file.is_file()]
    return [file for file in files if file.suffix != ".lock"]


def training(atlas):
    (folder,) = (path for path in atlas.models.iterdir() if path.is_dir())
    return folder


def key(atlas, file):
    return file.relative_to(atlas.root).as_posix()


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    return content[:-9] + bytes([content[-9] ^ 0x20]) + content[-8:]


DAMAGES = [flip, cut, lambda content: content + b" ", lambda _: b""]


def test_verify__sound_models_and_pages_have_no_fault(atlas):
    found = look(atlas)
    assert (found.faults, found.unfinished, found.unknown, found.checked_less) == ((), (), (), ())
    # A file and its checksum are one object.
    assert found.objects == len(stored(atlas)) // 2
    assert found.objects == 7 + 2 + 1 + 1  # steps, epochs, the log, the page


def test_verify__any_damage_to_any_file_is_found(atlas):
    for file in stored(atlas):
        content = file.read_bytes()
        for damage in DAMAGES:
            file.write_bytes(damage(content))
            assert faults(atlas), (file, damage)
        file.unlink()
        found = look(atlas)
        assert found.faults or found.unfinished, file
        file.write_bytes(content)
    assert not faults(atlas)


def test_verify__damaged_and_missing_are_named_with_what_to_do(atlas):
    file = training(atlas) / "epoch-001.safetensors"
    file.write_bytes(flip(file.read_bytes()))
    (fault,) = look(atlas).faults
    assert (fault.object, fault.recording) == (key(atlas, file), "")
    assert fault.problem == "the content differs from its sha256"
    assert f"delete models/{training(atlas).name} and `activarium train CONFIG`" in fault.remedy
    file.unlink()
    assert faults(atlas) == {key(atlas, file): "missing"}


def test_verify__two_checkpoints_in_each_others_places_are_named(atlas):
    one, other = (training(atlas) / f"epoch-00{n}.safetensors" for n in (1, 2))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert sorted(faults(atlas)) == [key(atlas, one), key(atlas, other)]


def test_verify__a_checkpoint_without_checksum_is_named(atlas):
    file = training(atlas) / "epoch-001.safetensors"
    shutil.copy(file, file.with_name("epoch-009.safetensors"))
    assert list(faults(atlas).values()) == ["no checksum covers it"]


@pytest.mark.parametrize(
    "place", ["note.txt", "reports/note.md", "models/own.pt", "tables/units/x.txt", "more/a/b"]
)
def test_verify__other_files_are_named_as_unknown(atlas, place):
    file = atlas.root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"mine")
    found = look(atlas)
    assert (found.unknown, found.faults) == ((place,), ())


@pytest.mark.parametrize(
    "place", ["datasets/a/b.bin", "work/a", ".prefect/p.db", ".locks/a.lock", "reports/.a.partial"]
)
def test_verify__files_of_other_programs_and_half_written_ones_are_left_alone(atlas, place):
    file = atlas.root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"theirs")
    assert look(atlas).unknown == ()


def made_earlier(atlas):
    """Take away what earlier versions did not write."""
    shutil.rmtree(atlas.checksums)
    log = training(atlas) / TRAINING_LOG
    held = json.loads(log.read_bytes())
    del held["has_checksums"]
    log.write_text(json.dumps(held))
    page = atlas.report("run")
    page.write_bytes(page.read_bytes().removesuffix(HAS_CHECKSUM))


def test_verify__files_of_earlier_versions_are_said_to_be_checked_less(atlas):
    made_earlier(atlas)
    found = look(atlas)
    assert (found.faults, found.unfinished, found.unknown) == ((), (), ())
    assert len(found.checked_less) == 11
    assert not train_checkpoint(atlas, CONFIG).made
    file = training(atlas) / "epoch-002.safetensors"
    file.write_bytes(cut(file.read_bytes()))
    assert list(faults(atlas)) == [key(atlas, file)]
    with pytest.raises(UserError, match=r"is damaged .* `activarium train` again"):
        train_checkpoint(atlas, CONFIG)


# --- what is trained on and recorded --------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_record__damaged_checkpoint_of_an_atlas_is_refused(atlas, damage, monkeypatch):
    receipt = train_checkpoint(atlas, CONFIG)
    receipt.path.write_bytes(damage(receipt.path.read_bytes()))
    monkeypatch.chdir(receipt.path.parent.parent)
    for path in (receipt.path, receipt.path.relative_to(Path.cwd())):
        with pytest.raises(UserError, match="differs from its sha256") as error:
            record_checkpoint(atlas, CONFIG, receipt.model_copy(update={"path": path}))
        assert "`activarium train` again" in str(error.value)
    with pytest.raises(UserError, match="differs from its sha256"):
        train_checkpoint(atlas, CONFIG)
    assert not (atlas.root / "recordings").exists()


@pytest.mark.parametrize("name", ["step-000003", "epoch-001"])  # which are the same
def test_record_series__damage_is_told_before_an_order_that_cannot_be(atlas, name):
    folder = training(atlas)
    bad = folder / f"{name}.safetensors"
    bad.write_bytes(flip(bad.read_bytes()))
    model = CONFIG.model.model_copy(update={"checkpoints": "trained"})
    config = CONFIG.model_copy(update={"model": model})
    with pytest.raises(UserError, match=f"{name}.safetensors is damaged"):
        record_series(atlas, config, call=RecordCall(), trained=folder)


def test_record_series__damaged_checkpoint_is_named_and_the_rest_recorded(atlas):
    folder = training(atlas)
    bad = folder / "step-000002.safetensors"
    bad.write_bytes(flip(bad.read_bytes()))
    model = CONFIG.model.model_copy(update={"checkpoints": "trained"})
    config = CONFIG.model_copy(update={"model": model})
    found = record_series(atlas, config, call=RecordCall(), trained=folder)
    assert [failed.path.name for failed in found.failed] == [bad.name]
    assert "differs from its sha256" in found.failed[0].reason
    assert len(found.recordings) > 2


@pytest.mark.parametrize("most", [0, 2**30])
def test_train__missing_and_damaged_checkpoints_are_said(atlas, monkeypatch, most):
    monkeypatch.setattr(lost_checkpoints, "READ_BYTES", most)
    assert train_checkpoint(atlas, CONFIG).notices == ()
    names = ("epoch-001", "step-000002", "step-000004")
    lost = [training(atlas) / f"{name}.safetensors" for name in names]
    lost[0].unlink()
    lost[1].write_bytes(cut(lost[1].read_bytes()))
    lost[2].write_bytes(flip(lost[2].read_bytes()))
    lost = lost if most else lost[:2]
    again = train_checkpoint(atlas, CONFIG)
    assert not again.made
    (notice,) = again.notices
    assert f"{len(lost)} of 9 checkpoints" in notice
    assert all(path.name in notice for path in lost)


def test_train__whose_last_checkpoint_is_gone_is_made_anew_with_the_same_bytes(atlas):
    last = training(atlas) / "epoch-002.safetensors"
    content = last.read_bytes()
    last.unlink()
    assert train_checkpoint(atlas, CONFIG).made
    assert last.read_bytes() == content
    assert not faults(atlas)


# --- beside writers -------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 6])
def test_verify__stopped_training_is_unfinished_not_damaged(tmp_path, steps):
    atlas = Atlas(tmp_path / "atlas")
    with pytest.raises(PulledPlugError):
        train_checkpoint(atlas, CONFIG, progress=stop_after(steps))
    found = look(atlas)
    assert (found.faults, found.unknown) == ((), ())
    (unfinished,) = found.unfinished
    assert unfinished.name == key(atlas, training(atlas))
    assert "run the same `activarium train` again" in unfinished.problem
    state = training(atlas) / TRAINING_STATE
    content = state.read_bytes()
    state.write_bytes(flip(content))
    assert list(faults(atlas)) == [key(atlas, state)]
    if steps < 6:  # after the last step nothing is resumed from it
        with pytest.raises(UserError, match="differs from its sha256"):
            train_checkpoint(atlas, CONFIG)
    state.write_bytes(content)
    assert train_checkpoint(atlas, CONFIG).made
    found = look(atlas)
    assert (found.faults, found.unfinished, found.unknown) == ((), (), ())


def killed_at(monkeypatch, count):
    """Stop at the n-th change of the disk, as a kill would: nothing after it happens."""
    left = count

    def hook(name):
        real = getattr(os, name)

        def call(*args, **more):
            nonlocal left
            left -= 1
            if left < 0:
                raise PulledPlugError
            return real(*args, **more)

        monkeypatch.setattr(os, name, call)

    for name in ("replace", "unlink"):
        hook(name)


def test_train__killed_at_any_change_of_the_disk_ends_with_all_checksums(tmp_path):
    changes = itertools.count(2, 2)
    config = CONFIG.model_copy(
        update={"training": TrainingConfig(epochs=1, batch_size=16, limit=16)}
    )
    whole = Atlas(tmp_path / "whole")
    train_checkpoint(whole, config)
    for count in changes:
        atlas = Atlas(tmp_path / f"{count}")
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, count)
            with suppress(PulledPlugError):
                train_checkpoint(atlas, config)
                break
        assert (look(atlas).faults, look(atlas).unknown) == ((), ()), count
        train_checkpoint(atlas, config)
        found = look(atlas)
        assert (found.faults, found.unfinished, found.checked_less) == ((), (), ()), count
        contents = [training(each).glob("*.safetensors") for each in (whole, atlas)]
        first, second = ({path.name: path.read_bytes() for path in each} for each in contents)
        assert first == second, count
    assert count > 8


def test_verify__beside_a_training_and_a_report_gives_no_false_alarm(tmp_path):
    atlas = Atlas(tmp_path / "atlas")

    def write():
        train_checkpoint(atlas, CONFIG)
        for turn in range(30):
            replace_page(atlas.report("run"), f"<html>{turn}</html>")

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while writer.is_alive():
        assert look(atlas).faults == ()
        looks += 1
    writer.join()
    assert looks > 3
    assert (look(atlas).faults, look(atlas).unfinished) == ((), ())


def test_page__without_its_checksum_is_unfinished_and_gets_it(atlas):
    page = atlas.report("run")
    checksum_file(page).unlink()
    (unfinished,) = look(atlas).unfinished
    assert unfinished.name == "reports/run.html"
    assert "its writing was stopped, or its checksum is lost" in unfinished.problem
    assert not replace_page(page, "<html>a page</html>\n").made
    assert (look(atlas).faults, look(atlas).unfinished) == ((), ())
