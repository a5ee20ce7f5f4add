"""Whether the tests and intervals of the tables keep their levels on realistic units.

python benchmarks/calibration.py [--recordings N] [--quick] [--write]

Prints what it measured; with --write it stands between two comments in docs/statistics.md.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats
from simulated_recordings import (
    CLASS_SIZES,
    CLASSES,
    EFFECTS,
    IMAGES,
    KINDS,
    LAYERS,
    PLANTED,
    SPARSE,
    UNITS,
    kind_of,
    simulate,
    true_auroc,
    true_difference,
)
from timings import circumstances, table

from activarium.tasks.statistics.intervals.auroc_interval import auroc_interval
from activarium.tasks.statistics.intervals.confidence import few_active
from activarium.tasks.statistics.intervals.hedges_interval import hedges_g_interval
from activarium.tasks.statistics.layers.pair_preference import pair_p
from activarium.tasks.statistics.moments import ClassMoments, class_moments
from activarium.tasks.statistics.ranks.pair_ranks import pair_u
from activarium.tasks.statistics.ranks.ranking import Ranks, rank_units
from activarium.tasks.statistics.shape_moments import shape_moments
from activarium.tasks.statistics.testing.benjamini_yekutieli import benjamini_yekutieli
from activarium.tasks.statistics.testing.multiple_testing import benjamini_hochberg
from activarium.tasks.statistics.testing.permutation_tests import max_t_p, permanova, permutation_p
from activarium.tasks.statistics.testing.permutations import permuted_effects
from activarium.tasks.statistics.testing.sparse_units import (
    LEAST_OF_CLASSES,
    LEAST_OF_UNITS,
    answers_too_few,
    guard_classes,
    guard_units,
)
from activarium.tasks.statistics.units.distance_correlation import distance_correlation
from activarium.tasks.statistics.units.preference import (
    anova,
    auroc,
    hedges_g,
    kruskal_wallis,
    mann_whitney_p,
    mann_whitney_u,
)
from activarium.tasks.statistics.units.spearman import spearman
from activarium.tasks.statistics.units.welch import welch_f

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from simulated_recordings import Simulated

    from activarium.tasks.statistics.intervals.confidence import Interval

    Array = NDArray[np.float64]

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"
LEVELS = (0.05, 0.001)
RATES = (0.05, 0.01)
COVERAGE = 0.95
PERMUTATIONS = 999
BY_KIND = ("ANOVA F", "Welch's F", "Kruskal-Wallis", "Mann-Whitney", "permutation", "Spearman")
"""Tests that are also shown kind by kind."""
EQUAL = ", equal"
"""Marks a test with equally many images in each class."""


class Share(NamedTuple):
    """A share over recordings with the ends of its 99 % confidence interval."""

    share: float
    low: float
    high: float
    tests: int


class Tally:
    """Hits and trials of one recording after the other."""

    def __init__(self) -> None:
        self._hits: list[float] = []
        self._trials: list[int] = []

    def add(self, hits: float, trials: int) -> None:
        """Note one recording."""
        self._hits.append(float(hits))
        self._trials.append(trials)

    def share(self) -> Share:
        """Return the share of hits over all recordings."""
        return share_over_recordings(np.array(self._hits), np.array(self._trials))


Tallies = defaultdict[tuple[object, ...], Tally]


def share_over_recordings(
    hits: Array, trials: NDArray[np.integer], *, level: float = 0.99
) -> Share:
    """Return the share of hits and an interval that allows for dependence within a recording.

    Clopper and Pearson's interval of as many independent trials as would have the share's variance
    between recordings; without any hit, or any miss, of one trial per recording.

    References
    ----------
    Korn and Graubard (1998), Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data.
    """
    used = trials > 0
    total, recordings = int(trials.sum()), int(used.sum())
    if recordings < 2:
        return Share(float("nan"), 0.0, 1.0, total)
    share = float(hits.sum()) / total
    residual = (hits - share * trials)[used]
    variance = float((residual**2).sum()) * recordings / (recordings - 1) / total**2
    size = share * (1.0 - share) / variance if variance > 0 else float(recordings)
    # The variance itself is estimated: from few recordings badly.
    tail = (1.0 - level) / 2.0
    size *= (stats.norm.isf(tail) / stats.t.isf(tail, recordings - 1)) ** 2
    found = share * size
    low = stats.beta.ppf(tail, found, size - found + 1.0) if found > 0 else 0.0
    high = stats.beta.isf(tail, found + 1.0, size - found) if found < size else 1.0
    return Share(share, float(low), float(high), total)


def verdict(share: Share, nominal: float, words: tuple[str, str, str]) -> str:
    """Return the word for an interval below, around or above the nominal share."""
    if np.isnan(share.share):
        return ""
    below, around, above = words
    if share.high < nominal:
        return below
    return above if share.low > nominal else around


def measure(recordings: int) -> Tallies:
    """Return what all recordings together say, by test, interval and procedure."""
    tallies: Tallies = defaultdict(Tally)
    for seed in range(recordings):
        recording = simulate(seed)
        moments, ranks = _summaries(recording.responses, recording.label)
        planted = _summaries(recording.preferring, recording.label)
        _add_tests(tallies, recording, moments, ranks)
        _add_target(tallies, recording)
        _add_permutations(tallies, recording)
        _add_discoveries(tallies, recording)
        _add_intervals(tallies, recording, (moments, ranks), planted)
    return tallies


def _summaries(
    responses: NDArray[np.float32], label: NDArray[np.int64]
) -> tuple[ClassMoments, Ranks]:
    return class_moments(responses, label, CLASSES), rank_units(responses, label, CLASSES)


def _add_p(tallies: Tallies, test: str, p: NDArray[np.floating]) -> None:
    """Count the p-values of one recording that lie at or below the levels; NaN is no test."""
    flat = np.asarray(p, np.float64).ravel()
    for level in LEVELS:
        # A p-value from permutations is a quotient: equal to the level but for rounding.
        tallies[test, level].add((flat <= level + 1e-12).sum(), int((~np.isnan(flat)).sum()))


def _add_tests(tallies: Tallies, recording: Simulated, moments: ClassMoments, ranks: Ranks) -> None:
    count = moments.count
    by_class = _class_tests(moments, ranks)
    for test, p in by_class.items():
        _add_p(tallies, test, p)
        _add_kinds(tallies, test, p)
    for code in (0, CLASSES - 1):
        _add_p(tallies, f"Mann-Whitney, {CLASS_SIZES[code]}", by_class["Mann-Whitney"][:, code])
    pairs = pair_u(recording.responses, recording.label, CLASSES)
    between = pair_p(pairs, count).p
    _add_p(tallies, "pairs", between)
    _add_p(tallies, "pairs, smallest", between[:, 0])
    equal = _class_tests(*_summaries(recording.responses, recording.equal))
    for test, p in equal.items():
        _add_kinds(tallies, test + EQUAL, p)
    guarded = _guarded_tests(recording.responses, recording.equal, recording.seed)
    for family, p in guarded.items():
        q = benjamini_hochberg(p.ravel())
        for rate in RATES:
            tallies["BH", family + EQUAL, rate, "none"].add(float(q.min() <= rate), 1)


def _class_tests(moments: ClassMoments, ranks: Ranks) -> dict[str, Array]:
    count = moments.count
    u = mann_whitney_u(ranks.rank_sum, count)
    return {
        "ANOVA F": anova(moments).p,
        "Welch's F": welch_f(moments).p,
        "Kruskal-Wallis": kruskal_wallis(ranks.rank_sum, count, ranks.tie_sum).p,
        "Mann-Whitney": mann_whitney_p(u, count, ranks.tie_sum).p,
    }


def _guarded_tests(
    responses: NDArray[np.float32], label: NDArray[np.int64], seed: int
) -> dict[str, Array]:
    """Return the p-values that the tables' q-values are made of."""
    moments, ranks = _summaries(responses, label)
    count = moments.count
    effects = permuted_effects(responses, label, CLASSES, permutations=PERMUTATIONS, seed=seed)
    few = answers_too_few(ranks.tie_sum, count, least=LEAST_OF_UNITS).any(axis=1)
    few_of_class = answers_too_few(ranks.tie_sum, count, least=LEAST_OF_CLASSES)
    h_test = kruskal_wallis(ranks.rank_sum, count, ranks.tie_sum)
    u_test = mann_whitney_p(mann_whitney_u(ranks.rank_sum, count), count, ranks.tie_sum)
    by_permutation = permutation_p(*effects)
    units = guard_units(h_test.log10_p, by_permutation, few)
    classes = guard_classes(u_test.log10_p, ranks.joint[:, 0], count, few_of_class)
    return {"units": 10.0**units, "unit_classes": 10.0**classes}


