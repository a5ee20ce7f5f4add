"""The demo's atlas, and a copy of it for every page to be typed in."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from activarium.flows import output
from activarium.flows.cli import main
from activarium.schemas.atlas import Atlas
from activarium.tasks.models.architectures import resnet18
from activarium.tasks.reporting.query import query

from .blocks import (
    HELP,
    REPOSITORY,
    SHELLS,
    command_lines,
    commands,
    documented,
    is_script,
)

SERIES = (
    "activarium record examples/digits.yaml --checkpoints trained --series digits",
    "activarium compare --series digits",
    "activarium watch 'atlas/models/two-block-cnn-digits-*' --config examples/digits.yaml --once",
)
"""What several pages begin with: it runs once, and pages that hold the first go on from there."""
OWN_CLASSES = ("cup", "shell", "stone")
"""Classes of the images that README and help call the reader's own."""


def takes_no_prefect(command: str) -> bool:
    return any("--no-prefect" in option.opts for option in commands()[command].params)


@contextmanager
def typed_in(folder: Path):
    """Be in a folder, with nothing set that would lead elsewhere; forget its modules afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        for name in [each for each in os.environ if each.startswith(("ACTIVARIUM_", "PREFECT_"))]:
            patch.delenv(name)
        patch.setenv("MPLBACKEND", "Agg")
        yield patch
    own = [
        name
        for name, module in sys.modules.items()
        if str(getattr(module, "__file__", "")).startswith(f"{folder}/")
    ]
    for name in own:
        del sys.modules[name]


def call(words: list[str], folder: Path) -> str:
    """Return what a command prints in a folder; it must end well. Prefect is left out."""
    if takes_no_prefect(words[1]) and "--no-prefect" not in words:
        words = [*words, "--no-prefect"]
    out, err, code = StringIO(), StringIO(), None
    with typed_in(folder) as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", words)
        patch.setattr(output.out, "file", out)
        patch.setattr(output.err, "file", err)
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
    assert not code, f"{words}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue()


class Page:
    """A page, typed from the top in a folder of its own that holds the demo's atlas."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.atlas = Atlas(folder / "atlas")
        self.names: dict[str, object] = {"__name__": "__main__"}
        self._left = [each for each in documented() if each.page == name and not each.mark]

    def type_until(self, block) -> None:
        """Type what stands before a block and was not typed yet, then the block itself."""
        while block in self._left:
            self._type(self._left.pop(0))

    def _type(self, block) -> None:
        if block.file is not None:
            (self.folder / block.file).write_text(block.text, "utf-8")
        if block.language == "python":
            with typed_in(self.folder):
                self._python(block)
        elif block.language == "sql":
            self._ask(block.text)
        elif block.language in SHELLS and is_script(block):
            self._script(block.text)
        elif block.language in SHELLS:
            for line in command_lines(block.text):
                self._command(line)

    def _python(self, block) -> None:
        """Run statement by statement; what it shows or names must not be empty."""
        for node in ast.parse(block.text, str(block)).body:
            if isinstance(node, ast.Expr):
                shown = ast.Expression(node.value)
                value = eval(compile(shown, str(block), "eval"), self.names)  # noqa: S307 - ours
                assert getattr(value, "size", 1) != 0, f"nothing: {ast.unparse(node)}"
            else:
                exec(compile(ast.Module([node], []), str(block), "exec"), self.names)  # noqa: S102
        empty = [name for name, value in self.names.items() if getattr(value, "size", 1) == 0]
        assert not empty, f"{block}: nothing in {empty}"

    def _ask(self, sql: str, recordings: tuple[str, ...] = ()) -> None:
        assert query(self.atlas, sql, recordings=recordings).num_rows, f"no rows: {sql}"

    def _command(self, line: str) -> None:
        if line.startswith("make"):
            self._script(line)
            return
        # The shell takes the line apart, and replaces globs, as it does for the reader.
        words = self._script(f"activarium() {{ printf '%s\\0' activarium \"$@\"; }}\n{line}")
        given = words.split("\0")[:-1]
        if given[1] == "query":
            self._query(given[2:])
        call(given, self.folder)

    def _query(self, words: list[str]) -> None:
        """Check that a query gives rows, few, and none that only look like those of a trained model."""
        options = commands()["query"].make_context("query", [*words]).params
        sql, recordings = options["sql"], tuple(options["recordings"] or ())
        found = query(self.atlas, sql, recordings=recordings)
        assert found.num_rows, f"no rows: {sql}"
        of_recordings = "recording" in found.column_names
        assert of_recordings or "trained_" in sql, f"rows of controls look like any other: {sql}"
        assert "LIMIT" in sql or "GROUP BY" in sql, f"as many rows as there are: {sql}"

    def _script(self, text: str) -> str:
        environment = {
            **{
                k: v for k, v in os.environ.items() if not k.startswith(("ACTIVARIUM_", "PREFECT_"))
            },
            "PATH": f"{self.folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def furnish(folder: Path, atlas: Path, own: Path) -> None:
    """Make a checkout of links, with an atlas, the reader's own files, and programs on the path."""
    folder.mkdir()
    for path in REPOSITORY.iterdir():
        if not path.name.startswith(".") and path.name not in {"atlas", "benchmarks-output"}:
            (folder / path.name).symlink_to(path)
    for path in own.iterdir():
        (folder / path.name).symlink_to(path)
    shutil.copytree(atlas, folder / "atlas")
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    plain = "|".join(name for name in commands() if takes_no_prefect(name))
    python = f'exec "{sys.executable}"'
    scripts = {
        "activarium": f'case "$1" in {plain}) set -- "$@" --no-prefect;; esac\n'
        f'{python} -m activarium.flows.cli "$@"',
        "python": f'{python} "$@"',
        # A target must be there; what it does is tested elsewhere, or takes hours.
        "make": f'PATH="{os.environ["PATH"]}" exec make --dry-run "$@"',
    }
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)


