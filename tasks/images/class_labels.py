"""From labels as sources give them, numbers or texts, to class names and codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.images.class_names import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from activarium.schemas.config import ClassOrder

MOST_CLASSES = 100_000
"""A larger label is taken for something else than a class number."""


def class_names_of(
    values: Iterable[Any], where: str, *, order: ClassOrder = "text"
) -> tuple[str, ...]:
    """Return a name per class: sorted texts, or the numbers from 0 to the largest; none without labels.

    Parameters
    ----------
    values
        Labels that occur: numbers, texts, or None for no label.
    where
        What holds them, for messages.
    order
        Of names, where labels are texts.

    Raises
    ------
    UserError
        If they are no labels.
    """
    present = [value for value in values if value is not None]
    if not present:
        return ()
    kinds = {type(label) for label in present}
    if kinds == {str}:
        return in_order(set(present), order)
    if not kinds <= {int, bool}:
        strange = next(each.__name__ for each in kinds - {int, bool})
        raise UserError(f"{where}: labels are {strange}, expected class numbers from 0 or names")
    labels = set(present)
    most = max(int(label) for label in labels)
    if most >= MOST_CLASSES:
        raise UserError(
            f"{where}: the label {most:,} is too large, expected class numbers from 0 to "
            f"{MOST_CLASSES - 1:,}: are these the labels?"
        )
    return tuple(str(code) for code in range(most + 1))


def class_codes_of(
    values: Sequence[Any], class_names: Sequence[str], where: str
) -> NDArray[np.int32]:
    """Return a class code per image, -1 where a label is None or a negative number.

    Raises
    ------
    UserError
        If there is no class of a label, or two classes of its name.
    """
    known = {name: code for code, name in enumerate(class_names)}
    double = {name for name in known if class_names.count(name) > 1}
    found = []
    for row, value in enumerate(values):
        code = known.get(value, value) if isinstance(value, str) else value
        code = -1 if code is None or (isinstance(code, int) and code < 0) else code
        if isinstance(value, str) and value in double:
            raise UserError(
                f"{where}: image {row} has the label {value!r}, which is the name of two classes: "
                "give the labels as class numbers"
            )
        if not isinstance(code, int) or code >= len(class_names):
            raise UserError(
                f"{where}: image {row} has the label {value!r}, but there are names of "
                f"{len(class_names)} classes"
            )
        found.append(code)
    return np.array(found, np.int32)
