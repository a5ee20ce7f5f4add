"""A folder of checkpoints is watched: each is recorded and compared, a broken one is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RunConfig
from activarium.tasks.recording.checkpoints import train_checkpoint

from .conftest import TINY, prefect_environment, program

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of a short training, and one that was cut off."""
    training = {"epochs": 1, "batch_size": 64, "limit": 192, "checkpoint_steps": 1}
    run = RunConfig.model_validate({**TINY, "training": training})
    last = train_checkpoint(Atlas(tmp_path / "elsewhere"), run).path
    made = tmp_path / "steps"
    made.mkdir()
    for step in (0, 1, 3):
        shutil.copy(last.with_name(f"step-{step:06d}.safetensors"), made)
    whole = (made / "step-000001.safetensors").read_bytes()
    (made / "step-000002.safetensors").write_bytes(whole[: len(whole) // 2])
    return made


def test_watch__once_records_compares_and_names_what_failed(folder, tmp_path):
    config = tmp_path / "watched.yaml"
    analyse = {"exemplars": 1, "class_exemplars": 0, "permutations": 0}
    config.write_text(yaml.safe_dump({**TINY, "analyse": analyse, "controls": []}))
    root = tmp_path / "atlas"
    command = [program("activarium"), "watch", str(folder), "--config", str(config), "--once"]
    done = subprocess.run(
        [*command, "--every", "0.2", "--root", str(root), "--no-prefect"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "3 checkpoints, the last of step 3" in done.stdout
    said = " ".join(done.stderr.split())
    assert "error: 1 of 4 checkpoints could not be recorded: step 2" in said
    rows = pd.read_parquet(root / "tables" / "layer_changes")
    assert sorted(rows["step"].unique()) == [0, 1, 3]
    assert (rows.loc[rows["step"] == 3, "cka_to_last"].dropna() == 1).all()
    assert rows.loc[rows["step"] == 0, "class_kept"].notna().any()
    assert "steps" in (root / "reports" / "tiny-training.html").read_text("utf-8")


FLOW = """
import json, sys
from pathlib import Path
from activarium.flows.watch_checkpoints import watch_checkpoints
from activarium.schemas.config import RunConfig

found = watch_checkpoints(RunConfig.model_validate(json.loads(sys.argv[1])), Path(sys.argv[2]))
print(None if found is None else [each.step for each in found.series.checkpoints])
"""


def test_watch_flow__takes_what_is_there_and_waits_for_what_is_not(
    folder, tmp_path, prefect_server
):
    (folder / "step-000002.safetensors").unlink()
    config = {**TINY, "analyse": {"class_exemplars": 0, "permutations": 0}, "controls": []}

    def watched(checkpoints):
        model = {**TINY["model"], "checkpoints": str(checkpoints)}
        given = [json.dumps({**config, "model": model}), str(tmp_path / "atlas")]
        return subprocess.run(
            [sys.executable, "-c", FLOW, *given],
            env=prefect_server,
            capture_output=True,
            text=True,
            check=False,
        )

    (tmp_path / "not-yet").mkdir()
    assert watched(tmp_path / "not-yet").stdout.strip() == "None"
    done = watched(folder)
    assert done.stdout.strip() == "[0, 1, 3]", done.stderr
    rows = pd.read_parquet(tmp_path / "atlas" / "tables" / "layer_changes")
    assert sorted(rows["step"].unique()) == [0, 1, 3]


ALONE = """
import json, sys
from pathlib import Path
from prefect.logging import disable_run_logger
from activarium.flows.watch_checkpoints import watch_checkpoints
from activarium.schemas.atlas import Atlas, slug
from activarium.schemas.config import RunConfig
from activarium.schemas.errors import UserError
from activarium.tasks.stores.locking import only_process

settings, root, folder = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def passed(checkpoints):
    settings["model"]["checkpoints"] = checkpoints
    with disable_run_logger():
        return watch_checkpoints.fn(RunConfig.model_validate(settings), root)

with only_process(Atlas(root).lock(f"watch-{slug(folder)[-100:]}"), "watching"):
    print(passed(folder))
try:
    passed("no/such/folder")
except UserError as error:
    print(error)
"""


def test_watch_flow__ends_at_once_where_another_is_at_it_and_names_a_wrong_folder(folder, tmp_path):
    given = [json.dumps(TINY), str(tmp_path / "atlas"), str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *given],
        env=prefect_environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    first, second = done.stdout.splitlines()
    assert first == "None", done.stderr
    assert "expected a folder of checkpoints, or a glob, got no/such/folder in" in second
    assert not (tmp_path / "atlas" / "recordings").exists()
