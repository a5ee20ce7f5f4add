"""Folders and zips of <split>/<class>/<image>, decoded image by image when they are asked for."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, UnidentifiedImageError

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""File name endings of images; other files are stepped over."""


class UndecodableImageError(Exception):
    """An image that cannot be decoded; carries its id and the reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both, or the error cannot be unpickled
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


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


def decode(name: str, content: bytes) -> Image.Image:
    """Return the decoded image.

    Raises
    ------
    UndecodableImageError
        If the content is no image, or is cut short.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UndecodableImageError(name, str(error).split("\n")[0]) from error
    except Image.DecompressionBombError as error:
        raise UndecodableImageError(name, str(error)) from error
    return image


def _zip_files(path: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"test_set.path: {path} is no zip that can be read: {error}") from error
    return {info.filename: f"{info.file_size}:{info.CRC:08x}" for info in infos}


def _folder_files(path: Path) -> dict[str, str]:
    # Fixed depths, because `**` steps over class folders that are symbolic links.
    patterns = ("/".join("*" * depth) for depth in range(1, 5))
    files = (file for pattern in patterns for file in path.glob(pattern) if file.is_file())
    return {file.relative_to(path).as_posix(): str(file.stat().st_size) for file in files}


def _is_image(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in ENDINGS


def scan(path: Path) -> dict[str, str]:
    """Return every image file below a folder or in a zip, with its size (and CRC in a zip).

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
    images = {name: identity for name, identity in files.items() if _is_image(name)}
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
    return images


class Selection(NamedTuple):
    """The images of one split, and the classes of all splits."""

    entries: list[Entry]
    """Sorted by class and name."""
    class_names: tuple[str, ...]
    """Sorted. A class keeps its code in every split, also where a split has no image of it."""


def select_split(path: Path, images: dict[str, str], split: str) -> Selection:
    """Return the images of one split and the classes.

    One folder around all splits is stepped over.

    Raises
    ------
    UserError
        If there is no such split, or no class folder in it.
    """
    parts = {name: PurePosixPath(name).parts for name in images}
    top = {each[0] for each in parts.values()}
    deep = all(len(each) > (2 if split == "." else 3) for each in parts.values())
    skip = 1 if len(top) == 1 and deep and split not in top else 0
    first = skip if split == "." else skip + 1
    placed = {name: each for name, each in parts.items() if len(each) == first + 2}
    entries = [
        Entry(name, split, each[first], images[name])
        for name, each in placed.items()
        if split == "." or each[skip] == split
    ]
    if not entries:
        splits = sorted({each[skip] for each in parts.values() if len(each) > skip + 1})
        raise UserError(
            f"test_set.split: {path} has no <class>/<image> below {split!r}; it has the folders "
            f"{', '.join(splits[:8]) or 'none'}"
        )
    classes = tuple(sorted({each[first] for each in placed.values()}))
    return Selection(sorted(entries, key=lambda entry: (entry.label, entry.name)), classes)


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
