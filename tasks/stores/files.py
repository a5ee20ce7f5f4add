"""Files that are either whole or absent: written aside, flushed to disk, then renamed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Content = bytes | memoryview

TEMPORARY_SUFFIX = ".partial"
"""Ending of files that are still being written; no reader's pattern matches it."""

LONGEST_NAME = 215
"""Of a name that a temporary one holds whole: file systems take 255 letters."""

ABANDONED_SECONDS = 24 * 3_600
"""Age at which the temporary file of another machine's process counts as left behind."""

FORGOTTEN_SECONDS = 7 * 24 * 3_600
"""Age from which on nobody goes on with half-done work."""

_OWNER = re.compile(r"\.([0-9a-f]{6})-(\d+)-[0-9a-f]{8}\.partial$")
_EARLIER = re.compile(r"\.[0-9a-f]{8,32}\.partial$")
"""How temporary files ended that earlier versions wrote, which tell of no process."""
_HALF_DONE = re.compile(r".-[0-9a-f]{12}$")
"""How the names of folders of half-done work end: with what it is made of."""


def temporary_name(name: str) -> str:
    """Return a hidden name for what is still being written, which tells which process writes it."""
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME // 2]
    return f".{name}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"


@cache
def _machine() -> str:
    """Return a mark of the machine and container whose process ids this process can look up."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:6]


def _is_abandoned(path: Path) -> bool:
    """Return whether nobody writes a temporary file any more."""
    owner = _OWNER.search(path.name)
    if owner is None:
        return _EARLIER.search(path.name) is not None
    with suppress(OSError):
        if owner[1] == _machine() and not _is_alive(int(owner[2])):
            return True
        return time.time() - path.stat().st_mtime > ABANDONED_SECONDS
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sweep(paths: Iterable[Path]) -> int:
    """Delete the temporary files and folders that killed writers left; return how many."""
    swept = 0
    for path in paths:
        if _is_abandoned(path):
            _remove(path)
            swept += 1
    return swept


def sweep_partial_files(folder: Path) -> int:
    """Delete the temporary files in a folder that killed writers left; return how many."""
    return sweep(list(folder.rglob(f"*{TEMPORARY_SUFFIX}")))


def sweep_work(folder: Path) -> None:
    """Delete folders of half-done work that nothing has been written to for a week.

    Others are somebody's own: an atlas may lie in a folder that has a `work` already.
    """
    oldest = time.time() - FORGOTTEN_SECONDS
    for path in [each for each in folder.glob("*") if _HALF_DONE.search(each.name)]:
        with suppress(OSError):
            if path.is_dir() and max(each.stat().st_mtime for each in _within(path)) < oldest:
                shutil.rmtree(path)


def _within(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` for a file or a folder; what is left there is deleted.

    Raises
    ------
    UserError
        If the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end it takes the place of `path` at once.

    Raises
    ------
    UserError
        If the disk is full or the folder cannot be written.
    """
    with aside(path) as temporary:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_file(path.parent)


def write_bytes(path: Path, content: Content, *, settle: bool = True) -> None:
    """Write a whole file at once.

    Parameters
    ----------
    path
        The file.
    content
        Its bytes.
    settle
        Flush the folder too; whoever writes many files flushes it once, after them.
    """
    with aside(path) as temporary:
        write_flushed(temporary, content)
        temporary.replace(path)
        if settle:
            sync_file(path.parent)


def write_flushed(path: Path, content: Content) -> None:
    """Write a file and flush its content to the disk."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_file(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's content, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
