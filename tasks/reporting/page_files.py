"""Pages: rendered from a template with styles and pictures inside, written where they differ."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from activarium.schemas.errors import UserError, shown
from activarium.tasks.progress import begin_work, silent
from activarium.tasks.reporting.report_words import percent
from activarium.tasks.stores.checksum_files import (
    HAS_CHECKSUM,
    checksum_file,
    checksum_line,
    write_checked,
)
from activarium.tasks.stores.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.tasks.progress import Progress

KINDS = {"page": "a recording", "series": "series", "similarity": "a comparison"}
"""Of what the page of each template is."""
_HEAD_BYTES = 100_000
_FOLDER = Path(__file__).with_name("report_page")


def render(
    template: str,
    *,
    of: Sequence[str],
    styles: Sequence[str],
    scripts: Sequence[str] = (),
    **values: Any,
) -> str:
    """Return a page as HTML that needs nothing beside it.

    Parameters
    ----------
    template
        Name of the page's template.
    of
        Ids of the recordings that it shows.
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
    page = environment.get_template(f"{template}.html.jinja").render(
        style=_joined(styles, "css"),
        script=_joined(scripts, "js"),
        kind=KINDS[template],
        of=of,
        **values,
    )
    # The templates hold nothing that cannot be seen; names of classes and images may.
    return shown(page, kept="\n\t")


def _joined(names: Sequence[str], kind: str) -> Markup:
    texts = ((_FOLDER / f"{name}.{kind}").read_text("utf-8") for name in names)
    return Markup("\n".join(texts))  # noqa: S704 - files of our own


class Written(NamedTuple):
    """What became of a page."""

    made: bool
    """Whether it differs from what was there."""
    notices: tuple[str, ...] = ()
    """Which page of other recordings it took the place of."""


def replace_page(path: Path, page: str, *, progress: Progress = silent) -> Written:
    """Write a page where it differs from what is there, with its checksum.

    Raises
    ------
    UserError
        If a page of another kind has that name, which would be lost.
    """
    content = page.encode("utf-8") + HAS_CHECKSUM
    checksum = checksum_file(path)
    there = path.read_bytes() if path.is_file() else b""
    if there == content:
        line = checksum_line(content, path.name)
        if not checksum.is_file() or checksum.read_bytes() != line:
            begin_work(progress)
            write_bytes(checksum, line)
        return Written(made=False)
    old, new = (_said(each, "page") for each in (there, content))
    # Pages of before say nothing of their kind.
    if old and new and old != new:
        raise UserError(
            f"{path} is the page of {old}, and this would be one of {new}: give it another name "
            "(--name, or name in the configuration), or delete that page"
        )
    begin_work(progress)
    write_checked(path, content)
    before, now = (_said(each, "recordings").split() for each in (there, content))
    if not before or {*before} & {*now}:
        return Written(made=True)
    return Written(True, (f"{path} was the page of {before[0]} and is now that of {now[0]}",))


def _said(page: bytes, what: str) -> str:
    """Return what a page's head says of its kind or its recordings; empty where it says nothing."""
    pattern = f'<meta name="activarium-{what}" content="([^"]*)">'
    found = re.search(pattern.encode(), page[:_HEAD_BYTES])
    return found[1].decode("utf-8") if found else ""


def json_inside(payload: Any) -> Markup:
    """Return data as JSON that can stand inside a page's <script>."""
    text = json.dumps(_shown_within(payload), separators=(",", ":"), allow_nan=False)
    # Inside <script> only `<` can end the element or open a comment; the rest of JSON is safe.
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped here


def _shown_within(value: Any) -> Any:
    """Return data whose texts a page may show."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {_shown_within(key): _shown_within(each) for key, each in value.items()}
    return [_shown_within(each) for each in value] if isinstance(value, list | tuple) else value
