"""Bad input of any kind is one line and exit code 2, before any work."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys

import pytest
import yaml

from activarium.flows import cli
from activarium.flows.cli import main
from activarium.flows.output import SafeConsole, print_rows
from activarium.flows.progress_bars import current_progress, progress_bars
from activarium.flows.system_errors import explain_error
from activarium.schemas.errors import UserError, shown

from .conftest import TINY

HIDDEN = "a\x1b[2Jb\u202ec\x9bd\u200be\u2028f\rg\x07h\u3164"
"""Of each kind that steers a terminal, misleads, or shows nothing."""


@pytest.fixture
def activarium(monkeypatch, capsys, tmp_path):
    """Run a command in this process; return exit code, output and the lines of errors."""
    from activarium.flows import output

    monkeypatch.chdir(tmp_path)
    untrained = {**TINY, "model": {**TINY["model"], "weights": "untrained"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(untrained))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["activarium", *arguments])
        monkeypatch.setattr(output.out, "file", sys.stdout)
        monkeypatch.setattr(output.err, "file", sys.stderr)
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err.splitlines()

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["record", "run.yaml", "--devices", "cpu:9999"], "record.devices: 9,999 processes, and"),
        (["record", "run.yaml", "--devices", ""], "record.devices.0: expected cpu:<processes>"),
        (["record", "run.yaml", "--set", "record.device=mps"], "'mps' is not there"),
        (["record", "run.yaml", "--set", "record.device=cuda:99"], "'cuda:99' is not there"),
        (["record", "run.yaml", "--set", "record.threads=100000"], "expected at most 1,024"),
        (["record", "run.yaml", "--set", "model.width=1000000000"], "expected at most 4,096"),
        (["record", "run.yaml", "--set", "model.name=.x"], "does not begin with a dot"),
        (
            ["record", "run.yaml", "--set", "test_set.path=~nobody-here/x"],
            "a user who is not known",
        ),
        (
            ["record", "run.yaml", "--series", ".x", "--checkpoints", "y"],
            "model.series: expected a",
        ),
        (["record", "run.yaml", "--part", "1/1000000000"], "part: expected i/n"),
        (["run", "run.yaml", "--set", "embed.hidden=[-3]"], "embed.hidden.0: expected at least 1"),
        (
            ["run", "run.yaml", "--set", "analyse.classes=none.csv"],
            "analyse.classes: expected a file",
        ),
        (
            ["run", "run.yaml", "--set", "preprocessing.sd=[.nan]"],
            "expected a finite number, got nan",
        ),
        (["run", "run.yaml", "--set", "preprocessing.size=100000"], "expected at most 4,096"),
        (["run", "/dev/zero"], "expected a configuration of at most 1 MiB"),
        (["analyse", "x", "--fdr", "nan"], "--fdr"),
        (["analyse", "x", "--seed", "many"], "expected a whole number, got 'many'"),
        (["analyse", "x", "--permutations", "1000000000000"], "expected at most 1,000,000"),
        (["embed", "x", "--threads", "100000"], "expected at most 1,024"),
        (["report", "x", "--name", ".x"], "--name: expected a name"),
        (["report", "x", "--title", "\x1b[2J"], r"control characters, got '\x1b[2J'"),
        (["compare", "x", "--name", "a" * 300], "--name: expected a name"),
        (["watch", "x", "--config", "run.yaml", "--every", "nan"], "--every: expected 0.1 to"),
        (["list", "--recordings", "\0"], "without control characters"),
        (["list", "--root", "a" * 300], "parts have at most 255 bytes"),
        (["list", "--root", "~nobody-here/x"], "names a user who is not known here"),
    ],
)
def test_command__bad_input_is_one_line_before_any_work(activarium, tmp_path, arguments, message):
    code, out, lines = activarium(*arguments)
    assert (code, out, len(lines)) == (2, "", 1)
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[0].isprintable()
    assert [each.name for each in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "DASK_NUM_WORKERS"])
def test_command__thousands_of_threads_in_the_environment_are_refused(
    activarium, monkeypatch, name
):
    monkeypatch.setenv(name, "100000")
    code, _, lines = activarium("list")
    assert (code, lines) == (
        2,
        [f"error: {name} in the environment: expected at most 1,024, got 100000"],
    )


@pytest.mark.parametrize("folder", ["tables", "work", "models", ".locks"])
def test_command__a_file_in_the_place_of_a_folder_is_told_before_any_work(
    activarium, tmp_path, folder
):
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / folder).write_text("")
    code, _, lines = activarium("run", "run.yaml", "--no-prefect")
    assert code == 2
    assert lines[-1].endswith(
        f"atlas/{folder} is a file, expected a folder of the atlas: move it away"
    )


CODE = """
import sys
from torch import nn

