"""Folders and zips of <split>/<class>/<image>, decoded image by image when they are asked for."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.images.labelled_images import TestSet, sampled_colours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.config import TestSetConfig

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""File name endings of images; other files are stepped over."""


@dataclass(frozen=True)
class Entry:
    """One image file: where it is, and what tells it from another."""

    name: str
    """Path within the folder or zip, with `/`."""
    split: str
    """First folder; `.` where images lie in class folders directly."""
    label: str
    identity: str
    """Size, and for a zip the CRC-32 of the content."""


class ZipReader:
    """Reads a zip from several threads, each with an archive of its own while it reads.

    Archives are handed from thread to thread: opening one parses the whole directory of the zip,
    which for every short-lived thread of every batch costs more than the images.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: deque[zipfile.ZipFile] = deque()

    def read(self, name: str) -> bytes:
        """Return the content of one entry."""
        try:
            archive = self._idle.pop()
        except IndexError:
            archive = zipfile.ZipFile(self.path)
        try:
            return archive.read(name)
        finally:
            self._idle.append(archive)

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.__init__(path)  # type: ignore[misc]


@dataclass(frozen=True)
class FolderReader:
    """Reads files below a folder."""

    path: Path

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        return (self.path / name).read_bytes()


def load_image_folder(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return the images of <split>/<class>/<image> in a folder or zip."""
    del datasets
    if config.path is None:
        raise UserError("test_set.path: imagefolder needs the folder or zip of the images")
    entries, class_names = select_split(config.path, scan(config.path), config.split)
    is_folder = config.path.is_dir()
    reader = FolderReader(config.path) if is_folder else ZipReader(config.path)
    codes = {name: code for code, name in enumerate(class_names)}
    test_set = TestSet(
        name=config.name or (config.path.name if is_folder else config.path.stem),
        split="all" if config.split == "." else config.split,
        class_names=class_names,
        ids=tuple(entry.name for entry in entries),
        labels=np.array([codes[entry.label] for entry in entries], np.int32),
        identity=identity_of(entries, reader, hash_content=config.hash_content),
        colours=3,
        reader=reader,
    )
    return replace(test_set, colours=sampled_colours(test_set))


class Scan(NamedTuple):
    """What lies below a folder or in a zip, hidden files and folders left out."""

    images: dict[str, str]
    """Size (and CRC in a zip) of every image file, by its path with `/`."""
    folders: set[str]
    """Every folder, also where it holds no image."""


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
        if entry.is_file():
            found[name] = str(entry.stat().st_size)
        elif entry.is_dir() and not _is_hidden(entry.name):
            found[name] = None
            found |= _folder_files(Path(entry.path), f"{name}/", around | {own})
    return found


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
    # Most zips have no entries of their own for folders.
    folders = {name for name, identity in shown.items() if identity is None}
    return Scan(images, folders | {name.rpartition("/")[0] for name in shown} - {""})


class Selection(NamedTuple):
    """The images of one split, and the classes of all splits."""

    entries: list[Entry]
    """Sorted by class and name."""
    class_names: tuple[str, ...]
    """Sorted. A class keeps its code in every split, also where a split has no image of it."""


def select_split(path: Path, found: Scan, split: str) -> Selection:
    """Return the images of one split and the classes.

    One folder around all splits is stepped over.

    Raises
    ------
    UserError
        If there is no such split, no class folder in it, one without images, or images below the
        class folders' own.
    """
    parts = {name: PurePosixPath(name).parts for name in found.images}
    top = {each[0] for each in parts.values()}
    deep = all(len(each) > (2 if split == "." else 3) for each in parts.values())
    skip = 1 if len(top) == 1 and deep and split not in top else 0
    first = skip if split == "." else skip + 1
    placed = {name: each for name, each in parts.items() if len(each) == first + 2}
    inside = [name for name, each in parts.items() if split == "." or each[skip] == split]
    entries = [
        Entry(name, split, placed[name][first], found.images[name])
        for name in inside
        if name in placed
    ]
    deeper = sorted(name for name in inside if len(parts[name]) > first + 2)
    if entries or split != ".":
        _refuse_deeper(path, deeper, split)
    if not entries:
        splits = sorted({each[skip] for each in parts.values() if len(each) > skip + 1})
        raise UserError(
            f"test_set.split: {path} has no <class>/<image> below {split!r}; it has the folders "
            f"{', '.join(splits[:8]) or 'none'}"
        )
    classes = tuple(sorted({each[first] for each in placed.values()}))
    folders = [each for each in map(_parts, found.folders) if len(each) > first]
    here = {each[first] for each in folders if split == "." or each[skip] == split}
    _refuse_empty(path, sorted(here - set(classes)), split)
    return Selection(sorted(entries, key=lambda entry: (entry.label, entry.name)), classes)


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts


def _refuse_deeper(path: Path, deeper: Sequence[str], split: str) -> None:
    if deeper:
        raise UserError(
            f"test_set.path: {path} has images in folders within the class folders, {len(deeper)} "
            f"in {split!r}, the first {deeper[0]!r}; move them up into their class folder, or out "
            "of the split"
        )


def _refuse_empty(path: Path, empty: Sequence[str], split: str) -> None:
    if empty:
        raise UserError(
            f"test_set.path: {path} has class folders without any image in {split!r}: "
            f"{', '.join(map(repr, empty[:8]))}{', ...' if len(empty) > 8 else ''}; delete them, "
            "or fill them with images"
        )


def identity_of(
    entries: Sequence[Entry], reader: FolderReader | ZipReader, *, hash_content: bool
) -> str:
    """Return the sha256 of the images' names, sizes and labels, and of their content if asked."""
    digest = hashlib.sha256()
    for entry in entries:
        content = _content_hash(entry, reader) if hash_content else ""
        digest.update(f"{entry.name}\0{entry.label}\0{entry.identity}\0{content}\n".encode())
    return digest.hexdigest()


def _content_hash(entry: Entry, reader: FolderReader | ZipReader) -> str:
    try:
        return hashlib.sha256(reader.read(entry.name)).hexdigest()
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return "unreadable"  # one damaged image must not end a run; it is recorded as not valid
