"""The verdicts in words, for the command line and the page: beyond chance, beyond untrained networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.layer_tables import UNDECIDED, VERDICTS
from activarium.tasks.reporting.report_tables import numbers
from activarium.tasks.reporting.report_words import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.tasks.reporting.report_tables import RecordingTables

_MEASURES = {
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
    "analysis ran without untrained networks among its controls."
)
_BEYOND = VERDICTS[0]


def verdicts(main: RecordingTables) -> dict[str, Any]:
    """Return the answer in sentences, and what cannot be answered for want of a control.

    Returns
    -------
    `lead`, the verdict of the last hidden layer and which layers are beyond untrained networks;
    `trend`, the course over depth; `missing`, one sentence per control that was not there;
    `measured`, whether there is anything to draw; `judged`, whether any layer was set against a
    control.
    """
    layers = main.layers.to_pylist()
    if np.isnan(numbers(main.layers, "eta2_mean")).all():
        return {
            "measured": False, "judged": False, "lead": _NO_CLASSES, "trend": "", "missing": [],
        }  # fmt: skip
    judged = any(row["chance_verdict"] or row["architecture_verdict"] for row in layers)
    return {
        "measured": True,
        "judged": judged,
        "lead": lead(layers),
        "trend": _trend(main),
        "missing": _missing(main),
    }


def lead(layers: Sequence[dict[str, Any]]) -> str:
    """Return what the layers say together: the last hidden one, the output apart, and which are beyond.

    One layer that is named before its numbers are seen stands for the network: layers depend on each
    other, and the largest of them would be chosen by what it shows.

    Parameters
    ----------
    layers
        Rows of `layers` in order of depth.
    """
    alive = [row for row in layers if row["eta2_mean"] is not None and row["dead_fraction"] < 1]
    # A layer that repeats another says nothing of its own.
    known = [row for row in alive if row["duplicates_layer"] is None]
    if not known:
        return ""
    hidden, output = last_hidden(known)
    which = "last hidden layer" if output is not None else "last layer"
    text = (
        f"In the {which}, {hidden['layer']}, the class is associated with "
        f"{percent(hidden['eta2_mean'])} of a unit's variance"
    )
    beside = [each for each in (_untrained(hidden), _shuffled(hidden)) if each]
    text += f", against {' and '.join(beside)}" if beside else ""
    sentences = [f"{text}: {' and '.join([_chance(hidden), *_architecture(hidden)])}."]
    if output is not None:
        sentences.append(
            f"The output, {output['layer']}, is trained on the classes and stands apart "
            f"({percent(output['eta2_mean'])})."
        )
    beyond = [row["layer"] for row in known if row["architecture_verdict"] == _BEYOND]
    if beyond:
        sentences.append(
            f"Beyond untrained networks, over all layers together: {_range(beyond, known)}."
        )
    return " ".join(sentences)


def last_hidden(
    layers: Sequence[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the last hidden layer, and the output: a linear layer that is the last of several."""
    *before, last = layers
    return (before[-1], last) if before and last["kind"] == "linear" else (last, None)


def _untrained(row: dict[str, Any]) -> str:
    draws, mean = row["draws"], row["eta2_mean_untrained"]
    if not draws or mean is None:
        return ""
    if draws == 1:
        return f"{percent(mean)} in one draw of the untrained network"
    low, high = row["eta2_mean_untrained_low"], row["eta2_mean_untrained_high"]
    own = row["eta2_mean_sampled"]
    return (
        f"{percent(low)} to {percent(high)} in {draws} untrained networks (over {row['draw_images']:,} "
        f"images, {percent(own)} in this one)"
    )


def _shuffled(row: dict[str, Any]) -> str:
    value = row["eta2_mean_shuffled"]
    return "" if value is None else f"{percent(value)} with permuted labels"


def _chance(row: dict[str, Any]) -> str:
    said, p = row["chance_verdict"], row["permanova_p"]
    if said is None:
        return "not tested against permuted labels"
    if said == UNDECIDED:
        return "undecided against permuted labels (too few permutations)"
    return f"{said} permuted labels (p {probability(math.log10(p))})"


def _architecture(row: dict[str, Any]) -> list[str]:
    said, p = row["architecture_verdict"], row["eta2_mean_untrained_fwer_p"]
    if said is None:
        return []
    if said == UNDECIDED:
        draws = "one draw" if row["draws"] == 1 else f"{row['draws']} draws"
        return [f"undecided against untrained networks ({draws}; 19 can decide)"]
    return [f"{said} untrained networks (p {probability(math.log10(p))} over all layers)"]


def _range(names: Sequence[str], layers: Sequence[dict[str, Any]]) -> str:
    """Return layers by name, those that follow each other as a range.

    >>> _range(["a", "b", "c", "e"], [{"layer": each} for each in "abcde"])
    'a to c, e'
    """
    runs: list[list[str]] = []
    was_in = False
    for layer in layers:
        is_in = layer["layer"] in names
        if is_in and was_in:
            runs[-1].append(layer["layer"])
        elif is_in:
            runs.append([layer["layer"]])
        was_in = is_in
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def _missing(main: RecordingTables) -> list[str]:
    controls = {
        "permanova_p": _NOT_PERMUTED,
        "eta2_mean_shuffled": _NOT_SHUFFLED,
        "eta2_mean_untrained": _NOT_UNTRAINED,
    }
    layers = main.layers
    return [text for name, text in controls.items() if np.isnan(numbers(layers, name)).all()]


def _trend(main: RecordingTables) -> str:
    """Return the course over depth, as a description, and where it lies among untrained networks."""
    rows = {row["measure"]: row for row in main.trends.to_pylist()}
    row = rows.get("eta2")
    if row is None or row["spearman_rho"] is None:
        return ""
    text = f"Over depth, Spearman's \u03c1 of η² is {_signed(row['spearman_rho'])}"
    others = [
        f"{name} {_signed(rows[measure]['spearman_rho'])}"
        for measure, name in _MEASURES.items()
        if measure in rows and rows[measure]["spearman_rho"] is not None
    ]
    text += f" (of {', '.join(others)})" if others else ""
    return f"{text}: a description, as layers of one network resemble each other.{_among(row)}"


def _among(row: dict[str, Any]) -> str:
    mean, said = row["spearman_rho_untrained"], row["spearman_verdict"]
    if mean is None or said is None:
        return ""
    low, high = (_signed(row[f"spearman_rho_untrained_{end}"]) for end in ("low", "high"))
    if said == UNDECIDED:
        return " Too few untrained networks were drawn to tell whether it is uncommon among them."
    where = f"from {low} to {high}"
    verb = "lies outside" if said == _BEYOND else "does not lie outside"
    return (
        f" Among untrained networks η² has \u03c1 {where}; that of this one, over the same images "
        f"{_signed(row['spearman_rho_sampled'])}, {verb} what they show "
        f"(p {probability(math.log10(row['spearman_p']))})."
    )


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
