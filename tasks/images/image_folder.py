"""Folders and zips of <split>/<class>/<image>, decoded image by image when they are asked for."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections import deque
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.images.class_names import in_order
from activarium.tasks.images.decoding import UndecodableImageError, check_size
from activarium.tasks.images.folder_scan import ENDINGS, NOWHERE, Scan, scan
from activarium.tasks.images.labelled_images import TestSet, sampled_colours

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from activarium.schemas.config import ClassOrder, TestSetConfig


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
            # What a zip says of a member's size bounds what is unpacked of it.
            check_size(name, archive.getinfo(name).file_size)
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
        path = self.path / name
        check_size(name, path.stat().st_size)
        return path.read_bytes()


def load_image_folder(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return the images of <split>/<class>/<image> in a folder or zip."""
    del datasets
    if config.path is None:
        raise UserError("test_set.path: imagefolder needs the folder or zip of the images")
    found = scan(config.path)
    entries, class_names, left_out = select_split(
        config.path, found, config.split, order=config.class_order
    )
    is_folder = config.path.is_dir()
    reader = FolderReader(config.path) if is_folder else ZipReader(config.path)
    codes = {name: code for code, name in enumerate(class_names)}
    test_set = TestSet(
        name=config.name or (config.path.name if is_folder else config.path.stem),
        split="all" if config.split == "." else config.split,
        class_names=class_names,
        ids=tuple(entry.name for entry in entries),
        labels=np.array([codes[entry.label] for entry in entries], np.int32),
        identity=_identity(config, entries, reader),
        colours=3,
        reader=reader,
        notes=(*left_out_note(left_out), *_nowhere_note(entries)),
    )
    return replace(test_set, colours=sampled_colours(test_set))


def _identity(
    config: TestSetConfig, entries: Sequence[Entry], reader: FolderReader | ZipReader
) -> str:
    identity = identity_of(entries, reader, hash_content=config.hash_content)
    if config.class_order == "text":
        return identity
    return hashlib.sha256(f"{identity}:{config.class_order}".encode()).hexdigest()


def left_out_note(names: Sequence[str], endings: Collection[str] = ENDINGS) -> tuple[str, ...]:
    """Return a line about files beside the images that are left out; empty where there are none."""
    if not names:
        return ()
    files = f"{len(names):,} file{'s' if len(names) > 1 else ''} of the test set left out"
    return (
        f"{files}, the first {names[0]!r}: an image's name ends in {', '.join(sorted(endings))}, "
        "in the folder of its class",
    )


def _nowhere_note(entries: Sequence[Entry]) -> tuple[str, ...]:
    names = [entry.name for entry in entries if entry.identity == NOWHERE]
    if not names:
        return ()
    links = f"{len(names):,} image{'s are links' if len(names) > 1 else ' is a link'} to nothing"
    return (f"{links}, the first {names[0]!r}: not valid",)


class Selection(NamedTuple):
    """The images of one split, and the classes of all splits."""

    entries: list[Entry]
    """Sorted by class and name."""
    class_names: tuple[str, ...]
    """Sorted. A class keeps its code in every split, also where a split has no image of it."""
    left_out: list[str]
    """Other files of the split, in its class folders or beside them."""


def select_split(path: Path, found: Scan, split: str, *, order: ClassOrder = "text") -> Selection:
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
    classes = in_order({each[first] for each in placed.values()}, order)
    folders = [each for each in map(_parts, found.folders) if len(each) > first]
    here = {each[first] for each in folders if split == "." or each[skip] == split}
    _refuse_empty(path, sorted(here - set(classes)), split)
    beside = [name for name in inside if len(parts[name]) < first + 2]
    others = {name: PurePosixPath(name).parts for name in found.others}
    near = {n: e for n, e in others.items() if split == "." or (len(e) > skip and e[skip] == split)}
    _refuse_lost_class(path, [n for n, e in near.items() if len(e) == first + 1], split)
    left_out = sorted([*beside, *(n for n, e in near.items() if len(e) > first)])
    return Selection(
        sorted(entries, key=lambda entry: (entry.label, entry.name)), classes, left_out
    )


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


def _refuse_lost_class(path: Path, names: Sequence[str], split: str) -> None:
    lost = [name for name in names if (path / name).is_symlink()]
    if lost:
        raise UserError(
            f"test_set.path: {path} has {lost[0]!r} among the classes of {split!r}, a link to "
            "nothing: mount or restore what it leads to, or delete it"
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
    except (
        UndecodableImageError,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return "unreadable"  # one damaged image must not end a run; it is recorded as not valid
