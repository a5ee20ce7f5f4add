"""One of several processes that make a recording together: takes shards until there are no more.

It runs `main` in a fresh interpreter that needs nothing of the program that starts it, not even a
guarded `__main__`. All words go through one connection; when it breaks, or the process that
started this one is gone, the process ends.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.processes import end_with_parent
from activarium.tasks.recording.share import Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RunConfig
    from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
    from activarium.tasks.progress import Progress


@dataclass(frozen=True)
class Job:
    """What a process is to record, and beside how many others."""

    atlas: Atlas
    config: RunConfig
    checkpoint: CheckpointReceipt
    part: int
    parts: int
    processes: int
    repair: bool = False


@dataclass(frozen=True)
class Began:
    """The process created the store of a recording."""

    recording: str


@dataclass(frozen=True)
class Opened:
    """The process knows what there is to do: a bar of so many images, some of them done."""

    description: str
    total: int | None


@dataclass(frozen=True)
class Advanced:
    """So many more images have been through the model; the first word counts what was stored."""

    images: int


@dataclass(frozen=True)
class Asked:
    """The process waits for the place of its next shard, or None where it is to make none."""


@dataclass(frozen=True)
class Done:
    """The process has ended well."""

    receipt: RecordingReceipt


@dataclass(frozen=True)
class Failed:
    """The process has failed."""

    reason: str
    details: str


def work(job: Job, connection: Connection) -> RecordingReceipt:
    """Record the shards that the other end of the connection gives out."""
    from activarium.tasks.recording.checkpoints import record_checkpoint

    def positions(shards: int) -> Iterator[int]:
        while True:
            connection.send(Asked())
            position = connection.recv()
            if position is None or position >= shards:
                return
            yield position

    share = Share(
        part=job.part,
        parts=job.parts,
        processes=job.processes,
        workers=job.processes * job.parts,
        positions=positions,
        began=lambda recording: connection.send(Began(recording)),
    )
    return record_checkpoint(
        job.atlas,
        job.config,
        job.checkpoint,
        progress=_progress(connection),
        share=share,
        repair=job.repair,
    )


def _progress(connection: Connection) -> Progress:
    @contextmanager
    def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        connection.send(Opened(description, total))
        yield lambda images: connection.send(Advanced(images))

    return progress


def main() -> None:
    """Do the job that comes through the connection, and say how it ended.

    The connection is the file descriptor that the command line names first; the id of the process
    that has its other end is second.
    """
    descriptor, parent = (int(each) for each in sys.argv[1:])
    end_with_parent(parent)
    signal.signal(signal.SIGTERM, _stop)
    code = 1
    try:
        connection = Connection(descriptor)
        connection.send(_answer(connection))
        code = 0
    except (EOFError, ConnectionError):
        pass  # whoever asked is gone
    finally:
        # What libraries would do at the exit fails in a process that is stopped as it starts.
        os._exit(code)


def _answer(connection: Connection) -> Done | Failed:
    try:
        return Done(work(connection.recv(), connection))
    except (EOFError, ConnectionError):
        raise
    except UserError as error:
        return Failed(str(error), traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        return Failed(f"{type(error).__name__}: {error}", traceback.format_exc())


def _stop(number: int, frame: FrameType | None) -> None:
    """End at once, but through all contexts, so that a full shard is still stored."""
    del number, frame
    sys.exit(1)
