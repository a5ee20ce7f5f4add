"""The images of an analysis: which rows of the recording, and the class of each.

Blocks and layers read them from one file, so that every task works on the same choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.comparable_classes import comparable_classes
from activarium.tasks.stores.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ChosenImages:
    """Images in the order in which all tasks hold them.

    By class, so that statistics read each class in one piece, and by id within it, so that the
    order of the recording plays no part; images without a class come last.
    """

    row: NDArray[np.int64]
    """Row of each image in the recording, shape (image,)."""
    code: NDArray[np.int64]
    """Class of each labelled image, ascending, shape (labelled,)."""
    place: NDArray[np.int64]
    """Place of each labelled image among them by id alone, which no relabelling moves."""
    shuffled: NDArray[np.int64]
    """Permuted classes of the labelled images: the control."""
    class_names: tuple[str, ...]
    group: NDArray[np.int64] | None = None
    """Group of each image, in the order of `row`; None where no groups are declared."""

    @property
    def labelled(self) -> int:
        """Images with a class."""
        return len(self.code)

    @property
    def comparable(self) -> NDArray[np.bool_]:
        """Which classes have images enough to be compared, shape (class,)."""
        return comparable_classes(np.bincount(self.code, minlength=len(self.class_names)))

    @property
    def is_comparable(self) -> bool:
        """Whether classes can be compared at all."""
        return bool(self.comparable.any())

    def save(self, path: Path) -> None:
        """Write the choice to a file."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                row=self.row,
                code=self.code,
                place=self.place,
                shuffled=self.shuffled,
                class_names=np.array(self.class_names, dtype=str),
            )


def load_choice(path: Path) -> ChosenImages:
    """Return the choice that a file holds."""
    with np.load(path) as stored:
        names = tuple(str(name) for name in stored["class_names"])
        arrays = {name: stored[name] for name in ("row", "code", "place", "shuffled")}
    return ChosenImages(class_names=names, **arrays)


def arrange_images(
    chosen: NDArray[np.bool_],
    label: NDArray[np.integer],
    names: Sequence[str],
    class_names: Sequence[str],
    *,
    seed: int,
) -> ChosenImages:
    """Put chosen images in order, and permute their classes for the control.

    Parameters
    ----------
    chosen
        Whether each image takes part, shape (image,).
    label
        Class code per image, shape (image,); -1 where there is none.
    names
        Id per image.
    class_names
        Name of each code.
    seed
        Seed of the permutation.
    """
    row = np.flatnonzero(chosen)
    by_id = np.argsort(np.asarray(names, dtype=object)[row].astype(str), kind="stable")
    row = row[by_id]
    code = label[row].astype(np.int64)
    order = np.argsort(np.where(code < 0, len(class_names), code), kind="stable")
    labelled = order[: int((code >= 0).sum())]
    # Places count labelled images only: others that come and go change nothing.
    place = np.argsort(np.argsort(labelled))
    permuted = np.random.default_rng(seed).permutation(code[np.sort(labelled)])
    return ChosenImages(
        row=row[order],
        code=code[labelled],
        place=place,
        shuffled=permuted[place],
        class_names=tuple(class_names),
    )