def _add_target(tallies: Tallies, recording: Simulated) -> None:
    rank = spearman(recording.responses, recording.target).p
    distance = distance_correlation(recording.responses, recording.target)
    _add_p(tallies, "Spearman", rank)
    _add_kinds(tallies, "Spearman", rank)
    _add_p(tallies, "distance correlation, chi-squared", distance.chi2_p)
    _add_p(tallies, "distance correlation, t", distance.t_p)


def _add_kinds(tallies: Tallies, test: str, p: NDArray[np.floating]) -> None:
    for place, kind in enumerate(KINDS):
        _add_p(tallies, f"{test}: {kind}", p[place :: len(KINDS)])


def _add_permutations(tallies: Tallies, recording: Simulated) -> None:
    both = np.concatenate([recording.responses, recording.preferring])
    observed, permuted = permuted_effects(
        both, recording.label, CLASSES, permutations=PERMUTATIONS, seed=recording.seed
    )
    p = permutation_p(observed[:UNITS], permuted[:UNITS])
    _add_p(tallies, "permutation", p)
    _add_kinds(tallies, "permutation", p)
    for layer in np.split(np.arange(UNITS), LAYERS):
        found = permanova(observed[layer], permuted[layer], images=IMAGES, classes=CLASSES)
        _add_p(tallies, "PERMANOVA", np.array(found.p))
    _add_families(tallies, recording, observed, permuted)


