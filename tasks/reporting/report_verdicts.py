"""The report page's verdicts in words: beyond chance, beyond architecture, and over depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.reporting.report_tables import numbers
from activarium.tasks.reporting.report_words import in_network, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.tasks.reporting.report_tables import RecordingTables

TREND_LEVEL = 0.05
"""Level at which a measure counts as growing or falling with depth."""

_MEASURES = {
    "eta2": "η²",
    "epsilon2": "ε²",
    "auroc": "AUROC",
    "selectivity": "selectivity",
    "mutual_information": "mutual information",
    "sparseness": "sparseness",
}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NO_CLASSES = "There is nothing to set against chance: classes are not compared."
_NOT_PERMUTED = (
    "Not known here: whether the classes lie apart beyond chance, because the labels were not "
    "permuted (the analysis ran with permutations 0, or there are too few images)."
)
_NOT_SHUFFLED = (
    "Not known here: what each measure would be with permuted labels, because the analysis ran "
    "without the control “shuffle”."
)
_NOT_UNTRAINED = (
    "Not known here: whether the preference goes beyond the architecture, because the "
    "analysis ran without a recording of the untrained model among its controls."
)


def verdicts(recordings: Sequence[RecordingTables], labels: Sequence[str]) -> dict[str, Any]:
    """Return the answer in sentences, and what cannot be answered for want of a control.

    Returns
    -------
    `lead`, the verdict and the largest effect; `trend`, the course over depth; `missing`, one
    sentence per control that was not there; `measured`, whether there is anything to draw;
    `judged`, whether any layer was set against a control.
    """
    main = recordings[0]
    if np.isnan(numbers(main.layers, "eta2_mean")).all():
        return {
            "measured": False, "judged": False, "lead": _NO_CLASSES, "trend": "", "missing": [],
        }  # fmt: skip
    verdict = _verdict(main)
    return {
        "measured": True,
        "judged": bool(verdict),
        "lead": " ".join(filter(None, [verdict, _largest(main)])),
        "trend": " ".join(_trends(recordings, labels)),
        "missing": _missing(main),
    }


def _missing(main: RecordingTables) -> list[str]:
    controls = {
        "permanova_p": _NOT_PERMUTED,
        "eta2_mean_shuffled": _NOT_SHUFFLED,
        "architecture_p": _NOT_UNTRAINED,
    }
    layers = main.layers
    return [text for name, text in controls.items() if np.isnan(numbers(layers, name)).all()]


def _verdict(main: RecordingTables) -> str:
    chance = [value for value in main.layers["beyond_chance"].to_pylist() if value is not None]
    beyond = main.layers["beyond_architecture"].to_pylist()
    architecture = [value for value in beyond if value is not None]
    parts = []
    if chance:
        parts.append(f"the classes lie apart beyond chance in {_counted(chance)}")
    if architecture:
        parts.append(
            "the class explains significantly more than in the untrained network in "
            f"{_counted(architecture)}"
        )
    text = ", and ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _counted(found: list[bool]) -> str:
    """Return how many of the layers hold.

    >>> _counted([True, True]), _counted([True, False]), _counted([False, False]), _counted([True])
    ('all 2 layers', '1 of 2 layers', 'none of 2 layers', 'the one layer')
    """
    there = sum(found)
    if len(found) == 1:
        return "the one layer" if there else "no layer"
    which = "all" if there == len(found) else f"{there} of" if there else "none of"
    return f"{which} {len(found)} layers"


def _largest(main: RecordingTables) -> str:
    eta2 = numbers(main.layers, "eta2_mean")
    # A layer of dead units alone, such as a head that starts at zero, says nothing.
    eta2 = np.where(numbers(main.layers, "dead_fraction") < 1, eta2, np.nan)
    if np.isnan(eta2).all():
        return ""
    place = int(np.nanargmax(eta2))
    text = (
        f"The effect is largest in {main.layers['layer'][place].as_py()}: the class explains "
        f"{percent(float(eta2[place]))} of a unit's variance there"
    )
    others = [
        f"{percent(float(value))} {where}"
        for name, where in (
            ("eta2_mean_untrained", "without training"),
            ("eta2_mean_shuffled", "with permuted labels"),
        )
        if not math.isnan(value := numbers(main.layers, name)[place])
    ]
    return f"{text}, against {' and '.join(others)}." if others else f"{text}."


def _trends(recordings: Sequence[RecordingTables], labels: Sequence[str]) -> list[str]:
    rows = {row["measure"]: row for row in recordings[0].trends.to_pylist()}
    courses: dict[str, list[str]] = {"grow": [], "fall": [], "": []}
    for measure, name in _MEASURES.items():
        if measure in rows and measure != "eta2":
            courses[_course(rows[measure])].append(name)
    sentences = [_main_trend(rows["eta2"], recordings, labels)] if "eta2" in rows else []
    for course, names in courses.items():
        if names and course:
            verb = f"{course}s" if len(names) == 1 else course
            sentences.append(f"{_capital(_listed(names))} {verb} with depth.")
        elif names:
            verb = "shows" if len(names) == 1 else "show"
            sentences.append(f"{_capital(_listed(names))} {verb} no steady trend.")
    return sentences


def _course(row: dict[str, Any]) -> str:
    """Return grow or fall where the units say so and the layers' means do not contradict."""
    z, p, rho = (row[name] for name in ("jonckheere_z", "jonckheere_p", "spearman_rho"))
    if z is None or p is None or p > TREND_LEVEL or (rho is not None and rho * z <= 0):
        return ""
    return "grow" if z > 0 else "fall"


def _main_trend(
    row: dict[str, Any], recordings: Sequence[RecordingTables], labels: Sequence[str]
) -> str:
    course = {"grow": "grows", "fall": "falls", "": "shows no steady trend"}[_course(row)]
    tests = []
    if row["spearman_rho"] is not None:
        text = f"Spearman's \u03c1 {_signed(row['spearman_rho'])} over {row['layers']} layers"
        tests.append(text + _p(row["spearman_p"]))
    if row["jonckheere_z"] is not None:
        text = f"Jonckheere\u2013Terpstra z {_signed(row['jonckheere_z'], 1)} over {row['units']:,} units"
        tests.append(text + _p(row["jonckheere_p"], row["jonckheere_log10p"]))
    text = f"With depth η² {course}"
    if tests:
        text += f" ({'; '.join(tests)})"
    others = [
        f"{in_network(label)} \u03c1 is {_signed(rho)}"
        for tables, label in zip(recordings[1:], labels[1:], strict=True)
        if (rho := _rho(tables)) is not None
    ]
    return f"{'; '.join([text, *others])}."


def _rho(tables: RecordingTables) -> float | None:
    rows = [row for row in tables.trends.to_pylist() if row["measure"] == "eta2"]
    return rows[0]["spearman_rho"] if rows else None


def _p(p: float | None, log10p: float | None = None) -> str:
    if p is None:
        return ""
    return f", p {probability(log10p if log10p is not None else math.log10(p))}"


def probability(log10: float) -> str:
    """Return a p-value, given as its base-10 logarithm, as one reads it.

    >>> probability(math.log10(0.03)), probability(-44.98), probability(math.log10(0.00995))
    ('0.030', '1.0·10⁻⁴⁵', '1.0·10⁻²')
    """
    if log10 > -2:
        return f"{10**log10:.3f}"
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa}·10{str(exponent).translate(_SUPERSCRIPTS)}"


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "\u2212")


def _capital(text: str) -> str:
    return text if text[0] == "ε" else f"{text[:1].upper()}{text[1:]}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
