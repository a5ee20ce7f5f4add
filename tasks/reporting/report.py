"""Write the report page: one HTML file that opens anywhere and needs nothing beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import ReportReceipt
from activarium.tasks.progress import reading, silent
from activarium.tasks.reporting.page_files import json_inside, render, replace_page
from activarium.tasks.reporting.report_data import report_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress

_SCRIPTS = (
    "format", "data", "controls", "depth", "where", "which", "barcode", "unit", "images", "tables",
    "beyond", "pairs", "page",
)  # fmt: skip


def render_report(payload: dict[str, Any], *, title: str) -> str:
    """Return the page as HTML, with styles, scripts, data and pictures inside."""
    return render(
        "page",
        styles=("page",),
        scripts=_SCRIPTS,
        title=title,
        main=payload["recordings"][0],
        controls=payload["recordings"][1:],
        answer=payload["answer"],
        verdicts=payload["verdicts"],
        payload=json_inside(payload),
    )


def write_report(
    atlas: Atlas,
    recordings: Sequence[str],
    *,
    name: str,
    title: str | None = None,
    progress: Progress = silent,
) -> ReportReceipt:
    """Write the report page of a recording and its controls.

    Parameters
    ----------
    recordings
        The main recording first, then the controls, such as the untrained model's.
    name
        Names the file.
    title
        Heading; made of model and test set by default.
    progress
        Told that the page is being made.

    Raises
    ------
    UserError
        Without a recording, and where a table that every report needs is missing.
    """
    if not recordings:
        raise UserError("expected at least one recording to report on, got none")
    with reading(progress)(f"writing the report {name}", None):
        payload = report_payload(atlas, recordings)
        facts = payload["recordings"][0]["facts"]
        page = render_report(payload, title=title or f"{facts['model']} on {facts['test_set']}")
    path = atlas.report(name)
    made = replace_page(path, page, progress=progress)
    return ReportReceipt(path=path, recordings=tuple(recordings), made=made)
