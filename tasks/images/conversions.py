"""What was done to images so that they fit the model's colours, counted, and said once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activarium.tasks.images.decoding import NOTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

GREY_MODES = {"1", "L", "LA", "La", "F"}
"""Pillow's names of grey images of up to 8 bits or of floats; those of more bits begin with I."""

ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
OTHER_COLOURS = {"CMYK", "YCbCr", "LAB", "HSV"}

WORDS = {
    "grey": "{images} grey: given to all three colours",
    "colour": "{images} in colour: turned grey by their luma (ITU-R 601-2)",
    "alpha": "{images} with transparency: it was dropped, the colours below it were kept",
    "deep": "{images} of 16 bits a colour: scaled to 8 bits",
    "float": "{images} of floats: clipped to 0 to 255 and rounded",
    "other": "{images} in CMYK, YCbCr, HSV or Lab: converted",
    "frames": "{images} with several frames: the first was taken",
    "orientation": "{images} with an EXIF orientation: it was not applied",
}


def is_grey(mode: str) -> bool:
    """Return whether Pillow's mode is one of grey images."""
    return mode in GREY_MODES or mode.startswith("I")


def conversions_of(image: Image.Image, colours: int) -> tuple[str, ...]:
    """Return the conversions, keys of `WORDS`, that an image meets on its way to a model."""
    mode = image.mode
    applies = {
        "grey": is_grey(mode) and colours == 3,
        "colour": not is_grey(mode) and colours == 1,
        "alpha": mode in ALPHA_MODES or "transparency" in image.info,
        "deep": mode.startswith("I"),
        "float": mode == "F",
        "other": mode in OTHER_COLOURS,
    }
    found = dict.fromkeys(name for name, is_met in applies.items() if is_met)
    return tuple(found | dict.fromkeys(image.info.get(NOTES, ())))


def describe_conversions(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return one line per kind of conversion that was met, for the user.

    >>> describe_conversions({"grey": 12, "frames": 1})
    ('12 images grey: given to all three colours', '1 image with several frames: the first was taken')
    """
    return tuple(
        words.format(images=f"{counts[kind]:,} image{'s' if counts[kind] > 1 else ''}")
        for kind, words in WORDS.items()
        if counts.get(kind)
    )
