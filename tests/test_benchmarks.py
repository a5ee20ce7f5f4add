"""The benchmark of the GPU runs where torch, torchvision, numpy and zarr are installed alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NEEDED = ("torch", "torchvision", "numpy", "zarr")
NOT_NEEDED = ("pydantic", "numba", "prefect", "pandas", "dask", "scipy", "pyarrow", "duckdb")


def with_requirements(names: tuple[str, ...]) -> set[str]:
    """Names of distributions with all that they require in turn."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop().lower().replace("_", "-")
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # meant for another system
            continue
        if name not in found:
            found.add(name)
            wanted = [each for each in requirements if "extra ==" not in each]
            pending += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in wanted]
            # torch's CUDA libraries are asked for as an extra of one that holds nothing
            pending += [each for each in _installed() if name == "torch" and each[:6] == "nvidia"]
    return found


def _installed() -> list[str]:
    return [each.metadata["Name"] for each in metadata.distributions()]


@pytest.fixture
def site(tmp_path):
    """A folder of links to these packages and to no others."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in with_requirements(NEEDED):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(distribution.locate_file(top))
    return folder


def python(site, *arguments):
    command = [sys.executable, "-S", *arguments]
    path = f"{site}:{REPOSITORY / '.src'}"
    environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HOME": str(site)}
    return subprocess.run(
        command, env=environment, cwd=site, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_gpu_benchmark__runs_on_the_cpu_with_four_packages_alone(site, tmp_path):
    absent = f"import importlib.util as u; print([n for n in {NOT_NEEDED} if u.find_spec(n)])"
    assert python(site, "-c", absent).stdout == "[]\n"
    script = str(REPOSITORY / "benchmarks" / "gpu.py")
    output = tmp_path / "output"
    done = python(site, script, "--output", str(output), "--store", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "no GPU here" in done.stdout or "CUDA" in done.stdout
    rows = json.loads((output / "gpu.json").read_text())
    assert {row["precision"] for row in rows} >= {"float32", "bfloat16"}
    works = " ".join(row["work"] for row in rows)
    assert "hooks" in works
    assert "stored" in works
    assert all(row["images_per_second"] > 0 for row in rows)
    assert not list(tmp_path.glob("tmp*"))
