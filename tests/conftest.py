"""What tests of several folders need."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from hypothesis import settings

# The same examples each time: a change is judged by what it does, not by what is drawn. Others are
# looked for with HYPOTHESIS_PROFILE=default.
settings.register_profile("fixed", derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing-key", "AWS_SECRET_ACCESS_KEY": "testing-secret"}


class S3Server:
    """A local server that speaks S3."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1"]
        with (folder / "moto.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-p", str(self.port)], stdout=log, stderr=log
            )
        for _ in range(300):
            try:
                self.request("GET", "moto-api/")
            except (URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise AssertionError((folder / "moto.log").read_text())

    def request(self, method, path, data=None):
        headers = {"Content-Type": "text/plain"}
        request = Request(f"{self.endpoint}/{path}", data, headers, method=method)  # noqa: S310
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
            return answer.read()

    def close(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A moto server; it takes any credentials."""
    server = S3Server(tmp_path_factory.mktemp("moto"))
    yield server
    server.close()


@pytest.fixture
def s3_address(s3_server, monkeypatch, request, tmp_path):
    """The address of recordings in a new bucket, which the environment gives access to."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "ACTIVARIUM_S3_PATIENCE": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{abs(hash(request.node.nodeid)):x}"
    s3_server.request("PUT", bucket)
    return f"s3://{bucket}/some/atlas"


@pytest.fixture(scope="session")
def strict_s3_server(tmp_path_factory):
    """A server with the bucket `bucket`, which knows nobody and refuses whom it does not know."""
    server = S3Server(tmp_path_factory.mktemp("strict-moto"))
    server.request("PUT", "bucket")
    server.request("POST", "moto-api/reset-auth", b"0")
    yield server
    server.close()
