"""Which table files are as they were written, told by the sha256 beside each, before they are read.

The checksums of Parquet's pages do not cover the footer, and DuckDB looks at none of them. To read a
large file whole takes longer than most queries, so one that was found right is remembered by its size,
its times and its number: it is read again when any of them has changed.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from activarium.schemas.errors import UserError
from activarium.tasks.progress import silent
from activarium.tasks.stores.checksum_files import checksum_file
from activarium.tasks.stores.files import sha256_file, write_bytes
from activarium.tasks.stores.table_reading import broken_sets
from activarium.tasks.stores.table_sets import UNREADABLE

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress

REMEMBERED_BYTES = 16 * 2**20
"""Size from which a file that was found right is remembered."""

SETTLED_SECONDS = 2.0
"""Age of a file's last change from which another change is sure to show in its times."""

TRIES = 5
"""Of a file that is replaced just now."""
_PAUSE_SECONDS = 0.1
_LINE = re.compile(rb"[0-9a-f]{64}  [^\n]+\n")


class Signature(NamedTuple):
    """What changes with a file's content."""

    size: int
    changed: int
    touched: int
    inode: int


class ReadableFile(NamedTuple):
    """A file whose content is right, as long as it has this signature."""

    path: Path
    signature: Signature


class DamagedFile(NamedTuple):
    """A file that cannot be trusted."""

    path: Path
    problem: str


def signature_of(status: os.stat_result) -> Signature:
    """Return the signature of a file by its status."""
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def readable_files(
    atlas: Atlas, files: Sequence[Path], *, progress: Progress = silent
) -> tuple[list[ReadableFile], list[DamagedFile]]:
    """Return the files whose content is as it was written, and the others with what is wrong.

    A file without a checksum was left by a writer that was stopped just then, or its checksum is
    lost: it counts as readable where all of its pages are.

    Parameters
    ----------
    atlas
        Where the files are.
    files
        Files of tables.
    progress
        Reports the files checked.
    """
    memory = _Memory(atlas)
    readable, damaged = [], []
    broken = broken_sets(atlas, files)
    with progress("checking tables", len(files)) as advance:
        for path in files:
            checked = DamagedFile(path, broken[path]) if path in broken else _check(path, memory)
            if isinstance(checked, ReadableFile):
                readable.append(checked)
            else:
                damaged.append(checked)
            advance(1)
    memory.save()
    return readable, damaged


def _check(path: Path, memory: _Memory) -> ReadableFile | DamagedFile:
    problem = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        try:
            before, expected = signature_of(path.stat()), _expected(path)
            problem = ""
            if expected is None:
                problem = _page_problem(path)
            elif not memory.holds(path, before, expected):
                same = sha256_file(path) == expected
                problem = "" if same else "its content differs from its sha256"
            if (signature_of(path.stat()), _expected(path)) != (before, expected):
                continue  # replaced meanwhile, by another that may be right
            if not problem and expected is not None:
                memory.keep(path, before, expected)
        except OSError as error:
            problem = f"it cannot be read ({error.strerror or error})"
        else:
            return DamagedFile(path, problem) if problem else ReadableFile(path, before)
    return DamagedFile(path, problem or "it is being replaced")


def _expected(path: Path) -> str | None:
    """Return the sha256 that a file should have; None where no checksum tells."""
    try:
        line = checksum_file(path).read_bytes()
    except OSError:
        return None
    return line[:64].decode("ascii") if _LINE.fullmatch(line) else None


def _page_problem(path: Path) -> str:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for _ in file.iter_batches():
                pass
    except UNREADABLE as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    return ""


class _Memory:
    """The large files that were found right, in a file of the atlas's work folder."""

    def __init__(self, atlas: Atlas) -> None:
        self._root = atlas.root
        self._file = atlas.work / "checked_tables.json"
        self._known: dict[str, list[object]] = {}
        self._is_new = False
        with suppress(OSError, ValueError):
            known = json.loads(self._file.read_bytes())
            self._known = known if isinstance(known, dict) else {}

    def _key(self, path: Path) -> str:
        return str(path.relative_to(self._root.resolve()))

    def holds(self, path: Path, signature: Signature, expected: str) -> bool:
        """Return whether the file was found right as it is now."""
        return self._known.get(self._key(path)) == [*signature, expected]

    def keep(self, path: Path, signature: Signature, expected: str) -> None:
        """Remember a large file that was found right, and has not changed just now."""
        age = time.time() - max(signature.changed, signature.touched) / 1e9
        entry: list[object] = [*signature, expected]
        if signature.size < REMEMBERED_BYTES or age < SETTLED_SECONDS:
            return
        if self._known.get(self._key(path)) != entry:
            self._known[self._key(path)] = entry
            self._is_new = True

    def save(self) -> None:
        """Write what is new; an atlas that cannot be written is checked anew each time."""
        if self._is_new:
            there = {name: entry for name, entry in self._known.items() if self._is_there(name)}
            with suppress(UserError):
                write_bytes(self._file, json.dumps(there).encode())

    def _is_there(self, name: str) -> bool:
        return (self._root / name).is_file()
