"""A real server, real flow runs, and a cron deployment that gets its scheduled runs."""

from __future__ import annotations

import json
import subprocess
import time
from urllib.request import Request, urlopen

import pytest

from .conftest import REPOSITORY, free_port, prefect_environment, program

pytestmark = pytest.mark.slow


def ask(environment, path, **body):
    request = Request(  # noqa: S310 - our own server
        f"{environment['PREFECT_API_URL']}/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def activarium(*arguments, environment, cwd):
    return subprocess.run(
        [program("activarium"), *map(str, arguments)],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_run__with_a_server_the_parent_and_its_stages_are_flow_runs(
    prefect_server, tiny_file, tmp_path
):
    before = {run["id"] for run in ask(prefect_server, "flow_runs/filter")}
    done = activarium(
        "run", tiny_file, "--root", tmp_path / "atlas", environment=prefect_server, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    runs = ask(prefect_server, "flow_runs/filter", sort="START_TIME_ASC")
    runs = [run for run in runs if run["id"] not in before]
    assert {run["state"]["name"] for run in runs} == {"Completed"}
    names = [run["name"] for run in runs]
    assert names[:3] == ["run tiny", "train tiny", "record tiny"]
    children = [run for run in runs if run["parent_task_run_id"]]
    assert len(children) == len(runs) - 1 >= 6
    stored = (tmp_path / "atlas" / "recordings").glob("*.zarr")
    recordings = sorted(each.stem for each in stored if "-draws-" not in each.stem)
    done = activarium(
        "compare", *recordings, "--measure", "cka", "--root", "atlas",
        environment=prefect_server, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"compared {', '.join(recordings)}: ")
    names = [run["name"] for run in ask(prefect_server, "flow_runs/filter")]
    assert len(names) == len(before) + len(runs) + 1


def test_run__without_a_server_is_quiet_and_exits_0(tiny_file, tmp_path):
    environment = prefect_environment(tmp_path / "home")
    done = activarium("run", tiny_file, "--root", "atlas", environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.endswith(" ...") and "note: " not in line] == []
    notes = [line for line in lines if line.startswith("note: ")]
    assert [note.split()[1] for note in notes] == ["layers", "1"], notes  # captured by; one image
    again = activarium(
        "run", tiny_file, "--root", "atlas", "--json", environment=environment, cwd=tmp_path
    )
    assert json.loads(again.stdout)["made"] is False


def test_run__unreachable_server_is_one_line_and_exit_code_2(tiny_file, tmp_path):
    environment = prefect_environment(
        tmp_path / "home",
        PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api",
        PREFECT_CLIENT_MAX_RETRIES="0",
    )
    done = activarium("run", tiny_file, environment=environment, cwd=tmp_path)
    assert done.returncode == 2
    start, error = done.stderr.splitlines()
    assert start == "starting Prefect ..."
    assert "does not answer" in error


def test_deploy__cron_deployments_get_scheduled_runs(prefect_server):
    def prefect(*arguments):
        return subprocess.run(
            [program("prefect"), *arguments],
            env=prefect_server,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

    prefect("work-pool", "create", "local", "--type", "process")
    deployed = prefect("--no-prompt", "deploy", "--all")
    assert "Skipping" not in deployed.stdout
    for _ in range(120):
        states = {"state": {"type": {"any_": ["SCHEDULED"]}}}
        runs = ask(prefect_server, "flow_runs/filter", flow_runs=states)
        names = {run["parameters"]["config"]["name"] for run in runs}
        if names:
            break
        time.sleep(1)
    # What cannot run as it stands is deployed, but its schedule is off.
    assert names == {"digits-nightly"}
    deployed = {each["name"]: each for each in ask(prefect_server, "deployments/filter")}
    active = {name: [each["active"] for each in one["schedules"]] for name, one in deployed.items()}
    assert active == {"digits-nightly": [True], "watch-checkpoints": [False]}
    assert not any(each["global_concurrency_limit"] for each in deployed.values())
    assert all(run["auto_scheduled"] and run["deployment_id"] for run in runs)
    assert runs[0]["parameters"]["config"]["test_set"] == {"source": "digits"}
