"""All statistics of the tables `units` and `unit_classes` against sorting and loops over scipy.

    python benchmarks/class_statistics.py [--quick] [--repeats N] [--case NAME] [--kind NAME]

One thread, in blocks of 256 units, from responses in memory. Left out are permutations
(permutation_speed.py), redundancy, which is a layer's, active fractions, which are means of another
array, and exemplars, which are reported apart. Then follows where the time goes, by function.
"""

from __future__ import annotations

import argparse
import cProfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from scipy import stats
from synthetic_responses import KINDS, Case, as_stored, read_units, responses_of
from threadpoolctl import threadpool_limits
from timings import Times, circumstances, table, take_turns

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis import unit_block
from activarium.tasks.analysis.chosen_images import ChosenImages
from activarium.tasks.analysis.exemplar_rows import exemplar_rows
from activarium.tasks.analysis.merging import (
    columns_of,
    false_discovery_columns,
    permutation_columns,
)
from activarium.tasks.analysis.unit_block import BlockData, block_tables
from activarium.tasks.statistics.testing.multiple_testing import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import CodeType

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Tables = dict[str, dict[str, Any]]

CONFIG = AnalyseConfig(permutations=0)
SHARE = 0.015
"""Of the time, that a function takes at least to be shown."""
OWN, OWN_STORED = "ours, (unit, image)", "ours, stored (image, unit)"
SORT, SORT_STORED = "`np.sort` along the images of each unit", "`np.sort(axis=0)` of image x unit"
SCIPY, EXEMPLARS = "loops over scipy", "exemplars, (unit, image)"


@dataclass(frozen=True)
class Goals:
    """A case with what is wanted of it."""

    case: Case
    quick: Case
    scipy_units: int
    """Units that scipy is measured on; the time is scaled to all."""
    to_scipy: float
    """Wanted: so many times as fast as scipy."""


CASES = {
    "few": Goals(Case(10_000, 5_000, 10), Case(2_000, 300, 10), 8, 100),
    "many": Goals(Case(50_000, 2_000, 1_000), Case(5_000, 40, 100), 1, 5_000),
}


def chosen_images(case: Case) -> ChosenImages:
    """Return all images with their classes."""
    every = np.arange(case.images)
    return ChosenImages(every, case.label, every, case.label, case.class_names)


def block_data(case: Case, chosen: ChosenImages, responses: Matrix, first: int) -> BlockData:
    """Return one block as the product holds it; `first` is its first unit."""
    units = len(responses)
    return BlockData(
        responses=responses,
        active_fraction=None,
        chosen=chosen,
        layer=["layer1.0"] * units,
        channel=np.arange(first, first + units),
        depth=np.zeros(units, int),
        feeds_relu=np.zeros(units, bool),
        image_names=np.arange(case.images).astype(str).tolist(),
    )


def statistics(blocks: Iterable[BlockData]) -> Tables:
    """Return the columns of both tables, q-values among them, by the product's own functions."""
    with patch.object(unit_block, "exemplar_rows", return_value={}):
        parts = [block_tables(block, CONFIG) for block in blocks]
    units, pairs = (
        columns_of(pa.concat_tables([pa.table(part[name]) for part in parts]))
        for name in ("units", "unit_classes")
    )
    units |= permutation_columns(None, None, len(units["unit"]))
    units |= false_discovery_columns(units, np.arange(len(units["unit"])))
    pairs["q_value"] = benjamini_hochberg(10.0 ** pairs["guarded_log10p"].to_numpy())
    return {"units": units, "unit_classes": pairs}


def by_scipy(responses: Matrix, start: NDArray[np.int64]) -> None:
    """Compute what numpy and scipy have of the statistics, unit by unit.

    Quantiles, moments of each class, the analysis of variance with and without equal variances,
    Kruskal-Wallis, and each class against the rest by Mann and Whitney; class c holds the images
    start[c] to start[c + 1].
    """
    for row in responses:
        unit = row.astype(np.float64)
        groups = np.split(unit, start[1:-1])
        np.quantile(unit, (0.05, 0.25, 0.5, 0.75, 0.95))
        for group in groups:
            group.mean(), group.std(ddof=1)
        stats.f_oneway(*groups)
        stats.f_oneway(*groups, equal_var=False)
        stats.kruskal(*groups)
        for code, group in enumerate(groups):
            rest = np.concatenate([unit[: start[code]], unit[start[code + 1] :]])
            stats.mannwhitneyu(group, rest, method="asymptotic")


