"""Check before any work that an atlas folder can be written and has room."""

from __future__ import annotations

import math
import os
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.stores.places import place_at

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 2**20

FOLDERS = ("tables", "reports", "recordings", "models", "maps", "checksums", "work", ".locks")
"""Folders of an atlas that stages write into."""

FLOOR_BYTES = 200 * MEBIBYTE
"""Free space that a command that writes asks for before it starts.

How much a stage writes follows from its images and layers, which are known only once they are
loaded: recording checks its exact need before its first shard. The floor is room for the demo's
recordings, tables, page and Prefect database several times over.
"""


RECORD_FLOOR_BYTES = 8 * MEBIBYTE
"""The same for recording alone: room for Prefect's database; the shards are counted exactly."""


def check_atlas(root: Path, *, needed: int, recordings_at: str | None = None) -> None:
    """Make the atlas folder if it is not there, and check that work in it can begin.

    Parameters
    ----------
    root
        The atlas folder.
    needed
        Bytes that must be free.
    recordings_at
        Address of the recordings where they lie elsewhere.

    Raises
    ------
    UserError
        If the folder cannot be made or written, too little is free, or the recordings cannot be
        reached.
    """
    if recordings_at is not None:
        place_at(recordings_at).check()
    _check_folders(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
        if free >= needed:
            with tempfile.TemporaryFile(dir=root) as file:
                file.write(b"0")
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"cannot make the atlas folder {root}: it, or a folder above it, is a file; use "
            "another --root"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to the atlas folder {root}: {error.strerror or error}; use another "
            "--root, or change its permissions"
        ) from error
    if free < needed:
        raise UserError(
            # Rounded apart, so that they differ.
            f"{math.ceil(needed / MEBIBYTE):,} MiB are needed at {root}, "
            f"{math.floor(free / MEBIBYTE):,} MiB are free: free some or use another --root"
        )


def _check_folders(root: Path) -> None:
    """Refuse a folder of the atlas that stages could not write into, before they have worked.

    Raises
    ------
    UserError
        If a file lies in its place, or it may not be written.
    """
    for name in FOLDERS:
        folder = root / name
        try:
            status = folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(f"cannot look at {folder}: {error.strerror or error}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise UserError(f"{folder} is a file, expected a folder of the atlas: move it away")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(
                f"cannot write to {folder}: change its permissions, or use another --root"
            )
