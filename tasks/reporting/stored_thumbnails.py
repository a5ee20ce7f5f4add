"""The thumbnails of a recording, without those whose chunks are damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zarr

from activarium.tasks.stores.sound_rows import sound_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from activarium.tasks.stores.places import Place

NAME = "thumbnail"
SHOWN = 3
"""Damaged objects that a notice names."""
REPAIR = (
    "`activarium verify` names all that is damaged, `activarium record --repair` makes it again"
)


@dataclass(frozen=True)
class StoredThumbnails:
    """Thumbnails as a Zarr array (image, row, column, colour) of uint8."""

    array: zarr.Array[Any]
    rows: NDArray[np.bool_]
    """Whether each image's thumbnail is as it was recorded."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def oindex(self) -> Any:
        """What reads images by their indices."""
        return self.array.oindex

    def sound(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the images whose thumbnail can be shown, in their order."""
        return images[self.rows[images]]


def open_thumbnails(place: Place) -> tuple[StoredThumbnails | None, list[str]]:
    """Return the thumbnails of a recording, and what has to be said of them.

    Nothing where the recording is gone or has none; damaged ones are left out, and named.
    """
    if place.size("zarr.json") is None:
        return None, []
    try:
        found = zarr.open_group(place.zarr_store(read_only=True), mode="r").get(NAME)
        if not isinstance(found, zarr.Array) or min(found.shape) == 0:
            return None, []
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return None, [f"thumbnails are left out: {place} cannot be read ({reason}); {REPAIR}"]
    sound = sound_rows(place, NAME, found.shape[0])
    if not sound.damaged:
        return StoredThumbnails(found, sound.rows), []
    named = ", ".join(sound.damaged[:SHOWN]) + (" ..." if len(sound.damaged) > SHOWN else "")
    lost = int((~sound.rows).sum())
    which = "the thumbnail of 1 image is" if lost == 1 else f"the thumbnails of {lost:,} images are"
    return StoredThumbnails(found, sound.rows), [
        f"{which} left out: {named} of {place} is not as it was recorded; {REPAIR}"
    ]
