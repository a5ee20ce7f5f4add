"""Options of `activarium record`: parts, devices, strictness, repair, and what is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from .conftest import TINY, prefect_environment, program

SETTINGS = {
    "test_set": TINY["test_set"],
    "preprocessing": TINY["preprocessing"],
    "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
    "record": {"batch_size": 16, "threads": 1},
}


@pytest.fixture
def record(tmp_path):
    """Return a function that records 80 digits by the command line."""
    file = tmp_path / "digits.yaml"
    file.write_text(yaml.safe_dump(SETTINGS))

    def call(*options, prefect=False):
        command = [program("activarium"), "record", file, "--root", tmp_path / "atlas", *options]
        return subprocess.run(
            [*command, *([] if prefect else ["--no-prefect"])],
            env=prefect_environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


def test_record__parts_are_told_and_notices_are_in_the_json(record):
    first = record("--part", "1/2")
    assert first.returncode == 0, first.stderr
    assert "recorded part 1/2 of two-block-cnn" in first.stdout
    assert "1 shard is left for other parts" in first.stdout
    assert first.stderr.splitlines()[-1].startswith("note: layers are captured by ")
    second = record("--part", "2/2", "--json")
    answer = json.loads(second.stdout)
    assert (answer["shards_left"], answer["notices"]) == (0, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "3/2"], "record: part: expected i/n with i from 1 to n, such as 2/8"),
        (["--part", "half"], "part"),
        (["--devices", "cuda:99"], "record.devices: 'cuda:99' is not there"),
        (["--devices", "cpu:none"], "record.devices.0: expected cpu:<processes>"),
        (["--dask", "tcp://127.0.0.1:1", "--part", "1/2"], "leave out --part and --devices"),
        (["--set", "record.batch_size=fast"], "record.batch_size"),
    ],
)
def test_record__options_that_cannot_be_are_one_line(record, options, message):
    done = record(*options)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_record__devices_record_as_prefect_flow_and_repair_mends(record, tmp_path):
    done = record("--devices", "cpu:2", "--json", prefect=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.endswith(" ...")] == [
        f"note: {line}" for line in json.loads(done.stdout)["notices"]
    ]
    chunk = next(Path(json.loads(done.stdout)["path"]).glob("logits/c/1/0"))
    content = chunk.read_bytes()
    chunk.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    repaired = record("--repair", "--json")
    assert json.loads(repaired.stdout)["notices"] == ["repaired shard 1"]
    assert chunk.read_bytes() == content


def test_record__draws_are_listed_as_such_and_refused_as_one_network(activarium, tmp_path):
    file = tmp_path / "digits.yaml"
    file.write_text(yaml.safe_dump(SETTINGS | {"untrained": {"images": 25}}))
    place = ("--root", tmp_path / "atlas", "--no-prefect")
    code, answer, _ = activarium("record", file, "--draws", "3", "--json", *place)
    assert code == 0
    name = json.loads(answer)["recording"]
    assert "-untrained-3-draws-" in name
    code, answer, said = activarium("record", file, "--draws", "3", "--repair", *place)
    assert "nothing is damaged" in said
    assert f"--control {name}" in answer
    (row,) = json.loads(activarium("list", "--json", *place[:2])[1])
    assert (row["draws"], row["images"], row["status"]) == (3, 25, "complete")
    assert activarium("verify", *place[:2])[0] == 0
    for command in ("analyse", "embed", "compare", "report"):
        code, _, said = activarium(command, name, *place)
        assert code == 2, command
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "holds 3 untrained networks over a sample of images" in line
    code, _, said = activarium("query", "--recording", name, "SELECT 1", *place[:2])
    assert code == 2
    assert said.startswith("error: ")


def test_record__draws_beside_a_series_are_one_line(activarium, tmp_path):
    file = tmp_path / "digits.yaml"
    file.write_text(yaml.safe_dump(SETTINGS))
    code, _, said = activarium(
        "record", file, "--draws", "3", "--checkpoints", "x", "--root", tmp_path, "--no-prefect"
    )
    assert code == 2
    assert "--draws records untrained networks" in said
