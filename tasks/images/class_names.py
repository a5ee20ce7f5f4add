"""Names of classes: told apart where two are alike, and their order."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from activarium.schemas.config import ClassOrder


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of which no two are alike: the second `crane` becomes `crane (2)`.

    >>> distinct_names(["crane", "dog", "crane"])
    ('crane', 'dog', 'crane (2)')
    """
    taken, met, found = set(names), Counter[str](), []
    for name in names:
        met[name] += 1
        told = name
        while met[name] > 1 and told in taken:
            told = f"{name} ({met[name]})"
            met[name] += told in taken
        taken.add(told)
        found.append(told)
    return tuple(found)


def renaming_note(names: Sequence[str], distinct: Sequence[str]) -> tuple[str, ...]:
    """Return a line about names that were made different; empty where none was."""
    renamed = [repr(new) for old, new in zip(names, distinct, strict=True) if old != new]
    if not renamed:
        return ()
    first = ", ".join(renamed[:3]) + (", ..." if len(renamed) > 3 else "")
    return (f"classes of the same name are told apart: {len(renamed)} of them became {first}",)


def in_order(names: Iterable[str], order: ClassOrder) -> tuple[str, ...]:
    """Return names sorted as text, or with the numbers in them by their size.

    >>> in_order(["10", "9", "b2", "b10"], "natural")
    ('9', '10', 'b2', 'b10')
    """
    return tuple(sorted(names, key=_natural_key if order == "natural" else None))


def _natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    parts = re.split(r"([0-9]+)", name)
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part.lstrip("0"))
        for part in parts
        if part
    ], name


def text_order_note(names: Sequence[str], outputs: int) -> tuple[str, ...]:
    """Return a line where as many classes as outputs, numbered, are sorted as text.

    Parameters
    ----------
    names
        The classes' names, in the order of their codes.
    outputs
        Number of the model's outputs, which may be in the order of the numbers.
    """
    is_numbered = len({re.sub(r"[0-9]+", "0", name) for name in names}) == 1
    is_text = tuple(names) == in_order(names, "text") != in_order(names, "natural")
    if len(names) != outputs or not is_numbered or not is_text:
        return ()
    first = ", ".join(names[:4])
    return (
        f"the {len(names)} classes are sorted as text ({first}, ...); where the model's outputs are in "
        "the order of the numbers, set test_set.class_order: natural",
    )
