"""Spreads the shards of a recording over processes of this machine, one per device."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Self

from activarium.schemas.errors import UserError
from activarium.tasks.progress import no_advance, silent
from activarium.tasks.recording.cores import threads_per_process
from activarium.tasks.recording.record_worker import (
    Advanced,
    Asked,
    Began,
    Done,
    Failed,
    Job,
    Opened,
)
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording_store import receipt_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RunConfig
    from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
    from activarium.tasks.progress import Progress

STOP_SECONDS = 60
"""How long a process may take to store the shard that it has just filled."""


PROGRAM = "from activarium.tasks.recording.record_worker import main; main()"


class WorkerError(Exception):
    """What went wrong in another process, as it was printed there."""


def record_on_devices(  # noqa: PLR0913 - a whole stage
    atlas: Atlas,
    config: RunConfig,
    checkpoint: CheckpointReceipt,
    *,
    devices: Sequence[str],
    part: int = 1,
    parts: int = 1,
    repair: bool = False,
    progress: Progress = silent,
) -> RecordingReceipt:
    """Record with one process per device, which take shard after shard.

    Parameters
    ----------
    atlas, config, checkpoint
        As for `record_checkpoint`; each process loads model and images itself.
    devices
        The device of each process; there may be several on one.
    part, parts
        The part of the shards that this machine makes.
    repair
        Check everything that is stored first, and make anew what is damaged.
    progress
        One bar for all processes.

    Raises
    ------
    UserError
        If a process fails or is killed; the others stop, and what was stored counts.
    """
    processes = len(devices)
    jobs = [_job(atlas, config, checkpoint, device, part, parts, processes) for device in devices]
    repairs: tuple[str, ...] = ()
    if repair:
        with _Crew(atlas, [replace(jobs[0], repair=True)], gives_shards=False) as first:
            repairs = first.run(silent).notices
    with _Crew(atlas, jobs) as crew:
        receipt = crew.run(progress)
    notices = tuple(dict.fromkeys((*repairs, *receipt.notices)))
    return receipt.model_copy(update={"notices": notices})


def _job(  # noqa: PLR0913, PLR0917 - what a process is given
    atlas: Atlas,
    config: RunConfig,
    checkpoint: CheckpointReceipt,
    device: str,
    part: int,
    parts: int,
    processes: int,
) -> Job:
    record = config.record.model_copy(update={"device": device, "devices": None})
    own = config.model_copy(update={"record": record})
    return Job(atlas, own, checkpoint, part, parts, processes)


@dataclass(frozen=True, eq=False)
class _Member:
    """One process, and the connection that it talks through."""

    job: Job
    process: subprocess.Popen[bytes]
    connection: Connection


class _Crew:
    """Processes that record together; a context at whose end none of them runs.

    Parameters
    ----------
    atlas
        Where the recording goes.
    jobs
        What each process does.
    gives_shards
        False where they are to make none.
    """

    def __init__(self, atlas: Atlas, jobs: Sequence[Job], *, gives_shards: bool = True) -> None:
        self._atlas = atlas
        self._jobs = jobs
        self._positions: Iterator[int] = count() if gives_shards else iter(())
        self._members: list[_Member] = []
        self._done: list[RecordingReceipt] = []
        self._began: str | None = None
        self._heard: set[_Member] = set()
        self._counting: _Member | None = None
        self._advance: Callable[[int], None] = no_advance
        self._bar = ExitStack()

    def __enter__(self) -> Self:
        try:
            for job in self._jobs:
                self._members.append(_start(job))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._stop()
        if isinstance(error, UserError) and self._began is not None:
            # Without a single receipt nothing is lost, and the mended run is another recording.
            place = place_at(self._atlas.recording(self._began))
            if not receipt_keys(place):
                place.delete_all()

    def run(self, progress: Progress) -> RecordingReceipt:
        """Answer the processes until all have ended, and return what they made together.

        Raises
        ------
        UserError
            If one of them fails or is killed.
        """
        began = time.perf_counter()
        running = {member.connection: member for member in self._members}
        while running:
            for ready in wait(list(running)):
                member = running[ready]  # type: ignore[index]
                if self._hear(member, progress):
                    del running[member.connection]
        last = min(self._done, key=lambda receipt: receipt.shards_left)
        return last.model_copy(
            update={
                "made": any(receipt.made for receipt in self._done),
                "resumed_shards": min(receipt.resumed_shards for receipt in self._done),
                "notices": tuple(line for receipt in self._done for line in receipt.notices),
                "seconds": time.perf_counter() - began,
            }
        )

    def _hear(self, member: _Member, progress: Progress) -> bool:
        """Take one word of a process, and return whether it was its last."""
        try:
            word = member.connection.recv()
            if isinstance(word, Asked):
                member.connection.send(next(self._positions, None))
        except (EOFError, ConnectionError):
            raise UserError(_how_it_ended(member)) from None
        if isinstance(word, Began):
            self._began = word.recording
        elif isinstance(word, Opened) and self._counting is None:
            self._counting = member
            self._advance = self._bar.enter_context(progress(word.description, word.total))
        elif isinstance(word, Advanced):
            self._advance_bar(member, word)
        elif isinstance(word, Failed):
            where = f"on {member.job.config.record.device}"
            raise UserError(word.reason) from WorkerError(f"{where}:\n{word.details}")
        elif isinstance(word, Done):
            self._done.append(word.receipt)
            return True
        return False

    def _advance_bar(self, member: _Member, word: Advanced) -> None:
        # The first word of each counts what was stored before, which counts once.
        if member in self._heard or member is self._counting:
            self._advance(word.images)
        self._heard.add(member)

    def _stop(self) -> None:
        """End every process that still runs; what it has filled it stores first."""
        for member in self._members:
            if member.process.poll() is None:
                member.process.terminate()
        for member in self._members:
            try:
                member.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
            member.connection.close()


def _start(job: Job) -> _Member:
    ours, theirs = Pipe()
    with theirs:
        threads = threads_per_process(job.processes, threads=job.config.record.threads)
        descriptor = theirs.fileno()
        warnings = [f"-W{option}" for option in sys.warnoptions] or ["-Wignore"]
        process = subprocess.Popen(
            [sys.executable, *warnings, "-c", PROGRAM, str(descriptor), str(os.getpid())],
            pass_fds=[descriptor],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C comes to this process alone, which then stops the others
        )
    with suppress(ConnectionError):  # its end is heard of in `run`
        ours.send(job)
    return _Member(job, process, ours)


def _how_it_ended(member: _Member) -> str:
    code = member.process.wait()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return (
        f"the process that recorded on {member.job.config.record.device} {how}: nothing that was "
        "stored is lost; run the same command again to go on"
    )
