"""Write the report page: one HTML file that opens anywhere and needs nothing beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import ReportReceipt
from activarium.tasks.reporting.report_data import report_payload
from activarium.tasks.reporting.report_words import percent
from activarium.tasks.stores.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.atlas import Atlas

_PAGE = Path(__file__).with_name("report_page")
_SCRIPTS = (
    "format", "data", "controls", "depth", "where", "which", "barcode", "unit", "images", "tables",
    "beyond", "pairs", "page",
)  # fmt: skip


def render_report(payload: dict[str, Any], *, title: str) -> str:
    """Return the page as HTML, with styles, scripts, data and pictures inside."""
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    scripts = "\n".join((_PAGE / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)
    return environment.get_template("page.html.jinja").render(
        title=title,
        main=payload["recordings"][0],
        controls=payload["recordings"][1:],
        answer=payload["answer"],
        verdicts=payload["verdicts"],
        style=Markup((_PAGE / "page.css").read_text("utf-8")),  # noqa: S704 - a file of our own
        script=Markup(scripts),  # noqa: S704 - files of our own
        payload=_safe_json(payload),
    )


def write_report(
    atlas: Atlas, recordings: Sequence[str], *, name: str, title: str | None = None
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

    Raises
    ------
    UserError
        Without a recording, and where a table that every report needs is missing.
    """
    if not recordings:
        raise UserError("expected at least one recording to report on, got none")
    payload = report_payload(atlas, recordings)
    facts = payload["recordings"][0]["facts"]
    page = render_report(payload, title=title or f"{facts['model']} on {facts['test_set']}")
    path = atlas.report(name)
    made = _replace(path, page.encode("utf-8"))
    return ReportReceipt(path=path, recordings=tuple(recordings), made=made)


def _safe_json(payload: dict[str, Any]) -> Markup:
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    # Inside <script> only `<` can end the element or open a comment; the rest of JSON is safe.
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped here


def _replace(path: Path, content: bytes) -> bool:
    """Write the page where it differs from what is there; return whether it did."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write_bytes(path, content)
    return True
