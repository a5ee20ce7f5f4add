"""U and p of each class against the rest, against illico's and scanpy's Wilcoxon tests.

    python benchmarks/statistics_peers.py [--quick] [--repeats N]

One thread each, corrected for ties. The peers take a matrix (image, unit); ours is measured from
that one too, with the transposition that it needs. Ours ranks for its other statistics as well:
quantiles, DeLong's variances, counts by bin and class, top images. illico and scanpy also give fold
changes, and scanpy sorts the units. Peers are measured where they are installed
(`make benchmark-peers`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from peers import AbsentPeerError
from scipy import sparse
from synthetic_responses import KINDS, Case, as_stored, read_units, responses_of
from timings import Times, circumstances, table, take_turns

from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.units.preference import mann_whitney_p, mann_whitney_u

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Array = NDArray[np.float64]

FULL, QUICK = Case(10_000, 5_000, 10), Case(500, 64, 5)
OWN, OWN_STORED = "ours, (unit, image)", "ours, stored (image, unit)"


def own_tests(case: Case, blocks: Iterable[Matrix]) -> tuple[Array, Array]:
    """Return U and p, shape (unit, class)."""
    label, count = case.label, np.bincount(case.label, minlength=case.classes)
    found = []
    for responses in blocks:
        ranks = rank_units(responses, label, case.classes)
        u = mann_whitney_u(ranks.rank_sum, count)
        found.append((u, mann_whitney_p(u, count, ranks.tie_sum).p))
    u, p = zip(*found, strict=True)
    return np.concatenate(u), np.concatenate(p)


def _annotated(case: Case, matrix: Any) -> Any:
    """Return a matrix (image, unit) as these peers take it."""
    from anndata import AnnData

    found = AnnData(matrix)
    found.obs["class"] = np.array(case.class_names)[case.label]
    found.obs["class"] = found.obs["class"].astype("category")
    return found


def illico_tests(case: Case, matrix: Any) -> Callable[[], tuple[Array, Array]]:
    """Return illico's tests of a dense or sparse matrix."""
    try:
        from illico import asymptotic_wilcoxon
        from loguru import logger
    except Exception as error:
        raise AbsentPeerError(f"{type(error).__name__}: {error}") from error
    logger.remove()
    annotated = _annotated(case, matrix)

    def test() -> tuple[Array, Array]:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            found = asymptotic_wilcoxon(
                annotated, is_log1p=False, group_keys="class", reference=None, n_threads=1
            )
        groups = [found.xs(name, level=0) for name in case.class_names]
        u, p = (np.stack([group[name] for group in groups], 1) for name in ("statistic", "p_value"))
        return u, p

    return test


def scanpy_tests(case: Case, matrix: Any) -> Callable[[], object]:
    """Return scanpy's tests of a dense matrix."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import scanpy
    except Exception as error:
        raise AbsentPeerError(f"{type(error).__name__}: {error}") from error
    annotated = _annotated(case, matrix)

    def test() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scanpy.tl.rank_genes_groups(annotated, "class", method="wilcoxon", tie_correct=True)
        return annotated.uns["rank_genes_groups"]

    return test


PEERS: dict[str, Callable[[Case, Matrix], Callable[[], object]]] = {
    "illico, dense": illico_tests,
    "illico, sparse by column": lambda case, stored: illico_tests(case, sparse.csc_matrix(stored)),
    "scanpy": scanpy_tests,
}


def largest_difference(own: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    """Return how far U and p are apart at most, relative to their size."""
    found = 0.0
    for mine, theirs in zip(own, other, strict=True):
        scale = np.maximum(np.abs(mine), 1e-290)  # below, p is no more than zero to the peer
        found = max(found, float((np.abs(mine - theirs) / scale).max()))
    return found


def measure(case: Case, kind: str, *, repeats: int) -> list[list[str]]:
    """Return the lines of one kind of responses; the reason where a peer is absent."""
    responses = responses_of(case, kind)
    stored = as_stored(responses)
    works: dict[str, Callable[[], Any]] = {
        OWN: lambda: own_tests(case, (responses[units] for units in case.blocks)),
        OWN_STORED: lambda: own_tests(case, (read_units(stored, units) for units in case.blocks)),
    }
    absent, notes = {}, {}
    for name, tests in PEERS.items():
        if "sparse" in name and kind != KINDS[0]:
            continue
        try:
            works[name] = tests(case, stored)
        except AbsentPeerError as error:
            absent[name] = str(error)
        else:
            if "illico" in name:
                apart = largest_difference(works[OWN](), works[name]())
                notes[name] = f"U and p within {apart:.1e}"
    times = take_turns(works, repeats=repeats)
    lines = [_line(kind, name, times, notes.get(name, "")) for name in times]
    return lines + [[kind, name, "", "", "", "", why] for name, why in absent.items()]


def _line(kind: str, name: str, times: dict[str, Times], note: str) -> list[str]:
    each, own, stored = times[name], times[OWN], times[OWN_STORED]
    ratios = [f"{own.ratio(each):.3f}", f"{stored.ratio(each):.3f}"]
    ours = name in (OWN, OWN_STORED)
    met = "" if ours else "yes" if max(own.ratio(each), stored.ratio(each)) < 1 else "no"
    return [kind, name, f"{each.median:.3f} s", *ratios, met, note]


HEADINGS = (
    "responses", "work", "time, median", "ours to it", "ours, stored, to it", "faster", "note",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    asked = parser.parse_args(arguments)
    case = QUICK if asked.quick else FULL
    print(circumstances("numpy", "numba", "illico", "scanpy"))
    print(f"{case}, one thread.\n")
    rows = []
    for kind in KINDS:
        rows += measure(case, kind, repeats=asked.repeats)
    print(table(HEADINGS, rows))


if __name__ == "__main__":
    main()
