"""Before any work: an atlas folder can be written, has room, and holds no litter of killed processes."""

from __future__ import annotations

import math
import os
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.tasks.stores.files import (
    TEMPORARY_SUFFIX,
    sweep,
    sweep_partial_files,
    sweep_work,
)
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.receipt_files import DamagedReceiptError
from activarium.tasks.stores.set_replacing import settle_tables
from activarium.tasks.stores.table_sets import analysis_set

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
    """Make the atlas folder if it is not there, sweep it, and check that work in it can begin.

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
    sweep_atlas(Atlas(root, recordings_at))


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


def sweep_atlas(atlas: Atlas) -> None:
    """Finish or delete what killed processes left among tables, maps, models, pages and work.

    What a living process writes stays, and half-done work that a run can go on with.
    """
    settle_tables(atlas)
    for folder in (atlas.maps, atlas.models, atlas.reports, atlas.checksums, atlas.work):
        sweep_partial_files(folder)
    # Earlier versions wrote beside the tables.
    sweep(list(atlas.tables.glob(f"*/recording=*/*{TEMPORARY_SUFFIX}")))
    for folder in list(atlas.work.glob("*-*")):
        if _is_done(atlas, *folder.name.rpartition("-")[::2]):
            shutil.rmtree(folder, ignore_errors=True)
    sweep_work(atlas.work)
    sweep_work(atlas.work / "similarity")


def _is_done(atlas: Atlas, name: str, inputs: str) -> bool:
    """Return whether an analysis is written whose work is left."""
    try:
        receipt = analysis_set(atlas, name).receipt
    except DamagedReceiptError:
        return False
    return receipt is not None and bool(inputs) and receipt.inputs.startswith(inputs)
