"""Times of several pieces of work, taken in turns, so that a slow minute slows all of them."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from statistics import median
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Times:
    """Seconds of one piece of work, one per round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Middle of all rounds."""
        return median(self.seconds)

    @property
    def least(self) -> float:
        """Shortest round."""
        return min(self.seconds)

    def ratio(self, other: Times) -> float:
        """Return the middle of the rounds' ratios to another work of the same rounds."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return median(mine / theirs for mine, theirs in pairs)

    def least_ratio(self, other: Times) -> float:
        """Return the ratio of the shortest rounds."""
        return self.least / other.least


def take_turns(works: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, Times]:
    """Return the times of each piece of work.

    Every piece runs once unmeasured, which compiles it and warms caches. Each round begins with
    another piece.

    Parameters
    ----------
    works
        What to run, by name.
    repeats
        Measured rounds.
    """
    for work in works.values():
        work()
    names = [*works]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            began = time.perf_counter()
            works[name]()
            seconds[name].append(time.perf_counter() - began)
    return {name: Times(tuple(each)) for name, each in seconds.items()}


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def circumstances(*packages: str) -> str:
    """Return date, machine, threads and versions in one line."""
    versions = ", ".join(f"{name} {version_of(name)}" for name in packages)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()} ({processor()}), "
        f"Python {platform.python_version()}, {torch.get_num_threads()} threads, {versions}"
    )


def version_of(package: str) -> str:
    """Return the installed version of a package, or that there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            lines = [line for line in stream if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0].partition(":")[2].strip() if lines else platform.processor()
