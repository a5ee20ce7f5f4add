"""A running Dask cluster: its client, its workers, and what they finish as long as there are any."""

from __future__ import annotations

import asyncio
import logging
import queue
import re
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from distributed import Client, Future

    from activarium.tasks.cluster_worker import Done, View

CONNECT_SECONDS = 10
"""How long to try to reach a scheduler."""

WAIT_SECONDS = 30
"""How long to wait for a cluster's first worker, and for another one where all are lost."""

LIBRARY_LOGS = r"(distributed|tornado)(\.|$)"
"""Names of the logs of what a client is made of."""

FETCH_SECONDS = 5
"""How long to wait for the result of a task before looking whether there are workers."""


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Give a client of a running Dask scheduler that has workers.

    Raises
    ------
    UserError
        If the scheduler cannot be reached, or has no workers.
    """
    from distributed import Client

    if not re.match(r"(tcp|tls|ucx|ws|wss)://.", address):
        raise UserError(
            f"expected the address of a Dask scheduler, tcp://host:port, got {address!r}"
        )
    with _quiet():
        try:
            client = Client(address, timeout=f"{CONNECT_SECONDS}s", set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers at {address}: start one with `dask scheduler`, or leave "
                "the address out"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=WAIT_SECONDS)
            except TimeoutError as error:
                raise UserError(
                    f"the Dask scheduler at {address} has no workers after {WAIT_SECONDS} s: start "
                    f"one with `dask worker {address}`"
                ) from error
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep distributed from telling of lost workers and schedulers beside our own line.

    Also while the client is closed, which looks for a scheduler that is gone.
    """
    names = [name for name in logging.root.manager.loggerDict if re.match(LIBRARY_LOGS, name)]
    before = [(log, log.level) for log in map(logging.getLogger, sorted(names))]
    for log, _ in before:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in before:
            log.setLevel(level)


def check_workers(client: Client, marks: Sequence[Path], address: str) -> list[str]:
    """Ask every worker that there is whether work on these folders can begin; return the addresses.

    Parameters
    ----------
    client
        Of a cluster.
    marks
        Files of `marked`; a worker that comes later looks for them before each task.
    address
        For messages.

    Raises
    ------
    UserError
        If workers do not see a folder, have another version of this program, or none; if the
        scheduler goes away.
    """
    from activarium.tasks.cluster_worker import does_not_see, named, program_version, view

    with _reaching(address):
        asked = client.run(view, tuple(marks), on_error="return")
    found: dict[str, View] = {}
    for worker, each in asked.items():
        # One that is lost right now is no fault: others, or the next one, do its tasks.
        if isinstance(each, OSError):
            continue
        if isinstance(each, BaseException):
            raise UserError(
                f"worker {worker} cannot load this program ({each}): install the same version "
                "there, and start the worker anew"
            )
        found[named(worker, each.host)] = each
    blind = [worker for worker, each in found.items() if each.unseen]
    if blind:
        raise UserError(does_not_see(blind, found[blind[0]].unseen))
    here = program_version()
    other = [
        f"{worker} has {each.version}" for worker, each in found.items() if each.version != here
    ]
    if other:
        raise UserError(
            f"expected activarium {here} on every worker, as here; {', '.join(other)}: install the "
            "same version there, and start the worker anew"
        )
    return list(asked)


def submit(
    client: Client,
    function: Callable[..., Any],
    marks: Sequence[Path],
    pieces: Sequence[tuple[Any, ...]],
    address: str,
) -> list[Future[Any]]:
    """Give out `function(*piece)` for each piece, and return the futures in their order."""
    from activarium.tasks.cluster_worker import do_task

    with _reaching(address):
        return [client.submit(do_task, function, tuple(marks), each, pure=False) for each in pieces]
    return []


def finished(
    client: Client, futures: Sequence[Future[Any]], address: str
) -> Iterator[tuple[Future[Any], Done]]:
    """Yield each future of `submit` with its result when it is done, and raise what a task raised.

    Parameters
    ----------
    client
        Of the cluster at `address`.
    futures
        What it works on; their results are small.
    address
        For messages.

    Raises
    ------
    UserError
        If the scheduler goes away, all workers are lost and none comes within `WAIT_SECONDS`, or
        workers die one after the other of the same task.
    """
    from distributed import KilledWorker

    done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)  # type: ignore[no-untyped-call]
    workers = _Workers(client, address)
    for _ in futures:
        future = _next(done, workers)
        try:
            found = _result(future, workers)
        except KilledWorker as error:
            raise UserError(
                f"the workers at {address} died one after the other ({error}): nothing that was "
                "stored is lost; look at their logs, then run the same command again"
            ) from error
        yield future, found


@dataclass
class _Workers:
    """The workers of a cluster, and since when there are none."""

    client: Client
    address: str
    lost: float | None = None

    def check(self) -> None:
        """Look whether there are any; raise where there have been none for too long."""
        began = self.lost or time.monotonic()
        self.lost = None if _has_workers(self.client, self.address) else began
        if self.lost and time.monotonic() - self.lost > WAIT_SECONDS:
            raise UserError(
                f"the Dask scheduler at {self.address} has lost all its workers, and none came "
                f"within {WAIT_SECONDS} s: nothing that was stored is lost; start some with "
                f"`dask worker {self.address}`, then run the same command again"
            )


def _next(done: queue.SimpleQueue[Future[Any]], workers: _Workers) -> Future[Any]:
    """Return the next future that is done; raise where none will be."""
    while True:
        try:
            future = done.get(timeout=1)
        except queue.Empty:
            workers.check()
        else:
            if future.cancelled():  # type: ignore[no-untyped-call]
                raise _gone(workers.address)
            return future


def _result(future: Future[Any], workers: _Workers) -> Any:
    """Return what a task gave; raise where the worker that held it is lost and none does it again."""
    while True:
        try:
            return future.result(timeout=FETCH_SECONDS)
        except (CancelledError, asyncio.CancelledError) as error:
            raise _gone(workers.address) from error
        except TimeoutError:
            # Of the task itself, not of waiting for it.
            if future.status == "error":
                raise
            workers.check()


def _has_workers(client: Client, address: str) -> bool:
    with _reaching(address):
        # Asked of the scheduler itself: what the client knows of it may be old.
        return bool(client.nthreads())  # type: ignore[no-untyped-call]
    return False


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Tell in one line of a scheduler that is gone."""
    try:
        yield
    except Exception as error:
        # The library has several errors for it, of which some are its own.
        if not isinstance(error, (OSError, RuntimeError)) and "Closed" not in type(error).__name__:
            raise
        raise _gone(address) from error


def _gone(address: str) -> UserError:
    return UserError(
        f"the Dask scheduler at {address} went away: nothing that was stored is lost; start it "
        "again, then run the same command again"
    )
