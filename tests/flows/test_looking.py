"""What is there is found without Prefect, and a look changes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from activarium.flows.looking import found_current
from activarium.flows.pipeline import run_stages
from activarium.flows.stages import PlainStages
from activarium.schemas.config import RecordCall, RunConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images.kept_sets import forget_test_sets, keeping_test_sets, kept_test_set

from .conftest import TINY, prefect_environment, program

CONFIG = RunConfig.model_validate({**TINY, "controls": ["shuffle"]})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("looking") / "atlas"
    run_stages(CONFIG, root, PlainStages())
    return root


def look(root, config=CONFIG, call=None):
    return found_current(
        lambda stages: run_stages(config, root, stages, None, *([call] if call else []))
    )


def state(root):
    """Everything in a folder but the locks, which say nothing."""
    return {
        path.relative_to(root): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_found_current__finished_run_is_found_as_it_is(finished):
    before = state(finished)
    receipt = look(finished)
    assert receipt is not None
    assert not receipt.made
    assert receipt == run_stages(CONFIG, finished, PlainStages()).model_copy(
        update={"recordings": receipt.recordings, "tables": receipt.tables}
    )
    # Also for who records on several processes: nothing is started.
    devices = CONFIG.record.model_copy(update={"devices": ("cpu:2",)})
    assert not look(finished, CONFIG.model_copy(update={"record": devices})).made
    assert state(finished) == before


@pytest.mark.parametrize(
    "lost",
    [
        "models/*/epoch-001.safetensors",
        "recordings/*/receipts/shard-00001.json",
        "recordings/*/receipts/final.json",
        "recordings/*/channel_mean/c/0/0",
        "tables/units/*/*.parquet",
        "tables/embeddings/*/*.parquet",
        "maps/*/*",
        "reports/tiny.html",
    ],
)
def test_found_current__what_is_lost_is_seen_and_left_as_it_is(finished, tmp_path, lost):
    root = tmp_path / "atlas"
    shutil.copytree(finished, root)
    found = sorted(path for path in root.glob(lost) if path.is_file())
    assert found
    found[0].unlink()
    before = state(root)
    assert look(root) is None
    assert state(root) == before


def test_found_current__nothing_is_begun_in_an_empty_atlas(tmp_path):
    assert look(tmp_path) is None
    assert state(tmp_path) == {}


def test_found_current__a_cluster_or_a_repair_is_work(finished):
    assert look(finished, call=RecordCall(dask="tcp://127.0.0.1:1")) is None
    assert look(finished, call=RecordCall(repair=True)) is None


def test_found_current__settings_that_cannot_be_are_told_at_once(tmp_path):
    images = {"source": "imagefolder", "path": "/no/such/set"}
    with pytest.raises(UserError, match="/no/such/set"):
        look(tmp_path, RunConfig.model_validate({**TINY, "test_set": images}))


def test_found_current__a_fault_is_left_to_the_run_which_tries_twice():
    def fail(stages):
        raise OSError(5, "input/output error")

    assert found_current(fail) is None


@pytest.mark.parametrize("command", ["run", "record", "train"])
def test_commands__with_nothing_to_do_do_not_import_prefect(finished, tmp_path, command):
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG.model_dump_json())
    code = (
        "import sys, runpy\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'prefect', 'distributed', 'umap'}:\n"
        "            raise RuntimeError(f'{name} is imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"sys.argv = ['activarium', '{command}', {str(file)!r}, '--root', {str(finished)!r}]\n"
        "from activarium.flows.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=prefect_environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing" in done.stdout
    assert not (finished / ".prefect").exists()


def test_commands__wrong_folder_is_told_before_prefect_is_started(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG.model_dump_json())
    for setting in ("model.checkpoints=/no/such/folder", "model.weights=/no/such/file.pt"):
        done = subprocess.run(
            [program("activarium"), "record", file, "--set", setting],
            env=prefect_environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "/no/such/" in line


def test_kept_test_set__is_loaded_once_in_a_command_and_anew_after_it(tmp_path):
    def load():
        return kept_test_set(CONFIG.test_set, datasets=tmp_path)

    assert load() is not load()
    with keeping_test_sets():
        first = load()
        assert load() is first
        other = CONFIG.test_set.model_copy(update={"limit": 70})
        assert len(kept_test_set(other, datasets=tmp_path)) == 70
        forget_test_sets()
        assert load() is not first
    assert load() is not load()
