"""What the report page says of a selection: which images, and in which classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from activarium.schemas.atlas import SELECTION_MARK
from activarium.tasks.reporting.report_tables import images_of_classes

if TYPE_CHECKING:
    from activarium.tasks.reporting.report_tables import RecordingTables

_GROUPS = 8
"""Groups whose images are counted in words."""


def selected_by(tables: RecordingTables) -> dict[str, str]:
    """Return what was selected (where, where_of, classes); nothing of a whole recording."""
    text = tables.facts.get("selection")
    found: dict[str, str] = json.loads(text) if text else {}
    return found


def has_own_classes(tables: RecordingTables) -> bool:
    """Return whether the classes are groups, which are none of the model's."""
    return "classes" in selected_by(tables)


def selection_words(tables: RecordingTables) -> list[str]:
    """Return which images and classes are looked at, as sentences; none of a whole recording."""
    said, facts = selected_by(tables), tables.facts
    if not said:
        return []
    taken = f"{facts['analysed_images']:,} of {facts['images']:,} images"
    sentences = [f"A selection of {facts['selection_of']}: {taken}."]
    if "where" in said:
        of = f" (by the answers of {said['where_of']})" if "where_of" in said else ""
        sentences.append(f"Images for which \u201c{said['where']}\u201d holds{of}.")
    if "classes" in said:
        counts = images_of_classes(tables.images)
        shown = [f"{name} ({images:,})" for name, images in counts.items()]
        more = f" and {len(shown) - _GROUPS} more" if len(shown) > _GROUPS else ""
        file = said["classes"].partition(" (sha256")[0]
        sentences.append(
            f"Classes in {len(shown)} groups of {file}: {', '.join(shown[:_GROUPS])}{more}; other "
            "classes are left out. The model\u2019s accuracy is over its own classes, and not shown."
        )
    return sentences


def title_of(tables: RecordingTables) -> str:
    """Return the heading of a page: model and test set, and the name of a selection."""
    name = tables.recording.partition(SELECTION_MARK)[2]
    heading = f"{tables.facts['model']} on {tables.facts['test_set']}"
    return f"{heading}, selection {name}" if name else heading
