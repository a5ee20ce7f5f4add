"""Runs the shell blocks of a page of the documents as they are typed, on ports that are free."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import REPOSITORY, free_port, prefect_environment

MOST_SECONDS = 400
"""Until when something must have happened, also on a busy machine."""


class TypedPage:
    """A page whose blocks are typed into shells in one folder.

    Parameters
    ----------
    name
        Of the page.
    folder
        Where the shells begin.
    ports
        Ports that the page names; free ones stand in.
    """

    def __init__(self, name, folder, *ports):
        text = (REPOSITORY / "docs" / name).read_text("utf-8")
        self.ports = {port: str(free_port()) for port in ports}
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        self.blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        self.folder = folder
        here = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as where it is activated
        # Names are cut off at the width of a terminal.
        own = prefect_environment(folder / "home", PATH=here, COLUMNS="200")
        self.environment = {name: own[name] for name in own if not name.startswith("AWS_")}
        self.staying = []
        self.exports = ""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in reversed(self.staying):
            process.terminate()
            process.wait(60)

    def start(self, block):
        """Start what stays in the foreground; the shell becomes its last command."""
        *first, last = block.strip().splitlines()
        settings = re.match(r"(?:[A-Z_]+=\S+ )*", last)[0]
        commands = [self.exports, *first, f"exec env {settings}{last[len(settings) :]}"]
        with (self.folder / f"{len(self.staying)}.log").open("w") as log:
            self.staying.append(
                subprocess.Popen(
                    ["bash", "-ec", "\n".join(commands)],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                )
            )

    def type(self, block):
        """Return what the shell prints; it stops at the first command that fails."""
        done = subprocess.run(
            ["bash", "-ec", f"{self.exports}\n{block}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_SECONDS,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        self.exports += "".join(f"{line}\n" for line in block.splitlines() if line[:7] == "export ")
        return done.stdout


def wait_until(holds):
    for _ in range(MOST_SECONDS):
        if holds():
            return
        time.sleep(1)
    pytest.fail(f"not within {MOST_SECONDS} s")
