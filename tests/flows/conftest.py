from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml

from activarium.flows import output
from activarium.flows.cli import main

REPOSITORY = Path(__file__).parents[2]

TINY = {
    "name": "tiny",
    "test_set": {"source": "digits", "limit": 80},
    "preprocessing": {"size": 16},
    "model": {"architecture": "two-block-cnn", "width": 4},
    "training": {"epochs": 1, "batch_size": 64},
    "record": {"shard_images": 30, "batch_size": 16},
    "untrained": {"draws": 3, "images": 40},
    "analyse": {"exemplars": 2, "class_exemplars": 1},
    "embed": {"methods": ["pca"], "layers": ["conv2"]},
}
"""A run of seconds: 80 digits, a narrow network, one epoch, PCA only."""


@pytest.fixture
def tiny_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def call(monkeypatch, capsys, *arguments):
    """Run a command in this process; return exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["activarium", *map(str, arguments)])
    monkeypatch.setattr(output.out, "file", sys.stdout)
    monkeypatch.setattr(output.err, "file", sys.stderr)
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err


@pytest.fixture
def activarium(monkeypatch, capsys):
    return lambda *arguments: call(monkeypatch, capsys, *arguments)


def prefect_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process whose Prefect knows only this test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    settings = {
        "PREFECT_HOME": str(home),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    return {**kept, **settings, **more}


def program(name: str) -> str:
    """A program of the environment that runs the tests."""
    return str(Path(sys.executable).parent / name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_healthy(api: str) -> bool:
    try:
        with urlopen(f"{api}/health", timeout=2) as answer:  # noqa: S310 - our own server
            return answer.status == 200
    except (URLError, OSError):
        return False


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """A real Prefect server; gives the environment of a client."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = prefect_environment(home)
    command = [program("prefect"), "server", "start", "--port", str(port)]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(180):
            if is_healthy(api):
                break
            time.sleep(0.5)
        else:
            pytest.fail("the Prefect server did not start within 90 s")
        yield prefect_environment(home, PREFECT_API_URL=api)
    finally:
        server.terminate()
        server.wait(30)
