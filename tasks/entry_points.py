"""Entry points: Python functions of the user, named as `package.module:function`."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

LOADING = logging.getLogger("activarium.loading")
"""Tells which files of others are loaded, before they are."""

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


FOREIGN = (Exception, SystemExit, GeneratorExit)
"""What the user's own code may raise: `sys.exit` in it ends no run of ours without a word."""


MOST_REASON = 1_000
"""Letters of another program's message."""


def is_entry_point(text: str) -> bool:
    """Return whether the text has the form of an entry point, such as `package.module:function`."""
    return REFERENCE.fullmatch(text) is not None


def load_entry_point(
    reference: str, *, folder: Path | None = None, setting: str
) -> Callable[..., Any]:
    """Return the function that a reference names.

    Parameters
    ----------
    reference
        `package.module:function`.
    folder
        Where the module lies, if it is not installed; by default the current folder. It stays at
        the end of `sys.path`, so that no file in it hides an installed module.
    setting
        Name of the setting, for the message.

    Raises
    ------
    UserError
        If the reference has another form, its module cannot be imported, or it is no function.
    """
    if not is_entry_point(reference):
        raise UserError(f"{setting}: expected package.module:function, got {reference!r}")
    name, _, attribute = reference.partition(":")
    place = str((folder or Path.cwd()).resolve())
    if place not in sys.path:
        sys.path.append(place)
    importlib.invalidate_caches()
    if (file := _file_of(name)) is not None:
        LOADING.info("%s: running the code of %s", setting, file)
    try:
        found: Any = importlib.import_module(name)
    except FOREIGN as error:  # the user's own code runs here
        raise UserError(
            f"{setting}: cannot import {name!r} ({one_line(error)}); looked in the installed "
            f"packages and in {place}"
        ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part, None)
        except FOREIGN as error:  # modules can compute their attributes
            raise UserError(f"{setting}: {reference!r} failed: {one_line(error)}") from error
    if not callable(found):
        what = "has no such function" if found is None else f"is a {type(found).__name__}"
        raise UserError(f"{setting}: {reference!r} {what}; expected package.module:function")
    function: Callable[..., Any] = found
    return function


def _file_of(module: str) -> str | None:
    """Return the file or folder of a module's package, of which nothing is run for that.

    None where there is no such package.
    """
    package = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # one that hides where it comes from
        return f"the module {package}"
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    return (folders[0] if folders else spec.origin) or f"the module {package}"


def one_line(error: BaseException) -> str:
    """Return an error of foreign code as one line with its kind."""
    try:
        text = shortened(" ".join(str(error).split()), MOST_REASON)
    except Exception:  # noqa: BLE001 - of classes of the user's, whose text can fail too
        text = ""
    if isinstance(error, SystemExit):
        return f"SystemExit (it ended the program with {shortened(repr(error.code))})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