@pytest.fixture(scope="session")
def own_files(tmp_path_factory) -> Path:
    """A folder of what pages call the reader's own: images, weights that fit them, groups."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    with ZipFile(folder / "images.zip", "w") as archive:
        for place, name in enumerate(OWN_CLASSES):
            for index in range(8):
                pixels = rng.integers(60 * place, 60 * place + 80, (32, 32, 3), dtype=np.uint8)
                content = BytesIO()
                Image.fromarray(pixels).save(content, "png")
                archive.writestr(f"test/{name}/{index}.png", content.getvalue())
    torch.manual_seed(0)
    save_file(resnet18(width=32, outputs=3).state_dict(), folder / "weights.safetensors")
    groups = [f"{digit},{'even' if digit % 2 == 0 else 'odd'}" for digit in range(10)]
    (folder / "groups.csv").write_text("\n".join(["class,group", *groups]) + "\n")
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The atlas that the demo makes, and the demo's summary, from a process of its own."""
    folder = tmp_path_factory.mktemp("demo") / "atlas"
    done = subprocess.run(
        [
            Path(sys.executable).parent / "activarium",
            "demo",
            "--root",
            folder,
            "--no-prefect",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture(scope="session")
def with_series(demo, own_files, tmp_path_factory):
    """The demo's atlas with the checkpoints of its training recorded and compared."""
    folder = tmp_path_factory.mktemp("series") / "checkout"
    furnish(folder, demo[0], own_files)
    for line in SERIES:
        call(shlex.split(line), folder)
    return folder / "atlas"


@pytest.fixture(scope="session")
def pages(demo, own_files, tmp_path_factory, request):
    """Give a page by its name; the first time, a folder is made for it."""
    made: dict[str, Page] = {}

    def page(name: str) -> Page:
        if name not in made:
            texts = " ".join(each.text for each in documented() if each.page == name)
            has_series = SERIES[0] in texts
            atlas = request.getfixturevalue("with_series") if has_series else demo[0]
            folder = tmp_path_factory.mktemp(re.sub(r"\W", "-", name)) / "checkout"
            furnish(folder, atlas, own_files)
            if name == HELP:
                (folder / "digits").symlink_to("atlas")
            made[name] = Page(name, folder)
        return made[name]

    return page
