"""docs/schedules.md as it is typed: from nothing to a run that a schedule started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import REPOSITORY, free_port, is_healthy, prefect_environment

PAGE = (REPOSITORY / "docs" / "schedules.md").read_text("utf-8")
PORT = "4200"
DUE_SECONDS = 400
"""Until when the run must have landed: it is due within a minute, and takes one on a busy machine."""


def blocks():
    return re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def typed(commands, **shell):
    """Return what a shell prints that stops at the first command that fails."""
    done = subprocess.run(
        ["bash", "-ec", commands], capture_output=True, check=False, timeout=300, **shell
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


def start(commands, log, **shell):
    """Start what stays in the foreground; the shell becomes its last command."""
    *first, last = commands.strip().splitlines()
    with log.open("w") as output:
        return subprocess.Popen(
            ["bash", "-ec", "\n".join([*first, f"exec {last}"])],
            stdout=output,
            stderr=output,
            **shell,
        )


def wait_until(holds):
    for _ in range(DUE_SECONDS):
        if holds():
            return
        time.sleep(1)
    pytest.fail(f"not within {DUE_SECONDS} s")


@pytest.mark.slow
def test_schedules_page__every_block_as_typed_ends_in_a_run_that_cron_started(tmp_path):
    port = str(free_port())
    server, deployment, worker, look = (each.replace(PORT, port) for each in blocks())
    here = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as where it is activated
    # Names of flow runs are cut off at the width of a terminal.
    environment = prefect_environment(tmp_path / "home", PATH=here, COLUMNS="200")
    shell = {"cwd": tmp_path, "env": environment, "text": True}
    staying = []
    try:
        staying.append(start(server, tmp_path / "server.log", **shell))
        wait_until(lambda: is_healthy(f"http://127.0.0.1:{port}/api"))
        typed(deployment, **shell)
        staying.append(start(worker, tmp_path / "worker.log", **shell))
        page = tmp_path / "nightly" / "atlas" / "reports" / "digits.html"
        wait_until(page.exists)
        again = f"export PREFECT_API_URL=http://127.0.0.1:{port}/api; cd nightly\n{look}"
        wait_until(lambda: "run digits" in typed(again, **shell))
        assert "complete" in typed(again, **shell)
    finally:
        for process in reversed(staying):
            process.terminate()
            process.wait(60)
