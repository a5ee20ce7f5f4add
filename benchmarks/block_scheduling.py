"""Blocks of units through Dask against a plain pool of as many threads.

    python benchmarks/block_scheduling.py [--quick] [--repeats N] [--permutations N]

Both run the analysis of the same blocks, each of which reads its columns of a recording on disk and
writes its rows. Without permutations a block takes least time, which is hardest on a scheduler.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dask.system import CPU_COUNT
from synthetic_recordings import blocks_of, choice_of, write_recording
from synthetic_responses import Case
from timings import Times, circumstances, table, take_turns

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.unit_block import CHOICE, PARTS, analyse_block
from activarium.tasks.scheduling import run_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from activarium.tasks.stores.recording import Recording

FULL, QUICK = Case(10_000, 5_000, 10), Case(500, 1_024, 10)
GOAL = 1.1
DASK, PLAIN = "Dask, threads", "plain threads"


def by_dask(pieces: Sequence[tuple[object, ...]]) -> None:
    """Run the pieces as the product does."""
    run_pieces(analyse_block, pieces, scheduler="threads", advance=lambda _: None)


def by_threads(pieces: Sequence[tuple[object, ...]]) -> None:
    """Run the pieces in a plain pool."""
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        list(pool.map(analyse_block, *zip(*pieces, strict=True)))  # type: ignore[arg-type]


def measure(
    recording: Recording, folder: Path, *, permutations: int, repeats: int
) -> dict[str, Times]:
    """Return the times of both; each run gets an empty work folder."""
    config, blocks = AnalyseConfig(permutations=permutations), blocks_of(recording)
    choice = choice_of(recording)

    def run(by: Callable[[Sequence[tuple[object, ...]]], None]) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            work = Path(name)
            choice.save(work / CHOICE)
            by([(recording.place, work, block, config) for block in blocks])
            if not all(block.part(work, PARTS[0]).exists() for block in blocks):
                raise RuntimeError("a block was not analysed")

    return take_turns({DASK: lambda: run(by_dask), PLAIN: lambda: run(by_threads)}, repeats=repeats)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--permutations", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    parser.add_argument("--folder", default=None, help="where the recording is written")
    asked = parser.parse_args(arguments)
    case = QUICK if asked.quick else FULL
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        recording = write_recording(Path(name) / "synthetic.zarr", case)
        times = measure(
            recording, Path(name), permutations=asked.permutations, repeats=asked.repeats
        )
    own, plain = times[DASK], times[PLAIN]
    print(circumstances("dask", "zarr", "numba"))
    print(f"{case}, {asked.permutations} permutations, {CPU_COUNT} threads each.\n")
    headings = (
        "work",
        "time, median",
        "peer",
        "its time",
        "ratio, median",
        "min",
        "at most",
        "met",
    )
    ratio = own.ratio(plain)
    ratios = [f"{ratio:.3f}", f"{own.least_ratio(plain):.3f}"]
    met = "yes" if ratio <= GOAL else "no"
    seconds = [f"{own.median:.3f} s", PLAIN, f"{plain.median:.3f} s"]
    print(table(headings, [[DASK, *seconds, *ratios, f"{GOAL:g}", met]]))


if __name__ == "__main__":
    main()