def _add_families(
    tallies: Tallies, recording: Simulated, observed: Array, permuted: NDArray[np.float32]
) -> None:
    alone = max_t_p(observed[:UNITS], permuted[:UNITS])
    tallies["max-T", "none"].add(float(alone.min() <= 0.05), 1)
    rows = np.arange(UNITS)
    rows[recording.planted] = np.arange(UNITS, UNITS + PLANTED)
    p = max_t_p(observed[rows], permuted[rows])
    tallies["max-T", "planted"].add(float((p[_null(recording)] <= 0.05).any()), 1)
    _add_power(tallies, recording, "max-T at 5 %", p[recording.planted] <= 0.05)


def _null(recording: Simulated) -> NDArray[np.bool_]:
    """Return the units without a planted preference."""
    null = np.ones(UNITS, np.bool_)
    null[recording.planted] = False
    return null


def _add_power(
    tallies: Tallies, recording: Simulated, procedure: str, found: NDArray[np.bool_]
) -> None:
    for effect in EFFECTS:
        of = found[recording.effect == effect]
        tallies["power", procedure, effect].add(of.sum(), of.size)


def _add_discoveries(tallies: Tallies, recording: Simulated) -> None:
    """Count false discoveries among units, and among units and classes, as the tables ask."""
    tests = [
        _guarded_tests(each, recording.label, recording.seed)
        for each in (recording.responses, recording.preferring)
    ]
    null = _null(recording)
    for family in ("units", "unit_classes"):
        none, own = (each[family].reshape(len(each[family]), -1) for each in tests)
        some = none.copy()
        some[recording.planted] = own
        for name, adjust in (("BH", benjamini_hochberg), ("BY", benjamini_yekutieli)):
            q_none, q_some = (adjust(p.ravel()).reshape(p.shape) for p in (none, some))
            for rate in RATES:
                tallies[name, family, rate, "none"].add(float(q_none.min() <= rate), 1)
                found = q_some <= rate
                false = found[null].sum() / max(int(found.sum()), 1)
                tallies[name, family, rate, "planted"].add(false, 1)
            if family == "units":
                hit = (q_some <= 0.01).any(axis=1)[recording.planted]
                _add_power(tallies, recording, f"{name} at 1 %", hit)
            elif name == "BH":
                hit = (q_some <= 0.01)[recording.planted, recording.preferred]
                _add_power(tallies, recording, "class against rest, BH at 1 %", hit)


