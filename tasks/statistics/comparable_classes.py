"""Which classes can be compared: those of two images or more, where there are two of them.

One image says nothing of how the images of its class vary. Whatever it does, it is the strongest
image of its class: an AUROC of 1 and a preferred class are then no finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FEWEST_IMAGES = 2
"""Images of a class below which it is not compared."""
NOTHING_VARIES = (
    "every unit responds alike to all images, or never above 0 before its ReLU: nothing can be "
    "preferred"
)
"""What is said where all units are dead."""
LEFT_OUT = "statistics that need classes are left out (null)"
FEWEST_TO_GROUP = 4
"""Images of which two groups of classes can have two each."""


def comparable_classes(count: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which classes can be compared with the others, shape (class,).

    Those of two images or more; none where fewer than two classes have as many.

    Parameters
    ----------
    count
        Images per class, shape (class,).
    """
    enough = np.asarray(count >= FEWEST_IMAGES)
    return enough if enough.sum() > 1 else np.zeros_like(enough)


def are_comparable(label: NDArray[np.integer]) -> bool:
    """Return whether the classes of some images can be compared; negative codes are no class."""
    return bool(comparable_classes(np.bincount(label[label >= 0])).any())


def has_lone_classes(label: NDArray[np.integer]) -> bool:
    """Return whether a class has one image, or is the only one; negative codes are no class."""
    count = np.bincount(label[label >= 0])
    return bool((count == 1).any() or (count > 0).sum() == 1)


def why_not_compared(images: Mapping[str, int]) -> str:
    """Return why no class can be compared with another, in words; empty where some can.

    Parameters
    ----------
    images
        Images of each class, by its name; classes without images may be left out.

    Examples
    --------
    >>> why_not_compared({"ant": 1, "bee": 1})[:46]
    '1 image per class: classes cannot be tested, s'
    >>> why_not_compared({"ant": 2, "bee": 2})
    ''
    """
    filled = {name: number for name, number in images.items() if number}
    if not filled:
        return f"no image has a class: {LEFT_OUT}"
    if len(filled) == 1:
        only = next(iter(filled))
        return (
            f"all images with a class are of one, {only}: there is nothing to compare, {LEFT_OUT}"
        )
    advice = "; group them with --classes" if sum(filled.values()) >= FEWEST_TO_GROUP else ""
    enough = [name for name, number in filled.items() if number >= FEWEST_IMAGES]
    if not enough:
        return f"1 image per class: classes cannot be tested, {LEFT_OUT}{advice}"
    if len(enough) == 1:
        only = f"only {enough[0]} has two images or more"
        return f"{only}: classes cannot be tested, {LEFT_OUT}{advice}"
    return ""
