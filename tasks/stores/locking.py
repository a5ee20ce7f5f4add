"""One process at a time: a lock that the system frees even when its holder is killed."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class BusyError(UserError):
    """Another process does the same right now."""


@contextmanager
def only_process(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock file inside the context.

    Parameters
    ----------
    path
        The lock file; it stays, empty.
    doing
        What the holder does, for the message to others: `recording <id>`.

    Raises
    ------
    BusyError
        If another process holds it.
    UserError
        If it cannot be made.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another process is {doing} right now; wait for it to end") from error
        except OSError as error:
            raise UserError(f"cannot lock {path}: {error.strerror or error}") from error
        yield