def _add_intervals(
    tallies: Tallies,
    recording: Simulated,
    whole: tuple[ClassMoments, Ranks],
    planted: tuple[ClassMoments, Ranks],
) -> None:
    kinds = np.array([kind_of(unit) for unit in range(UNITS)])
    for code, size in enumerate(CLASS_SIZES):
        area, difference = _ends(recording.responses, recording.label, *whole, code)
        _add_by_kind(tallies, ("DeLong", size, "none"), area, np.full(UNITS, 0.5), kinds)
        _add_by_kind(tallies, ("g", size, "none"), difference, np.zeros(UNITS), kinds)
        own = np.flatnonzero(recording.preferred == code)
        if own.size:
            ends = _ends(recording.preferring, recording.label, *planted, code)
            _add_planted(tallies, recording, own, ends)


def _ends(
    responses: NDArray[np.float32],
    label: NDArray[np.int64],
    moments: ClassMoments,
    ranks: Ranks,
    code: int,
) -> tuple[Interval, Interval]:
    """Return the intervals of the AUROC and of Hedges' g of a class, each of shape (unit,)."""
    count = moments.count
    area, few = auroc(ranks.rank_sum, count), few_active(ranks.lowest, count)
    shapes = shape_moments(responses, label, moments)
    both = (
        auroc_interval(area, ranks, count, level=COVERAGE),
        hedges_g_interval(hedges_g(moments), moments, shapes, few, level=COVERAGE),
    )
    one, other = (each._replace(low=each.low[:, code], high=each.high[:, code]) for each in both)
    return one, other


def _add_planted(
    tallies: Tallies,
    recording: Simulated,
    own: NDArray[np.int64],
    ends: tuple[Interval, Interval],
) -> None:
    size = CLASS_SIZES[recording.preferred[own[0]]]
    kind = [kind_of(int(recording.planted[each])) for each in own]
    effect = recording.effect[own].tolist()
    area = [true_auroc(*each) for each in zip(kind, effect, strict=True)]
    gap = [true_difference(*each, size) for each in zip(kind, effect, strict=True)]
    one, other = (each._replace(low=each.low[own], high=each.high[own]) for each in ends)
    kinds = np.array(kind)
    _add_by_kind(tallies, ("DeLong", size, "planted"), one, np.array(area), kinds)
    _add_by_kind(tallies, ("g", size, "planted"), other, np.array(gap), kinds)


GROUPS: dict[str, Callable[[NDArray[np.str_]], NDArray[np.bool_]]] = {
    "linear": lambda kinds: kinds == "linear",
    "sparse": lambda kinds: np.isin(kinds, SPARSE),
    "dense": lambda kinds: ~np.isin(kinds, SPARSE),
    "all": lambda kinds: kinds != "",
}
"""Units by what intervals may mind."""


def _add_by_kind(
    tallies: Tallies,
    key: tuple[object, ...],
    interval: Interval,
    truth: Array,
    kinds: NDArray[np.str_],
) -> None:
    """Count the intervals of one recording that hold the truth; undefined ones are none."""
    held = (interval.low <= truth) & (truth <= interval.high)
    defined = ~np.isnan(interval.low)
    for group, of in GROUPS.items():
        own = of(kinds)
        tallies[*key, group].add(held[own].sum(), int(defined[own].sum()))


# What is printed.