def works_of(case: Case, responses: Matrix, scipy_units: int) -> dict[str, Callable[[], object]]:
    """Return what takes turns."""
    stored, chosen = as_stored(responses), chosen_images(case)
    blocks = [block_data(case, chosen, responses[units], units.start) for units in case.blocks]
    start = np.searchsorted(case.label, np.arange(case.classes + 1))

    def from_stored() -> Tables:
        return statistics(
            block_data(case, chosen, read_units(stored, units), units.start)
            for units in case.blocks
        )

    return {
        OWN: lambda: statistics(blocks),
        OWN_STORED: from_stored,
        SORT: lambda: np.sort(responses, axis=1),
        SORT_STORED: lambda: np.sort(stored, axis=0),
        EXEMPLARS: lambda: [exemplar_rows(block, CONFIG) for block in blocks],
        SCIPY: lambda: by_scipy(responses[:scipy_units], start),
    }


def compared(times: dict[str, Times], goals: Goals, scale: float) -> list[list[str]]:
    """Return the lines of one case and kind; scipy's time times `scale` is that of all units."""
    scaled = Times(tuple(each * scale for each in times[SCIPY].seconds))
    peers = (
        (OWN, SORT, times[SORT], 1.0),
        (OWN_STORED, SORT_STORED, times[SORT_STORED], 1.0),
        (OWN, f"{SCIPY} ({goals.scipy_units} units, scaled)", scaled, 1 / goals.to_scipy),
    )
    return [_line(name, times[name], peer, other, goal) for name, peer, other, goal in peers]


def _line(name: str, own: Times, peer: str, other: Times, goal: float) -> list[str]:
    ratio = own.ratio(other)
    seconds = [f"{own.median:.3f} s", peer, f"{other.median:,.3f} s"]
    ratios = [f"{ratio:.3g}", f"{own.least_ratio(other):.3g}"]
    return [name, *seconds, *ratios, f"{goal:g}", "yes" if ratio <= goal else "no"]


def by_function(work: Callable[[], object]) -> list[list[str]]:
    """Return the product's functions that take so large a share of the time that it counts.

    A function's own time includes compiled kernels and NumPy's arithmetic, which are not seen.
    """
    profile = cProfile.Profile()
    began = time.perf_counter()
    profile.runcall(work)
    whole = time.perf_counter() - began
    entries = sorted(profile.getstats(), key=lambda entry: -entry.totaltime)
    return [
        [_function_name(entry.code), str(entry.callcount), f"{entry.totaltime:.3f} s",
         f"{entry.inlinetime:.3f} s", f"{100 * entry.totaltime / whole:.0f} %"]
        for entry in entries
        if _function_name(entry.code) and entry.totaltime >= SHARE * whole
    ]  # fmt: skip


def _function_name(code: str | CodeType) -> str:
    """Return a name of the product's functions and of sorting; empty for others."""
    if isinstance(code, str):
        return "ndarray.sort" if "'sort'" in code else ""
    path = Path(code.co_filename)
    return f"{path.stem}.{code.co_name}" if "activarium" in path.parts else ""


HEADINGS = ("work", "time, median", "peer", "its time", "ratio, median", "min", "at most", "met")


def measure(goals: Goals, kind: str, arguments: argparse.Namespace) -> None:
    """Print the tables of one case and kind."""
    case = goals.quick if arguments.quick else goals.case
    works = works_of(case, responses_of(case, kind), goals.scipy_units)
    times = take_turns(works, repeats=arguments.repeats)
    print(f"## {case}, {kind}\n")
    print(table(HEADINGS, compared(times, goals, case.units / goals.scipy_units)), end="\n\n")
    print(f"Exemplars, apart: {times[EXEMPLARS].median:.3f} s.\n")
    headings = ("function", "calls", "with what it calls", "own", "share")
    print(table(headings, by_function(works[OWN])), end="\n\n", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    parser.add_argument("--case", choices=[*CASES], help="few or many classes alone")
    parser.add_argument("--kind", choices=KINDS, help="one kind of responses alone")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of ratios and one of functions for each case."""
    asked = parse(arguments)
    pa.set_cpu_count(1)
    print(circumstances("numpy", "numba", "scipy"), end="\n\n")
    with threadpool_limits(1):
        for name, goals in CASES.items():
            for kind in KINDS:
                if asked.case in (None, name) and asked.kind in (None, kind):
                    measure(goals, kind, asked)


if __name__ == "__main__":
    main()
