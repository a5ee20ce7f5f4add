"""`record` and `run` over a series of checkpoints, by the command line."""

from __future__ import annotations

import json
import shutil
import subprocess

import pandas as pd
import pytest
import yaml

from activarium.flows.configuration import load_run_config
from activarium.flows.pipeline import obtain_series
from activarium.flows.stages import PlainStages
from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.tables import LAYER_CHANGES

from .conftest import TINY, call, program

SETTINGS = {
    "test_set": {"source": "digits", "limit": 40},
    "preprocessing": {"size": 12},
    "model": {"architecture": "two-block-cnn", "width": 4, "name": "net"},
    "training": {"limit": 96, "epochs": 1, "batch_size": 32, "checkpoint_steps": 2},
    "record": {"batch_size": 16, "threads": 1, "layers": ["conv2", "fc3"], "density": True},
    "analyse": {"permutations": 0, "scheduler": "synchronous", "class_exemplars": 0},
    "embed": TINY["embed"],
    "controls": ["untrained"],
}


def write(folder, settings=SETTINGS):
    (folder / "net.yaml").write_text(yaml.safe_dump(settings))
    return folder / "net.yaml"


@pytest.fixture
def activarium(monkeypatch, capsys):
    """Return a function that runs a command on a folder's net.yaml, without Prefect."""

    def run(folder, command, *options, settings=SETTINGS):
        monkeypatch.chdir(folder)
        where = (write(folder, settings), "--root", folder / "atlas", "--no-prefect")
        return call(monkeypatch, capsys, command, *where, *options)

    return run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with a training and the recordings of its series."""
    folder = tmp_path_factory.mktemp("series")
    root, config = folder / "atlas", load_run_config(write(folder), cwd=folder)
    model = config.model.model_copy(update={"checkpoints": "trained", "series": "slow"})
    receipt = obtain_series(config.model_copy(update={"model": model}), root, PlainStages())
    return folder, receipt


def test_record__series_as_json(recorded, activarium):
    folder, receipt = recorded
    code, out, _ = activarium(
        folder, "record", "--checkpoints", "trained", "--series", "slow", "--json"
    )
    assert code == 0
    answer = json.loads(out)
    assert [each["step"] for each in answer["checkpoints"]] == [0, 2, 3]
    assert {each["series"] for each in answer["checkpoints"]} == {"slow"}
    names = [each["recording"] for each in answer["recordings"]]
    assert names == [each.recording for each in receipt.recordings]
    assert [name[:-13] for name in names] == [
        f"net-slow-step-{step:06d}-digits-test" for step in (0, 2, 3)
    ]
    assert not any(each["made"] for each in answer["recordings"])
    assert answer["failed"] == []


def test_record__failed_checkpoint_is_one_line_and_exit_code_2_and_the_rest_goes_on(
    recorded, tmp_path, activarium
):
    _, receipt = recorded
    (tmp_path / "some").mkdir()
    for each in receipt.checkpoints:
        shutil.copy(each.path, tmp_path / "some")
    (tmp_path / "some" / "step-000002.safetensors").write_bytes(b"no weights")
    settings = {**SETTINGS, "training": None}
    code, out, err = activarium(tmp_path, "record", "--checkpoints", "some", settings=settings)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "1 of 3 checkpoints could not be recorded: step 2 (step-000002.safetensors): " in line
    assert out.splitlines()[0] == "recorded 2 checkpoints of some"
    assert [row.split("-digits")[0] for row in out.splitlines()[1:-1]] == [
        "  net-some-step-000000",
        "  net-some-step-000003",
    ]
    glob = "some/step-*3.*"
    code, out, _ = activarium(tmp_path, "record", "--checkpoints", glob, settings=settings)
    assert code == 0
    assert "nothing made anew" in out


def test_compare_series__of_recordings_that_are_not_analysed_analyses_them(recorded):
    folder, receipt = recorded
    atlas = Atlas(folder / "atlas")
    config = CompareConfig(measures=("cka",), scheduler="synchronous")
    found = PlainStages.compare_series(["slow"], config, atlas.root)
    assert found.made
    rows = pd.concat(
        pd.read_parquet(atlas.table_file(LAYER_CHANGES, each.recording), partitioning=None)
        for each in receipt.recordings
    )
    assert sorted(rows["step"].unique()) == [0, 2, 3]
    assert rows.loc[rows["step"] == 3, "cka_to_last"].tolist() == [1, 1]
    assert "slow" in found.report.path.read_text("utf-8")
    assert not PlainStages.compare_series(["slow"], config, atlas.root).made


@pytest.mark.slow
def test_run__analyses_every_checkpoint_and_shows_the_last(tmp_path, activarium):
    settings = {**SETTINGS, "model": {**SETTINGS["model"], "checkpoints": "trained"}}
    command = [program("activarium"), "run", write(tmp_path, settings), "--json", "--no-prefect"]
    done = subprocess.run(
        [*command, "--root", tmp_path / "atlas"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    names = [each["recording"] for each in answer["series"]["recordings"]]
    assert answer["recording"] == names[-1]
    for name in names:
        for table in ("layers", "densities", "recordings"):
            assert list((tmp_path / "atlas" / "tables" / table / f"recording={name}").iterdir())
    assert {
        path.name.removeprefix("recording=")
        for path in (tmp_path / "atlas" / "tables" / "embeddings").iterdir()
    } == {names[-1]}
    code, out, _ = activarium(tmp_path, "run", "--json", settings=settings)
    assert (code, json.loads(out)["made"]) == (0, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoints", "nowhere"], "no file of weights with a step in"),
        (["--series", "a"], "series names a series of checkpoints"),
        (
            ["--set", "model.weights=untrained", "--checkpoints", "trained"],
            "needs weights: trained",
        ),
        (["--set", "model.checkpoint=x", "--checkpoints", "."], "leave it out with checkpoints"),
    ],
)
def test_record__series_that_cannot_be_is_one_line(tmp_path, activarium, options, message):
    code, _, err = activarium(tmp_path, "record", *options)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line