TESTS = {
    "ANOVA F": "`anova_p`",
    "Welch's F": "`welch_p`, where defined",
    "Kruskal-Wallis": "`kruskal_p`",
    "Mann-Whitney": "`unit_classes.p_value`, all classes",
    "Mann-Whitney, 6": "the same, class of 6 images",
    "Mann-Whitney, 138": "the same, class of 138 images",
    "permutation": f"`permutation_p`, {PERMUTATIONS} permutations",
    "PERMANOVA": "`permanova_p` of a layer, the same permutations",
    "pairs": "U of two classes, behind `separating_units`, all 45 pairs",
    "pairs, smallest": "the same, classes of 6 and 12 images",
    "Spearman": "`unit_targets.spearman_p`",
    "distance correlation, chi-squared": "`distance_p`",
    "distance correlation, t": "t-test of distance correlation (not in the tables)",
}
LEVEL_WORDS = ("conservative", "at its level", "**too small**")
RATE_WORDS = ("below", "at its level", "**above**")
COVERAGE_WORDS = ("**narrow**", "as said", "wide")


def percent(value: float) -> str:
    """Return a share as a percentage of three digits or so."""
    return f"{100 * value:.3f}" if value < 0.01 else f"{100 * value:.2f}"


def with_interval(share: Share) -> str:
    """Return a share and its interval in percent."""
    if np.isnan(share.share):
        return "none"
    return f"{percent(share.share)} [{percent(share.low)}, {percent(share.high)}]"


def report(tallies: Tallies, recordings: int, began: float) -> str:
    """Return everything measured, as Markdown."""
    parts: list[str] = [
        circumstances("numpy", "numba", "scipy"),
        f"{recordings:,} recordings (seeds 0 to {recordings - 1:,}), "
        f"{time.perf_counter() - began:.0f} s on the machine as it was. "
        f"Each has {IMAGES} images in {CLASSES} classes of {_listed(CLASS_SIZES)}, and {UNITS} "
        f"units in {LAYERS} layers with one unit of each kind below. Half of a unit's variance "
        "before its activation comes from two factors that its layer shares. Brackets: 99 % "
        "intervals of the share, with recordings, not tests, as what is independent (Korn and "
        "Graubard 1998). Of a hundred intervals about one misses by chance.",
        "**p-values where nothing is to be found**, percent at or below 5 % and 0.1 %:",
        _test_table(tallies),
        "**The same by kind of unit**, percent at or below 5 % / 0.1 %:",
        _kind_table(tallies, BY_KIND, ""),
        f"**The same with {IMAGES // CLASSES} images in each class**:",
        _kind_table(tallies, BY_KIND[:4], EQUAL),
        "**False discoveries**, percent; mean share among what is found, and, where nothing is to "
        f"be found, how often anything is. Planted: a class preference in {PLANTED} of the {UNITS} "
        "units.",
        _rate_table(tallies),
        "**Coverage of the 95 % interval of the AUROC**, percent, by images of the class. "
        "The true areas follow from the distributions.",
        _coverage_table(tallies, "DeLong", AREA_COLUMNS),
        "**Coverage of the 95 % interval of Hedges' g**, percent, likewise:",
        _coverage_table(tallies, "g", G_COLUMNS),
        "**Power**: percent of the planted preferences that are found, by how many sd one class "
        "lies above the others before the activation; classes of all sizes, units of all kinds.",
        _power_table(tallies),
    ]
    return "\n\n".join(parts)


def _listed(sizes: Iterable[int]) -> str:
    *first, last = (str(size) for size in sizes)
    return f"{', '.join(first)} and {last} images"


def _test_table(tallies: Tallies) -> str:
    rows = []
    for test, name in TESTS.items():
        shares = [tallies[test, level].share() for level in LEVELS]
        cells = [
            f"{with_interval(share)} {verdict(share, level, LEVEL_WORDS)}"
            for share, level in zip(shares, LEVELS, strict=True)
        ]
        rows.append([name, f"{shares[0].tests:,}", *cells])
    return table(("test", "tests", "5 %", "0.1 %"), rows)


