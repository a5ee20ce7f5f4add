"""The report page's answer in words, computed from the tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.atlas import UNTRAINED
from activarium.tasks.reporting.report_selection import has_own_classes, selected_by
from activarium.tasks.reporting.report_tables import images_of_classes, numbers
from activarium.tasks.statistics.comparable_classes import NOTHING_VARIES, why_not_compared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.tasks.reporting.report_tables import RecordingTables

_UNKNOWN = (
    "Nothing can be said about a preference for classes: the tables hold no class statistics."
)
_NO_PREFERENCE = "No unit responds differently to the classes beyond chance."
_RISE = 1.5
_FLAT = 1.15


def labels_of(recordings: Sequence[RecordingTables]) -> list[str]:
    """Return one short, distinct name per recording."""
    checkpoints = [str(tables.facts["checkpoint"]) for tables in recordings]
    controls = checkpoints.count(UNTRAINED)
    if len(recordings) - controls == 1 and controls <= 1:
        return [UNTRAINED if name == UNTRAINED else "trained" for name in checkpoints]
    if len(set(checkpoints)) == len(checkpoints):
        return checkpoints
    return [tables.recording for tables in recordings]


def percent(value: float) -> str:
    r"""Return a share as a percentage with a sensible number of digits.

    >>> percent(0.4123), percent(0.0312), percent(0.0004), percent(0)
    ('41\u202f%', '3.1\u202f%', '0.04\u202f%', '0\u202f%')
    """
    number = 100 * value
    digits = 0 if number == 0 or number >= 10 else 1 if number >= 1 else 2
    text = f"{number:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\u202f%"


def answer(recordings: Sequence[RecordingTables], labels: Sequence[str]) -> list[str]:
    """Return the answer as sentences, the one about the effect first."""
    main = recordings[0]
    path = _explained(main)
    if not path:
        return [without_classes(main) or _sentence(NOTHING_VARIES)]
    first = (
        f"The share of a unit's response variance associated with the class {_course(path)} "
        f"{in_network(labels[0])}"
    )
    if key_figures(main)["significant"] == 0:
        return [_NO_PREFERENCE, f"{first}.", *_significance(recordings, labels)]
    others = [
        _control_clause(_explained(tables), label, place=place)
        for place, (tables, label) in enumerate(zip(recordings[1:], labels[1:], strict=True))
    ]
    clauses = [clause for clause in others if clause]
    return [f"{'; '.join([first, *clauses])}.", *_significance(recordings, labels)]


def without_classes(tables: RecordingTables) -> str:
    """Return why the tables say nothing of classes, as a sentence; empty where they do."""
    if not np.isnan(numbers(tables.layers, "eta2_mean")).all():
        return ""
    why = why_not_compared(images_of_classes(tables.images))
    return _sentence(why) if why else _UNKNOWN


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _explained(tables: RecordingTables) -> list[tuple[str, float]]:
    rows = zip(
        tables.layers["layer"].to_pylist(),
        numbers(tables.layers, "eta2_mean"),
        numbers(tables.layers, "dead_fraction"),
        strict=True,
    )
    # A layer of dead units alone, such as a head that starts at zero, says nothing.
    return [
        (layer, float(value)) for layer, value, dead in rows if not math.isnan(value) and dead < 1
    ]


def _course(path: list[tuple[str, float]]) -> str:
    (first, start), (last, end) = path[0], path[-1]
    peak, top = max(path, key=lambda entry: entry[1])
    low = min(value for _, value in path)
    if top <= low * _FLAT:
        return f"stays between {percent(low)} and {percent(top)}"
    if peak == last or (end >= top / _FLAT and end > start):
        return f"rises from {percent(start)} ({first}) to {percent(end)} ({last})"
    if top >= start * _RISE:
        return (
            f"rises from {percent(start)} ({first}) to {percent(top)} ({peak}) "
            f"and ends at {percent(end)} ({last})"
        )
    return f"goes from {percent(start)} ({first}) to {percent(end)} ({last})"


def in_network(label: str) -> str:
    """Return where something holds, as words.

    >>> in_network("untrained"), in_network("epoch-5")
    ('in the untrained network', 'in epoch-5')
    """
    return f"in the {label} network" if label in {"trained", UNTRAINED} else f"in {label}"


def _control_clause(path: list[tuple[str, float]], label: str, *, place: int) -> str:
    if not path:
        return ""
    top = max(value for _, value in path)
    # Rounded up, because the sentence says "below".
    bound = (math.floor(top * 100) + 1) / 100
    where = (
        "in one untrained network (one draw)"
        if label == UNTRAINED and place == 0
        else in_network(label)
    )
    return f"{where} it stays below {bound * 100:.0f}\u202f%"


def _significance(recordings: Sequence[RecordingTables], labels: Sequence[str]) -> list[str]:
    main = key_figures(recordings[0])
    if main["significant_share"] is None:
        return []
    text = (
        f"At a false discovery rate of {percent(main['fdr'])}, {main['significant']:,} of "
        f"{main['units']:,} units ({percent(main['significant_share'])}) respond differently to the classes"
    )
    shares = [
        f"{in_network(label)} {figures['significant']:,} of {figures['units']:,} do"
        for figures, label in zip(map(key_figures, recordings[1:]), labels[1:], strict=True)
        if figures["significant_share"] is not None
    ]
    return [f"{text}; {', '.join(shares)}." if shares else f"{text}."]


def key_figures(tables: RecordingTables) -> dict[str, Any]:
    """Return the counts and shares that head the page."""
    facts, units = tables.facts, tables.units
    q, fdr = numbers(units, "q_value"), numbers(tables.layers, "fdr")
    tested = int((~np.isnan(q)).sum())
    rate = float(fdr[0]) if len(fdr) else None
    significant = int((q <= rate).sum()) if rate is not None else 0
    return {
        # Of groups of classes the model knows nothing.
        "accuracy": None if has_own_classes(tables) else facts["accuracy"],
        "images": facts["analysed_images"] if selected_by(tables) else facts["images"],
        "invalid_images": facts["invalid_images"],
        "units": units.num_rows,
        "layers": tables.layers.num_rows,
        "classes": facts["classes"],
        "grouped": has_own_classes(tables),
        "fdr": rate,
        "significant": significant,
        "significant_share": significant / units.num_rows if tested else None,
        "dead": int(np.count_nonzero(units["is_dead"].to_numpy(zero_copy_only=False))),
    }
