"""Decodes image files with Pillow, and notes what of a file the decoded image does not tell."""

from __future__ import annotations

import io
from contextlib import suppress

from PIL import Image, UnidentifiedImageError

NOTES = "activarium"
"""Key of a decoded image's `info` under which the notes stand."""

ORIENTATION = 0x0112
"""EXIF tag of the orientation; 1 is upright."""


class UndecodableImageError(Exception):
    """An image that cannot be decoded; carries its id and the reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both, or the error cannot be unpickled
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


MOST_BYTES = 512 * 2**20
"""An image's file is smaller; what unfolds to more is none, or made to fill the memory."""


def check_size(name: str, size: int) -> None:
    """Refuse to read a file that is too large to be an image.

    Raises
    ------
    UndecodableImageError
        If it is.
    """
    if size > MOST_BYTES:
        raise UndecodableImageError(
            name, f"{size:,} bytes, where images have at most {MOST_BYTES:,}"
        )


def decode(name: str, content: bytes) -> Image.Image:
    """Return the decoded image, with its file's notes: deep, frames, orientation.

    Raises
    ------
    UndecodableImageError
        If the content is no image, or is cut short.
    """
    if not content:
        raise UndecodableImageError(name, "the file is empty")
    check_size(name, len(content))
    try:
        image = Image.open(io.BytesIO(content))
        notes = _notes_before_loading(image)
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UndecodableImageError(name, str(error).split("\n")[0]) from error
    except Image.DecompressionBombError as error:
        raise UndecodableImageError(name, str(error)) from error
    except Exception as error:  # damaged files reach Pillow's struct and zlib calls unguarded
        raise UndecodableImageError(name, f"{type(error).__name__}: {error}") from error
    image.info[NOTES] = (*notes, *_orientation(image))
    return image


def _notes_before_loading(image: Image.Image) -> tuple[str, ...]:
    """Return what the file says and the loaded image forgets."""
    # Pillow keeps the high byte of colours of 16 bits, and calls the image RGB all the same.
    deep = ("deep",) if any(";16" in str(tile) for tile in getattr(image, "tile", ())) else ()
    return (*deep, *(("frames",) if getattr(image, "is_animated", False) else ()))


def _orientation(image: Image.Image) -> tuple[str, ...]:
    # Pillow itself turns TIFF files upright.
    if "exif" in image.info and image.format != "TIFF":
        with suppress(Exception):  # damaged EXIF is no reason to lose the image
            if image.getexif().get(ORIENTATION, 1) not in (0, 1):
                return ("orientation",)
    return ()