def _kind_table(tallies: Tallies, tests: Sequence[str], mark: str) -> str:
    rows = []
    for kind in KINDS:
        shares = [
            [tallies[f"{test}{mark}: {kind}", level].share() for level in LEVELS] for test in tests
        ]
        every, welch = (
            tallies[f"{test}{mark}: {kind}", LEVELS[0]].share().tests
            for test in ("ANOVA F", "Welch's F")
        )
        rows.append([kind, *map(_at_both_levels, shares), f"{100 * (1 - welch / every):.1f}"])
    return table(("kind", *tests, "Welch undefined"), rows)


def _at_both_levels(shares: Sequence[Share]) -> str:
    if np.isnan(shares[0].share):
        return "none"
    text = " / ".join(percent(share.share) for share in shares)
    wrong = any(share.low > level for share, level in zip(shares, LEVELS, strict=True))
    return f"**{text}**" if wrong else text


def _rate_table(tallies: Tallies) -> str:
    rows: list[Sequence[object]] = []
    names = {
        ("BH", "units"): "`units.q_value`",
        ("BY", "units"): "`units.by_q_value`",
        ("BH", "unit_classes"): "`unit_classes.q_value`",
        ("BY", "unit_classes"): "Benjamini-Yekutieli of `unit_classes.p_value` (not in the tables)",
    }
    for (adjust, family), name in names.items():
        for rate in RATES:
            shares = [tallies[adjust, family, rate, case].share() for case in ("none", "planted")]
            rows.append([name, f"{100 * rate:g} %", *_rates(shares, rate)])
    for family in ("units", "unit_classes"):
        for rate in RATES:
            shares = [tallies["BH", family + EQUAL, rate, "none"].share()]
            name = f"`{family}.q_value`, {IMAGES // CLASSES} images in each class"
            rows.append([name, f"{100 * rate:g} %", *_rates(shares, rate), ""])
    shares = [tallies["max-T", case].share() for case in ("none", "planted")]
    rows.append(["any unit by `fwer_p`", "5 %", *_rates(shares, 0.05)])
    return table(("procedure", "level", "nothing to be found", "planted"), rows)


def _rates(shares: Sequence[Share], rate: float) -> list[str]:
    return [f"{with_interval(share)} {verdict(share, rate, RATE_WORDS)}" for share in shares]


def _covered(share: Share) -> str:
    if not share.tests:
        return "none"
    return f"{with_interval(share)} {verdict(share, COVERAGE, COVERAGE_WORDS)}".strip()


def _coverage_table(tallies: Tallies, interval: str, columns: dict[str, tuple[str, str]]) -> str:
    rows = [
        [size, *(_covered(tallies[interval, size, *key].share()) for key in columns.values())]
        for size in CLASS_SIZES
    ]
    return table(("images", *columns), rows)


AREA_COLUMNS = {
    "no preference, at most 50 % zeros": ("none", "dense"),
    "no preference, 90 and 98 % zeros": ("none", "sparse"),
    "planted, at most 50 % zeros": ("planted", "dense"),
    "planted, 90 and 98 % zeros": ("planted", "sparse"),
}
G_COLUMNS = {
    "no preference, all units": ("none", "all"),
    "planted, linear units": ("planted", "linear"),
    "planted, at most 50 % zeros": ("planted", "dense"),
    "planted, 90 and 98 % zeros": ("planted", "sparse"),
}


def _power_table(tallies: Tallies) -> str:
    procedures = ("BH at 1 %", "BY at 1 %", "max-T at 5 %", "class against rest, BH at 1 %")
    rows = [
        [
            f"{effect:g}",
            *(percent(tallies["power", each, effect].share().share) for each in procedures),
        ]
        for effect in EFFECTS
    ]
    return table(("sd", *procedures), rows)


def written(page: str, text: str) -> str:
    """Return a page with the text between the two comments.

    Raises
    ------
    ValueError
        Where the page has not each comment once, in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"expected {BEGIN} and then {END} once in the page")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=1_000)
    parser.add_argument("--quick", action="store_true", help="20 recordings, to try it")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    recordings = 20 if arguments.quick else arguments.recordings
    began = time.perf_counter()
    tallies = measure(recordings)
    text = report(tallies, recordings, began)
    print(text)
    if arguments.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
