"""Write the report page: one HTML file that opens anywhere and needs nothing beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import ReportReceipt
from activarium.tasks.progress import reading, silent
from activarium.tasks.reporting.page_files import json_inside, render, replace_page
from activarium.tasks.reporting.report_data import report_payload
from activarium.tasks.stores.table_reading import read_settled
from activarium.tasks.stores.table_sets import ANALYSIS, MAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress

_SCRIPTS = (
    "format", "data", "controls", "depth", "where", "which", "barcode", "unit", "images", "tables",
    "beyond", "pairs", "page",
)  # fmt: skip
SHOWN = (ANALYSIS, MAP)
"""Kinds of sets that a page reads."""


def render_report(payload: dict[str, Any], *, of: Sequence[str], title: str) -> str:
    """Return the page as HTML, with styles, scripts, data and pictures inside."""
    return render(
        "page",
        of=of,
        styles=("page",),
        scripts=_SCRIPTS,
        title=title,
        main=payload["recordings"][0],
        controls=payload["recordings"][1:],
        answer=payload["answer"],
        selection=payload["selection"],
        verdicts=payload["verdicts"],
        notices=payload["notices"],
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
        Without a recording, where a table that every report needs is missing, and where tables are damaged or
        of two pieces of work.
    """
    if not recordings:
        raise UserError("expected at least one recording to report on, got none")
    with reading(progress)(f"writing the report {name}", None):
        payload = read_settled(atlas, recordings, lambda: report_payload(atlas, recordings), SHOWN)
        page = render_report(payload, of=recordings, title=title or payload["title"])
    path = atlas.report(name)
    written = replace_page(path, page, progress=progress)
    notices = (*payload["notices"], *written.notices)
    return ReportReceipt(
        path=path, recordings=tuple(recordings), made=written.made, notices=notices
    )
