"""Time and memory of a whole analysis, all tables written, of recordings too large for memory.

    python benchmarks/whole_analysis.py [--quick] [--permutations N] [--folder FOLDER] [--case NAME]

The recording is analysed as `activarium analyse` does it, threads over blocks and layers, by a
process of its own, whose peak memory is told with the seconds of each stage.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from statistics_growth import status_bytes
from synthetic_recordings import write_recording
from synthetic_responses import Case

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.stores.places import Folder
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NAME = "synthetic"
CASES = {"images": Case(1_000_000, 5_000, 10), "classes": Case(50_000, 5_000, 1_000)}
"""20 GB and 1 GB on disk."""
QUICK = {"images": Case(2_000, 300, 10), "classes": Case(2_000, 100, 100)}
LAYERS, FEW_LAYERS = 20, 2
"""Layers that share the units evenly."""


class Stages:
    """A progress that keeps the seconds of each stage, and says where it is."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Give what is called as pieces are done."""
        began, done = time.perf_counter(), 0

        def advance(pieces: int) -> None:
            nonlocal done
            done += pieces
            passed = time.perf_counter() - began
            print(f"{description}: {done} of {total}, {passed:.0f} s", file=sys.stderr, flush=True)

        yield advance
        self.seconds[description.removesuffix(f" {NAME}")] = time.perf_counter() - began


def measure_here(root: Path, permutations: int) -> None:
    """Analyse the recording of an atlas, and print seconds and bytes as JSON."""
    atlas, stages = Atlas(root), Stages()
    recording = Recording(Folder(Path(atlas.recordings) / f"{NAME}.zarr"))
    config = AnalyseConfig(permutations=permutations, controls=("shuffle",))
    before, began = status_bytes("VmRSS"), time.perf_counter()
    analyse(atlas, recording, config=config, progress=stages)
    stages.seconds["all"] = time.perf_counter() - began
    print(json.dumps([stages.seconds, before, status_bytes("VmHWM")]))


def measure(case: Case, layers: int, folder: str | None, permutations: int) -> list[str]:
    """Write a recording, analyse it in a process of its own, and return a line of the table."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name) / "atlas"
        path = Path(Atlas(root).recordings) / f"{NAME}.zarr"
        path.parent.mkdir(parents=True)
        write_recording(path, case, [case.units // layers] * layers)
        command = [sys.executable, __file__, "--measure", str(root)]
        command += ["--permutations", str(permutations)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        tables = sum(file.stat().st_size for file in (root / "tables").rglob("*.parquet"))
    seconds, before, peak = json.loads(done.stdout)
    stages = ", ".join(f"{what} {taken:.0f} s" for what, taken in seconds.items() if what != "all")
    return [
        f"{case}, {layers} layers", f"{seconds['all']:.0f} s", stages,
        f"{1e9 * seconds['all'] / (case.images * case.units):.0f} ns",
        f"{before / 2**20:,.0f} MiB", f"{peak / 2**20:,.0f} MiB", f"{tables / 2**20:,.0f} MiB",
    ]  # fmt: skip


HEADINGS = ("recording", "time", "of that", "per value", "held before", "peak", "tables")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--permutations", type=int, default=AnalyseConfig().permutations)
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    parser.add_argument("--case", choices=[*CASES], help="many images or many classes alone")
    parser.add_argument("--folder", default=None, help="where recordings are written")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    asked = parse(arguments)
    if asked.measure:
        measure_here(asked.measure, asked.permutations)
        return
    # Only here: it imports torch, which the process that is measured does not need.
    from timings import circumstances, table

    cases, layers = (QUICK, FEW_LAYERS) if asked.quick else (CASES, LAYERS)
    lines = [
        measure(case, layers, asked.folder, asked.permutations)
        for name, case in cases.items()
        if asked.case in (None, name)
    ]
    print(circumstances("numpy", "numba", "zarr"))
    print(f"Threads, {asked.permutations} permutations, control shuffle, half zero.\n")
    print(table(HEADINGS, lines))


if __name__ == "__main__":
    main()
