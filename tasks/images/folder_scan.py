"""What lies below a folder or in a zip: images, folders, and the rest."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from activarium.schemas.errors import UserError

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""File name endings of images; as torchvision's ImageFolder has them; other files are left out, which is said."""

NOWHERE = "link to nothing"
"""Identity of a link whose target is not there: the image is not valid, and listed."""


class Scan(NamedTuple):
    """What lies below a folder or in a zip, hidden files and folders left out."""

    images: dict[str, str]
    """Size (and CRC in a zip) of every image file, by its path with `/`."""
    folders: set[str]
    """Every folder, also where it holds no image."""
    others: tuple[str, ...] = ()
    """Every other file, and links to nothing that are not named as images."""


def _zip_files(path: Path) -> dict[str, str | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"test_set.path: {path} is no zip that can be read: {error}") from error
    return {
        info.filename.rstrip("/"): None if info.is_dir() else f"{info.file_size}:{info.CRC:08x}"
        for info in infos
    }


def _folder_files(
    path: Path, prefix: str = "", around: frozenset[tuple[int, int]] = frozenset()
) -> dict[str, str | None]:
    """Return the size of each file below, and None for each folder; links are followed."""
    status = path.stat()
    own = (status.st_dev, status.st_ino)
    if own in around:  # a link to a folder that it lies in
        return {}
    found: dict[str, str | None] = {}
    try:
        entries = list(os.scandir(path))
    except OSError as error:
        raise UserError(
            f"test_set.path: cannot list the folder {path}: {error.strerror}"
        ) from error
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if _leads_nowhere(entry):
            found[name] = NOWHERE
        elif entry.is_file():
            found[name] = str(entry.stat().st_size)
        elif entry.is_dir() and not _is_hidden(entry.name):
            found[name] = None
            found |= _folder_files(Path(entry.path), f"{name}/", around | {own})
    return found


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Return whether this is a link whose target is not there, or goes round in a circle."""
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except OSError:
        return True
    return False


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in ENDINGS


def scan(path: Path) -> Scan:
    """Return every image file and every folder below a folder or in a zip.

    Raises
    ------
    UserError
        If the path is neither, or holds no image.
    """
    if path.is_dir():
        files = _folder_files(path)
    elif path.is_file():
        files = _zip_files(path)
    else:
        raise UserError(f"test_set.path: expected a folder or a zip, there is nothing at {path}")
    shown = {name: identity for name, identity in files.items() if not _is_hidden(name)}
    images = {
        name: identity
        for name, identity in shown.items()
        if identity is not None and _is_image(name)
    }
    if not images:
        raise UserError(
            f"test_set.path: {path} holds no images ({', '.join(sorted(ENDINGS))}) in "
            "<split>/<class>/ folders"
        )
    for name in images:
        if name.encode("utf-8", "ignore").decode() != name:
            raise UserError(
                f"test_set.path: {path} holds an image whose name is not UTF-8: {name!r}; rename it"
            )
    others = sorted(name for name in shown if shown[name] is not None and name not in images)
    # Most zips have no entries of their own for folders.
    folders = {name for name, identity in shown.items() if identity is None}
    folders |= {name.rpartition("/")[0] for name in shown} - {""}
    return Scan(images, folders, tuple(others))
