"""999 permutations of the labels, by two threads over blocks of units, against matrix products.

    python benchmarks/permutation_speed.py [--quick] [--repeats N] [--threads N]

The peer is the fastest plain NumPy: the permuted labels of many permutations as zeros and ones in
one float32 matrix, times the standardised responses. It is measured on some permutations and scaled.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from synthetic_responses import KINDS, Case, responses_of
from threadpoolctl import threadpool_limits
from timings import Times, circumstances, table, take_turns

from activarium.tasks.statistics.testing.permutations import permuted_effects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

PERMUTATIONS = 999
BATCH = 50
"""Permutations of one matrix product, and those that the peer is measured on."""
GOAL_SECONDS = 8.0
FULL, QUICK = Case(10_000, 5_000, 10), Case(1_000, 512, 10)


def own_effects(case: Case, responses: Matrix, threads: int) -> Matrix:
    """Return the effects (unit, permutation) of all blocks, side by side."""
    label, place = case.label, np.random.default_rng(2).permutation(case.images)

    def effects(units: slice) -> Matrix:
        return permuted_effects(
            responses[units], label, case.classes, permutations=PERMUTATIONS, seed=0, place=place
        ).permuted

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate([*pool.map(effects, case.blocks)])


def product_effects(case: Case, standardised: Matrix, permutations: int) -> Matrix:
    """Return as many effects (unit, permutation) by one product of matrices."""
    rng = np.random.default_rng(0)
    rows = np.zeros((permutations, case.classes, case.images), np.float32)
    label, places = case.label, np.arange(case.images)
    for each in rows:
        each[rng.permutation(label), places] = 1.0
    sums = rows.reshape(-1, case.images) @ standardised.T
    weight = 1 / np.maximum(np.bincount(label, minlength=case.classes), 1)
    squares = sums.reshape(permutations, case.classes, -1) ** 2
    effects: Matrix = np.einsum("pcu,c->up", squares, weight.astype(np.float32))
    return effects


def standardise(responses: Matrix) -> Matrix:
    """Return responses of mean 0 and sum of squares 1."""
    centred = responses - responses.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    standardised: Matrix = centred / np.maximum(norm, 1e-30)
    return standardised


def measure(case: Case, kind: str, *, threads: int, repeats: int) -> list[list[str]]:
    """Return the lines of one kind of responses."""
    responses = responses_of(case, kind)
    standardised = standardise(responses)
    several, one = f"ours, {threads} threads", "ours, one thread"
    works: dict[str, Callable[[], object]] = {
        several: lambda: own_effects(case, responses, threads),
        one: lambda: own_effects(case, responses, 1),
        "product": lambda: product_effects(case, standardised, BATCH),
    }
    with threadpool_limits(threads, "blas"):
        times = take_turns(works, repeats=repeats)
    scaled = Times(tuple(each * PERMUTATIONS / BATCH for each in times["product"].seconds))
    met = "yes" if times[several].median <= GOAL_SECONDS else "no"
    return [
        _line(kind, several, times[several], times[several], f"{GOAL_SECONDS:g} s", met),
        _line(kind, one, times[one], times[several]),
        _line(kind, f"matrix products, {threads} threads (scaled)", scaled, times[several]),
    ]


def _line(  # noqa: PLR0913, PLR0917 - the cells
    kind: str, name: str, each: Times, own: Times, goal: str = "", met: str = ""
) -> list[str]:
    seconds = [f"{each.median:.2f} s", f"{each.least:.2f} s"]
    return [kind, name, *seconds, f"{each.ratio(own):.2f}", goal, met]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    asked = parser.parse_args(arguments)
    case = QUICK if asked.quick else FULL
    print(circumstances("numpy", "numba"))
    print(f"{PERMUTATIONS} permutations of {case}.\n")
    headings = ("responses", "work", "time, median", "min", "to ours", "at most", "met")
    rows = []
    for kind in KINDS:
        rows += measure(case, kind, threads=asked.threads, repeats=asked.repeats)
    print(table(headings, rows))


if __name__ == "__main__":
    main()
