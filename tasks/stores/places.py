"""Places by their address: a local folder, or a bucket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from activarium.tasks.stores.folder import Folder
from activarium.tasks.stores.place import Place

if TYPE_CHECKING:
    from activarium.schemas.atlas import Atlas

__all__ = ["Folder", "Place", "place_at", "recording_names"]


def place_at(address: str | Path) -> Place:
    """Return the place at an address: the path of a folder, or s3://bucket/prefix.

    Raises
    ------
    UserError
        If it is another kind of address.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/|s3:", str(address), re.IGNORECASE):
        return Folder(Path(address))
    from activarium.tasks.stores.bucket import Bucket  # a client that only buckets need

    return Bucket.at(str(address))


def recording_names(atlas: Atlas) -> list[str]:
    """Return the ids of all recordings, finished or not, sorted."""
    names = place_at(atlas.recordings).names()
    return [name.removesuffix(".zarr") for name in names if name.endswith(".zarr")]
