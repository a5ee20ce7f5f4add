"""What is shipped, what may import what, and what the repository must not hold."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("flows", "tasks", "schemas")


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def files(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("schemas"), ids=lambda path: path.name)
def test_schemas__import_no_tasks_no_flows_and_nothing_heavy(path):
    heavy = {"torch", "dask", "distributed", "prefect", "zarr", "numba"}
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] in heavy}
    assert not {name for name in names if name.startswith(("activarium.tasks", "activarium.flows"))}


@pytest.mark.parametrize("path", files("tasks"), ids=lambda path: path.name)
def test_tasks__import_no_flows_and_no_prefect(path):
    names = imported(path)
    assert not {name for name in names if name.startswith(("activarium.flows", "prefect"))}


@pytest.mark.parametrize("folder", FOLDERS)
def test_code__is_small_and_named_for_its_concept(folder):
    for path in files(folder):
        assert path.stem not in {"utils", "helpers", "common", "misc"}
        assert path.read_text("utf-8").count("\n") <= 450, path


@pytest.mark.slow
def test_wheel__holds_activarium_alone_with_page_and_type_marker(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"activarium"}
    shipped = {
        f"activarium/{path.relative_to(REPOSITORY).as_posix()}"
        for folder in FOLDERS
        for path in files(folder)
    }
    assert shipped <= set(names)
    assert "activarium/py.typed" in names
    assert "activarium/tasks/reporting/report_page/page.html.jinja" in names


def test_pages__written_from_schemas_are_up_to_date():
    from activarium.schemas.documentation import PAGES

    for name, page in PAGES.items():
        assert (REPOSITORY / "docs" / name).read_text("utf-8") == page()


def test_constraints__pin_versions_without_addresses():
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 100
    assert all("==" in pin and "@" not in pin and "/" not in pin for pin in pins)
