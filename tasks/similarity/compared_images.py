"""The images of a comparison: the same in all recordings, and valid in both of a pair."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.tasks.stores.recording import Recording


def check_same_images(first: Recording, second: Recording) -> None:
    """Refuse recordings of different images, or of the same in another order or other classes.

    Raises
    ------
    UserError
        One line that names the first row that differs, and both of its ids.
    """
    names, others = first.image_names, second.image_names
    row = _first_difference(names, others)
    if row is not None:
        same = (
            "the same images in another order" if _are_permuted(names, others) else "other images"
        )
        raise UserError(
            f"compare: expected recordings of the same images, got {first.name} and {second.name}, "
            f"which holds {same}: row {row} is {_at(names, row)} in the first and "
            f"{_at(others, row)} in the second; record both over the same test set"
        )
    classes, others = _class_of_each(first), _class_of_each(second)
    row = _first_difference(classes, others)
    if row is not None:
        raise UserError(
            f"compare: expected the same classes in {first.name} and {second.name}, got "
            f"{classes[row]!r} and {others[row]!r} for the image {names[row]!r} in row {row}; "
            "record both over the same test set"
        )


def _first_difference(first: Sequence[str], second: Sequence[str]) -> int | None:
    pairs = enumerate(zip_longest(first, second))
    return next((row for row, (one, other) in pairs if one != other), None)


def _are_permuted(first: Sequence[str], second: Sequence[str]) -> bool:
    return len(first) == len(second) and set(first) == set(second)


def _at(names: Sequence[str], row: int) -> str:
    return repr(names[row]) if row < len(names) else "missing"


def _class_of_each(recording: Recording) -> list[str]:
    return recording.text("image_class")


def common_rows(first: Recording, second: Recording) -> NDArray[np.int64]:
    """Return the rows of the images that are valid in both recordings.

    Raises
    ------
    UserError
        If there is none.
    """
    row = np.flatnonzero(first.valid & second.valid)
    if not row.size:
        names = dict.fromkeys((first.name, second.name))
        raise UserError(
            f"compare: expected images that are valid in {' and '.join(names)}, got none; "
            "`activarium query` tells them from the table images"
        )
    return row
