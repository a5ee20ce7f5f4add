"""Classes put together in groups, as a CSV file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.analysis.two_column_files import meant, read_two_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_SHOWN = 10
"""Classes that a message names."""


class ClassGroups(NamedTuple):
    """Classes put together in groups."""

    names: tuple[str, ...]
    """Names of the groups, in order of first appearance in the file."""
    codes: NDArray[np.int64]
    """Group code of each class, shape (class,); -1 for a class that the file does not name."""
    left_out: tuple[str, ...]
    """Names of the classes without a group."""


def class_groups(path: str | Path, class_names: Sequence[str]) -> ClassGroups:
    """Return the groups that a CSV file of two columns, class and group, puts classes into.

    The first line is a header with any two names. Blanks around names are ignored, unless they
    are part of a class name.

    Parameters
    ----------
    path
        The file, UTF-8.
    class_names
        Name of each class.

    Raises
    ------
    UserError
        If the file cannot be read, has other than two columns, names no group, a class that does
        not exist, or a class twice with different groups.
    """
    table = read_two_columns(Path(path), "class,group")
    known = {name: code for code, name in enumerate(class_names)}
    first = table.header[0]
    if first in known and first.casefold() != "class":
        raise UserError(
            f"{path}, line 1: expected a header such as class,group, got class {first!r}"
        )
    codes = np.full(len(class_names), -1, np.int64)
    groups: dict[str, int] = {}
    for line, cell, group in table.rows:
        name = cell if cell in known else cell.strip()
        if name not in known:
            raise UserError(f"{path}, line {line}: no class {name!r}{_known(name, class_names)}")
        if not group.strip():
            raise UserError(f"{path}, line {line}: class {name!r} has no group")
        code = groups.setdefault(group.strip(), len(groups))
        if codes[known[name]] not in {-1, code}:
            before = list(groups)[codes[known[name]]]
            raise UserError(
                f"{path}, line {line}: class {name!r} is in group {group.strip()!r}, "
                f"but before it was in {before!r}"
            )
        codes[known[name]] = code
    if not groups:
        raise UserError(f"{path}: names no group, expected lines of class,group below the header")
    left_out = tuple(name for name, code in zip(class_names, codes, strict=True) if code < 0)
    return ClassGroups(tuple(groups), codes, left_out)


def _known(name: str, names: Sequence[str]) -> str:
    """Return what was meant, or the first classes that there are."""
    more = " ..." if len(names) > _SHOWN else ""
    return meant(name, names) or f", expected one of {', '.join(names[:_SHOWN])}{more}"
