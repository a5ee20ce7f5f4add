"""The class statistics of one block of units against sorting it and against loops over scipy.

python benchmarks/class_statistics.py [--quick] [--repeats N]
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from timings import circumstances, table, take_turns

from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.preference import (
    anova,
    auroc,
    hedges_g,
    kruskal_wallis,
    mann_whitney_p,
    mann_whitney_u,
)
from activarium.tasks.statistics.ranking import rank_units
from activarium.tasks.statistics.selectivity import general_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCIPY_UNITS = 8
"""Units that scipy is measured on."""


def statistics(responses: NDArray[np.float32], label: NDArray[np.int64], classes: int) -> None:
    """Compute every statistic of the class tables."""
    moments = class_moments(responses, label, classes)
    ranks, ties = rank_units(responses, label, classes)[:2]
    u = mann_whitney_u(ranks, moments.count)
    mann_whitney_p(u, moments.count, ties)
    kruskal_wallis(ranks, moments.count, ties)
    auroc(ranks, moments.count)
    anova(moments), general_index(moments), hedges_g(moments)


def by_scipy(responses: NDArray[np.float32], label: NDArray[np.int64], classes: int) -> None:
    """Compute the tests of every unit with scipy."""
    for unit in responses:
        groups = [unit[label == code].astype(np.float64) for code in range(classes)]
        stats.f_oneway(*groups)
        stats.kruskal(*groups)
        for code in range(classes):
            rest = np.concatenate([groups[other] for other in range(classes) if other != code])
            stats.mannwhitneyu(groups[code], rest, method="asymptotic")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few units, to try it")
    arguments = parser.parse_args()
    images, units, classes = 10_000, 500 if arguments.quick else 5_000, 10
    rng = np.random.default_rng(0)
    responses = np.maximum(rng.normal(size=(units, images)), 0).astype(np.float32)
    label = rng.integers(0, classes, images)
    works = {
        "ours": lambda: statistics(responses, label, classes),
        "sort": lambda: np.sort(responses, axis=1),
    }
    times = take_turns(works, repeats=arguments.repeats)
    began = time.perf_counter()
    by_scipy(responses[:SCIPY_UNITS], label, classes)
    scipy_seconds = (time.perf_counter() - began) * units / SCIPY_UNITS
    own, sort = times["ours"].least, times["sort"].least
    print(circumstances("numpy", "numba", "scipy"))
    print(f"{images:,} images x {units:,} units x {classes} classes, half of the values zero.\n")
    headings = ("work", "ours", "peer", "peer's time", "ratio")
    scipy_name = f"loops over scipy ({SCIPY_UNITS} units, scaled)"
    peers = (("`np.sort` of the same float32", sort), (scipy_name, scipy_seconds))
    lines = [
        ["class statistics", f"{own:.3f} s", name, f"{other:.3f} s", f"{own / other:.3f}"]
        for name, other in peers
    ]
    print(table(headings, lines))


if __name__ == "__main__":
    main()
