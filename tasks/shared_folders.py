"""Tells whether the workers of a cluster see the same folder as the program that asks them."""

from __future__ import annotations

import fcntl
import secrets
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedWriter
    from pathlib import Path

PREFIX = ".seen-"
"""Begins the name of the file that is looked for; it is there as long as the work takes."""


@contextmanager
def marked(folders: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Give a new, empty file in each folder: who sees it sees that folder, and no other of its name.

    Raises
    ------
    UserError
        If a folder cannot be written.
    """
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_mark(folder.absolute())) for folder in folders)


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    try:
        path, file = _created(folder)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; workers of a cluster and this "
            "program write there"
        ) from error
    with file:
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _created(folder: Path) -> tuple[Path, BufferedWriter]:
    """Return a new file, and the same opened: as long as it is, nobody sweeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    while True:
        path = folder / f"{PREFIX}{secrets.token_hex(8)}"
        file = path.open("xb")
        with suppress(OSError):  # a disk without locks, on which nobody sweeps either
            fcntl.flock(file, fcntl.LOCK_SH)
        if path.exists():  # not swept between the two lines
            return path, file
        file.close()


def _sweep(folder: Path) -> None:
    """Delete the files of killed programs: nobody holds them."""
    for left in folder.glob(f"{PREFIX}*"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def unseen(marks: Sequence[Path]) -> tuple[Path, ...]:
    """Return the folders of the marks that cannot be seen from here."""
    return tuple(mark.parent for mark in marks if not mark.is_file())