class Odd(BaseException):
    pass

def leave(): sys.exit(0)
def odd(): raise Odd("odd")
def address(): raise ValueError(f"no {object()}")

class Leaving(nn.Linear):
    def forward(self, images): sys.exit(0)

def leaving(): return Leaving(256, 3)
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("leave", "raised SystemExit (it ended the program with 0)"),
        ("odd", "code that was loaded raised Odd: odd"),
        ("address", "raised ValueError: no <object object>"),
        ("leaving", "code that was loaded ended the program with 0"),
    ],
)
def test_command__code_that_ends_the_program_ends_it_with_a_line(
    activarium, tmp_path, monkeypatch, function, message
):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "leaving_code.py").write_text(CODE)
    model = json.dumps({"architecture": f"leaving_code:{function}", "weights": "DEFAULT"})
    code, _, lines = activarium("record", "run.yaml", "--no-prefect", "--set", f"model={model}")
    assert code == 2
    assert message in lines[-1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            "a/b: no space left on device: free",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "x"),
            "x: read-only .*: use a --root that can",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            "x: permission denied: change its",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5_000), "use shorter names"),
        (MemoryError(), "out of memory .nothing is free.: free some"),
        (RuntimeError("can't allocate memory: you tried 9"), "out of memory"),
        (RuntimeError("can't start new thread"), "no more threads or processes"),
        (SystemExit(0), "ended the program with 0"),
    ],
)
def test_main__what_the_system_refuses_is_one_line(activarium, monkeypatch, error, message):
    def fail(**settings):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    code, _, lines = activarium("list")
    assert (code, len(lines)) == (2, 1)
    assert len(lines[0]) < 600
    assert re.search(message, lines[0])


def test_main__a_fault_of_the_program_is_one_line_with_another_code(activarium, monkeypatch):
    def fail(**settings):
        raise KeyError("x")

    monkeypatch.setattr(cli, "app", fail)
    code, _, lines = activarium("list")
    assert (code, len(lines)) == (1, 1)
    assert "this should not have happened (KeyError: 'x')" in lines[0]
    assert explain_error(KeyError("x")) is None


def test_version__is_printed(activarium):
    code, out, lines = activarium("--version")
    assert (code, lines) == (0, [])
    assert out.startswith("activarium ")


def test_help__into_a_pipe_that_is_closed_is_quiet():
    command = f"{sys.executable} -m activarium.flows.cli --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.stderr == ""


# --- what is printed ------------------------------------------------------------------------


@pytest.fixture
def console(tmp_path):
    with (tmp_path / "printed").open("w+", encoding="utf-8") as file:
        yield SafeConsole(file=file, force_terminal=True, no_color=True, width=300)


def printed(console):
    console.file.flush()
    console.file.seek(0)
    return console.file.read()


def test_console__nothing_that_is_printed_steers_the_terminal(console, monkeypatch):
    monkeypatch.setattr("activarium.flows.output.out", console)
    console.print(HIDDEN)
    print_rows([{"name": HIDDEN, HIDDEN: 1}], ["name", HIDDEN])
    text = printed(console)
    assert not any(
        each in text for each in ("\x1b[2J", "\u202e", "\x9b", "\u200b", "\u2028", "\x07")
    )
    assert r"a\x1b[2Jb\u202ec\x9bd\u200be\u2028f\rg\x07h\u3164" in text


def test_progress__names_in_it_are_shown_escaped(console):
    with progress_bars(console), current_progress()(f"recording {HIDDEN}", 2) as advance:
        advance(2)
    text = printed(console)
    assert "\u202e" not in text
    assert r"\u202e" in text


def test_tables__columns_are_as_wide_as_what_is_shown(console, monkeypatch):
    plain = SafeConsole(file=console.file, width=300)
    monkeypatch.setattr("activarium.flows.output.out", plain)
    print_rows([{"name": HIDDEN, "n": 1}, {"name": "b", "n": 2}], ["name", "n"])
    lines = [line for line in printed(console).splitlines() if line.strip()]
    assert len({len(line.rstrip().rpartition(" ")[0]) for line in lines}) == 1


def test_user_error__holds_no_address_and_no_flood():
    error = UserError(f"got {object()!r} {'x' * 100_000}")
    assert str(error).startswith("got <object object> xxx")
    assert len(str(error)) <= 4_000
    assert shown("caf\u00e9 \u6a21\u578b\u3000x") == "caf\u00e9 \u6a21\u578b\u3000x"
