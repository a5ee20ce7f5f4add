"""Time and memory of analysing blocks of units as images and units grow.

    python benchmarks/statistics_growth.py [--quick] [--largest] [--permutations N] [--folder FOLDER]

Each recording is analysed by a process of its own, block after block, which has analysed a small
recording before: so neither imports nor compiled code being loaded count. Memory is the process's
peak, less what it held before, less the bytes of one block of responses.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthetic_recordings import blocks_of, choice_of, write_recording
from synthetic_responses import BLOCK_UNITS, Case

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.unit_block import CHOICE, analyse_block
from activarium.tasks.stores.places import Folder
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSES = 10
WARM_UP = Case(1_000, 16, CLASSES)
CASES = (
    Case(50_000, 256, CLASSES),
    Case(50_000, 1_024, CLASSES),
    Case(200_000, 256, CLASSES),
    Case(1_000_000, 256, CLASSES),
)
LARGEST = Case(1_000_000, 1_000, CLASSES)
"""4 GB on disk."""
QUICK = (Case(1_000, 64, CLASSES), Case(2_000, 300, CLASSES))


@dataclass(frozen=True)
class Measured:
    """What one process took."""

    seconds: float
    before: int
    """Bytes that it held before."""
    peak: int


def status_bytes(field: str) -> int:
    """Return a size of this process from Linux."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def reset_peak() -> None:
    """Let the peak begin anew, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError as error:
        print(f"the peak includes the warm-up: {error}", file=sys.stderr)


def analyse_all(folder: Path, permutations: int) -> None:
    """Analyse all blocks of a folder's recording, one after the other."""
    recording = Recording(Folder(folder / "synthetic.zarr"))
    config = AnalyseConfig(permutations=permutations)
    # A work folder of its own, since blocks whose rows are there are not repeated.
    with tempfile.TemporaryDirectory(dir=folder) as name:
        shutil.copy(folder / CHOICE, name)
        for block in blocks_of(recording):
            analyse_block(recording.place, Path(name), block, config)


def measure_here(warm_up: Path, folder: Path, permutations: int) -> Measured:
    """Analyse a recording in this process."""
    analyse_all(warm_up, permutations)
    reset_peak()
    before, began = status_bytes("VmRSS"), time.perf_counter()
    analyse_all(folder, permutations)
    return Measured(time.perf_counter() - began, before, status_bytes("VmHWM"))


def prepare(folder: Path, case: Case) -> None:
    """Write a recording and the choice of its images."""
    folder.mkdir()
    recording = write_recording(folder / "synthetic.zarr", case)
    choice_of(recording).save(folder / CHOICE)


def measure(case: Case, warm_up: Path, permutations: int) -> Measured:
    """Analyse a recording of this size in a process of its own."""
    with tempfile.TemporaryDirectory(dir=warm_up.parent) as name:
        folder = Path(name) / "case"
        prepare(folder, case)
        command = [sys.executable, __file__, "--measure", str(warm_up), str(folder)]
        command += ["--permutations", str(permutations)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return Measured(**json.loads(done.stdout))


def cells(case: Case, measured: Measured, first: tuple[Case, Measured]) -> list[str]:
    """Return one line of the table."""
    block = 4 * case.images * min(case.units, BLOCK_UNITS)
    beyond = measured.peak - measured.before - block
    own, least = (_nanoseconds(*each) for each in ((case, measured), first))
    return [
        f"{case.images:,}", f"{case.units:,}", f"{measured.seconds:.2f} s", f"{own:.1f} ns",
        f"{own / least:.2f}", f"{block / 2**20:,.0f} MiB", f"{measured.peak / 2**20:,.0f} MiB",
        f"{beyond / 2**20:,.0f} MiB", f"{beyond / case.images:,.0f} B",
    ]  # fmt: skip


def _nanoseconds(case: Case, measured: Measured) -> float:
    return 1e9 * measured.seconds / (case.images * case.units)


HEADINGS = (
    "images", "units", "time", "per value", "to the first", "one block", "peak", "beyond the block",
    "of that per image",
)  # fmt: skip


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--permutations", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    parser.add_argument("--largest", action="store_true", help=f"also {LARGEST} (4 GB on disk)")
    parser.add_argument("--folder", default=None, help="where recordings are written")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    asked = parse(arguments)
    if asked.measure:
        print(json.dumps(asdict(measure_here(*asked.measure, asked.permutations))))
        return
    # Only here: it imports torch, which the processes that are measured do not need.
    from timings import circumstances, table

    cases = (*CASES, LARGEST) if asked.largest else CASES
    cases = QUICK if asked.quick else cases
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        warm_up = Path(name) / "warm-up"
        prepare(warm_up, WARM_UP)
        found = [(case, measure(case, warm_up, asked.permutations)) for case in cases]
    print(circumstances("numpy", "numba", "zarr"))
    print(f"One thread, {CLASSES} classes, {asked.permutations} permutations, half zero.\n")
    print(table(HEADINGS, [cells(*each, found[0]) for each in found]))


if __name__ == "__main__":
    main()
