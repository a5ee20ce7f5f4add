from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from activarium.flows.cli import main

from .conftest import program


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """An atlas with one finished tiny run."""
    import yaml

    from .conftest import TINY

    folder = tmp_path_factory.mktemp("cli")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    done = subprocess.run(
        [program("activarium"), "run", file, "--root", folder / "atlas", "--no-prefect"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "try" in done.stdout
    return folder / "atlas"


def call(monkeypatch, capsys, *arguments):
    """Run a command in this process; return exit code, output and errors."""
    from activarium.flows import output

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


COMMANDS = [
    "demo", "run", "train", "record", "analyse", "embed", "report", "list", "verify", "query",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help__every_command_shows_an_example(activarium, command):
    code, out, _ = activarium(command, "--help")
    assert code == 0
    assert f"activarium {command}" in out.split("Example:")[1]


def test_run__second_run_makes_nothing_and_says_so(activarium, atlas):
    before = {path: path.stat().st_mtime_ns for path in atlas.rglob("*") if path.is_file()}
    code, out, _ = activarium("run", atlas.parent / "tiny.yaml", "--root", atlas, "--no-prefect")
    assert code == 0
    assert "nothing was made anew" in out
    after = {path: path.stat().st_mtime_ns for path in atlas.rglob("*") if path.is_file()}
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert all(name.endswith(".lock") for name in changed)


def test_list__json_names_recordings_with_their_tables(activarium, atlas):
    code, out, _ = activarium("list", "--root", atlas, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["status"] for row in rows] == ["complete", "complete"]
    assert {"units", "unit_classes", "layers"} <= set(rows[0]["tables"])
    assert [row["checkpoint"] for row in rows] == ["epoch-001", "untrained"]


def test_list__root_from_the_environment(activarium, atlas, monkeypatch):
    monkeypatch.setenv("ACTIVARIUM_ROOT", str(atlas))
    code, out, _ = activarium("list")
    assert code == 0
    assert "epoch-001" in out


def test_query__rows_as_json_and_as_a_table(activarium, atlas):
    sql = "SELECT layer, count(*) AS n FROM units GROUP BY ALL ORDER BY min(depth)"
    code, out, _ = activarium("query", sql, "--root", atlas, "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["layer"] for row in rows] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert rows[0]["n"] == 2 * 4
    _, out, _ = activarium("query", sql, "--root", atlas)
    assert out.splitlines()[0].split() == ["layer", "n"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "SELECT nothing FROM units"], "nothing"),
        (["query", "SELECT * FROM similarities"], "tables in"),
        (["analyse", "no-such", "--no-prefect"], "no recording begins with 'no-such'"),
        (["embed", "two-block", "--no-prefect"], "2 recordings begin with 'two-block'"),
        (["embed", "two-block-cnn-w4-epoch", "--layer", "x*", "--no-prefect"], "embed.layers"),
        (["embed", "two-block-cnn-w4-epoch", "--method", "mds", "--no-prefect"], "methods"),
        (["verify", "no-such"], "no recording begins"),
        (["run", "none.yaml", "--no-prefect"], "cannot read the configuration"),
    ],
)
def test_errors__are_one_line_with_exit_code_2(activarium, atlas, arguments, message):
    code, out, err = activarium(*arguments, "--root", atlas)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("error:")
    assert err.count("\n") == 1


def test_verify__sound_atlas_is_0_and_a_flipped_byte_is_1(activarium, atlas, tmp_path):
    import shutil

    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    assert activarium("verify", "--root", copy)[0] == 0
    chunk = next(copy.glob("recordings/*epoch*/channel_mean/c/1/0"))
    content = bytearray(chunk.read_bytes())
    content[17] ^= 4
    chunk.write_bytes(content)
    code, out, _ = activarium("verify", "--root", copy, "--json")
    assert code == 1
    faults = json.loads(out)["faults"]
    assert [fault["object"] for fault in faults] == ["channel_mean/c/1/0"]


def test_analyse__other_settings_make_the_tables_anew(activarium, atlas):
    name = "two-block-cnn-w4-untrained"
    code, out, _ = activarium("analyse", name, "--fdr", "0.2", "--root", atlas, "--no-prefect")
    assert code == 0
    assert "analysed" in out
    assert "nothing made anew" not in out
    _, out, _ = activarium(
        "query", "SELECT DISTINCT fdr FROM layers ORDER BY 1", "--root", atlas, "--json"
    )
    assert {row["fdr"] for row in json.loads(out)} == {0.01, 0.2}


def test_report__names_its_page(activarium, atlas):
    code, out, _ = activarium(
        "report", "two-block-cnn-w4-epoch", "--name", "Mine", "--root", atlas, "--no-prefect"
    )
    assert code == 0
    assert (atlas / "reports" / "mine.html").is_file()
    assert "mine.html" in out


def test_module__importing_the_command_line_loads_neither_torch_nor_prefect():
    code = "import sys, activarium.flows.cli; print({'torch', 'prefect'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "set()"
    assert Path(program("activarium")).is_file()
