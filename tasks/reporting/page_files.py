"""Pages: rendered from a template with styles and pictures inside, written where they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from activarium.tasks.progress import begin_work, silent
from activarium.tasks.reporting.report_words import percent
from activarium.tasks.stores.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.tasks.progress import Progress

_FOLDER = Path(__file__).with_name("report_page")


def render(
    template: str, *, styles: Sequence[str], scripts: Sequence[str] = (), **values: Any
) -> str:
    """Return a page as HTML that needs nothing beside it.

    Parameters
    ----------
    template
        Name of the page's template.
    styles
        Names of its style sheets, which it holds as `style`.
    scripts
        Names of its scripts, which it holds as `script`.
    **values
        What else the template names; escaped where it is not marked as safe.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(f"{template}.html.jinja").render(
        style=_joined(styles, "css"), script=_joined(scripts, "js"), **values
    )


def _joined(names: Sequence[str], kind: str) -> Markup:
    texts = ((_FOLDER / f"{name}.{kind}").read_text("utf-8") for name in names)
    return Markup("\n".join(texts))  # noqa: S704 - files of our own


def replace_page(path: Path, page: str, *, progress: Progress = silent) -> bool:
    """Write a page where it differs from what is there; return whether it did."""
    content = page.encode("utf-8")
    if path.is_file() and path.read_bytes() == content:
        return False
    begin_work(progress)
    write_bytes(path, content)
    return True


def json_inside(payload: Any) -> Markup:
    """Return data as JSON that can stand inside a page's <script>."""
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    # Inside <script> only `<` can end the element or open a comment; the rest of JSON is safe.
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped here
