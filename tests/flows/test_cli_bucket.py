"""The commands with recordings in a bucket, tables in the atlas folder."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from activarium.tasks.stores.places import place_at

from .conftest import program


@pytest.fixture
def activarium(s3_address, tmp_path, monkeypatch):
    """Return a function that runs a command in a process of its own."""
    monkeypatch.setenv("ACTIVARIUM_RECORDINGS", s3_address)
    monkeypatch.setenv("ACTIVARIUM_ROOT", str(tmp_path / "atlas"))

    def call(*arguments, environment=None):
        done = subprocess.run(
            [program("activarium"), *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "testing-secret" not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    return call


def one_line(error):
    """Return the error as the one line that it must be."""
    (line,) = error.strip().splitlines()
    return line


@pytest.mark.slow
def test_bucket__whole_run_then_damage_is_named_repaired_and_gone(
    activarium, s3_address, tiny_file, tmp_path, prefect_server
):
    code, out, err = activarium("run", tiny_file, "--no-prefect")
    assert code == 0, err
    assert f"recordings  {s3_address}" in out
    assert not (tmp_path / "atlas" / "recordings").exists()
    rows = json.loads(activarium("list", "--json")[1])
    assert [row["status"] for row in rows] == ["complete"] * 3
    assert activarium("verify")[0] == 0

    place = place_at(f"{s3_address}/{rows[0]['recording']}.zarr")
    key = "channel_mean/c/1/0"
    before = {key: place.read(key) for key in place.sizes()}
    damaged = bytearray(before[key])
    damaged[17] ^= 4
    place.write(key, bytes(damaged))
    code, out, _ = activarium("verify")
    assert code == 1
    last = len(damaged) - 1
    expected = f"{rows[0]['recording']} shard 1, {key}, bytes 0-{last}: the content differs"
    assert out.splitlines()[0].startswith(expected)
    code, _, err = activarium("record", tiny_file, "--repair", "--no-prefect")
    assert code == 0, err
    after = {key: place.read(key) for key in place.sizes()}
    own = "receipts/shard-00001.json"  # holds durations
    assert before.keys() == after.keys()
    assert [key for key in before if before[key] != after[key]] in ([], [own])
    assert activarium("verify")[0] == 0

    # The same through Prefect flows, which get the address as a parameter.
    environment = {**prefect_server, **os.environ}
    code, out, err = activarium("run", tiny_file, environment=environment)
    assert code == 0, err
    assert "nothing was made anew" in out
    for file in (tmp_path / "atlas").rglob("*"):
        assert not file.is_file() or b"testing-secret" not in file.read_bytes()


@pytest.mark.parametrize("command", ["list", "verify"])
def test_bucket__missing_bucket_is_one_line(activarium, command):
    code, _, err = activarium(command, "--recordings", "s3://no-such-bucket/a")
    assert code == 2
    assert "s3://no-such-bucket/a: there is no bucket 'no-such-bucket'" in one_line(err)


def test_bucket__wrong_credentials_are_one_line_even_when_all_is_shown(
    activarium, strict_s3_server, tiny_file, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", strict_s3_server.endpoint)
    arguments = ["record", tiny_file, "--no-prefect", "--recordings", "s3://bucket/a"]
    code, _, err = activarium(*arguments)
    assert code == 2
    assert "s3://bucket/a: access was refused (InvalidAccessKeyId)" in one_line(err)
    code, _, err = activarium(*arguments, "--verbose")
    assert code == 2
    assert "testing-key" not in err


def test_bucket__missing_recording_is_told_from_a_missing_bucket(activarium, s3_address):
    code, _, err = activarium("analyse", "some", "--no-prefect")
    assert code == 2
    assert f"no recording begins with 'some' in {s3_address}" in one_line(err)
    code, out, _ = activarium("list")
    assert code == 0
    assert f"no recordings in {s3_address}" in out
