"""What a worker of a Dask cluster does around a task: it looks what it sees, and says who it is."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import get_worker

from activarium.schemas.errors import UserError
from activarium.tasks.fingerprint import versions
from activarium.tasks.shared_folders import unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    """What a task gave, and which worker did it."""

    worker: str
    value: Any


@dataclass(frozen=True)
class View:
    """What a worker is, and what it does not see."""

    host: str
    unseen: tuple[Path, ...]
    version: str


def view(marks: Sequence[Path]) -> View:
    """Return what this worker is and does not see."""
    return View(socket.gethostname(), unseen(marks), program_version())


def program_version() -> str:
    """Return the version of this program that runs here."""
    return versions(["activarium"]).get("activarium", "unknown")


def named(address: str, host: str) -> str:
    """Return how messages call a worker."""
    return f"worker {address} on {host}"


def do_task(function: Callable[..., Any], marks: Sequence[Path], arguments: Sequence[Any]) -> Done:
    """Do a task on a worker, whose errors name the worker.

    Raises
    ------
    UserError
        If the worker does not see the folder of a mark, or the task meets what the user can mend.
    """
    worker = named(get_worker().address, socket.gethostname())
    missing = unseen(marks)
    if missing:
        raise UserError(does_not_see([worker], missing))
    try:
        return Done(worker, function(*arguments))
    except UserError as error:
        raise UserError(f"{worker}: {error}") from error
    except OSError as error:
        raise UserError(f"{worker}: {error}") from error
    except Exception as error:
        error.add_note(f"on {worker}")
        raise


def does_not_see(workers: Sequence[str], folders: Sequence[Path]) -> str:
    """Return the message about workers that do not see what they are to work on."""
    see = "does not see" if len(workers) == 1 else "do not see"
    return (
        f"{', '.join(workers)} {see} {', '.join(map(str, folders))} as this machine does: every "
        "worker needs the same folder under the same path (a shared disk), then run the same "
        "command again; nothing is lost"
    )
