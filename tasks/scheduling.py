"""Runs independent pieces of work through Dask: threads, processes, or a running cluster."""

from __future__ import annotations

import os
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.config
from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from activarium.schemas.errors import UserError
from activarium.tasks.cluster import check_workers, cluster, finished, submit
from activarium.tasks.processes import end_with_parent, most_processes
from activarium.tasks.shared_folders import marked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOCAL = ("threads", "processes", "synchronous")
"""Schedulers of this machine; synchronous runs one piece after the other."""


def run_pieces(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    scheduler: str,
    advance: Callable[[int], None],
    shared: Sequence[Path] = (),
) -> list[Any]:
    """Return `function(*each)` for each tuple of arguments, in their order.

    Parameters
    ----------
    function
        An importable function whose pieces do not depend on one another and may be repeated.
    arguments
        Small arguments: paths and numbers, never arrays.
    scheduler
        `threads`, `processes`, or the address of a Dask scheduler.
    advance
        Called with 1 whenever a piece is done.
    shared
        Folders that the pieces write to, which the workers of a cluster must see as they are here.

    Raises
    ------
    UserError
        If the scheduler is unknown or cannot be reached, has no workers, or loses them all; if a
        worker of a cluster does not see a shared folder, or fails in what the user can mend; if
        worker processes of this machine die once more after the pieces left were begun again.
    """
    if scheduler in LOCAL:
        return _run_here(function, arguments, scheduler, advance)
    if "://" not in scheduler:
        raise UserError(
            f"scheduler: expected one of {', '.join(LOCAL)} or an address such as "
            f"tcp://host:8786, got {scheduler!r}"
        )
    return _run_on_cluster(function, arguments, scheduler, advance, shared)


def _run_here(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    scheduler: str,
    advance: Callable[[int], None],
) -> list[Any]:
    pieces = [delayed(function, pure=False)(*each) for each in arguments]
    # BLAS at one thread where the pieces already fill the cores.
    limit = None if scheduler == "synchronous" else 1
    settings = _process_settings() if scheduler == "processes" else {}
    with (
        # A server that forks them would be their parent instead of this process.
        dask.config.set({"multiprocessing.context": "spawn"}),
        threadpool_limits(limit),
        _Results(advance) as results,
    ):
        try:
            compute(*pieces, scheduler=scheduler, **settings)  # type: ignore[no-untyped-call]
        except BrokenProcessPool:
            left = [each for each in pieces if each.key not in results.by_key]
            try:
                compute(*left, scheduler=scheduler, **settings)  # type: ignore[no-untyped-call]
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process died, and another when the rest was begun again (killed, or "
                    "out of memory): what is done is kept, run the same command again; `--scheduler "
                    "synchronous` takes the least memory"
                ) from error
    return [results.by_key[each.key] for each in pieces]


def _process_settings() -> dict[str, Any]:
    """Return how many worker processes there are, and that each ends when this one does."""
    asked = dask.config.get("num_workers", None)
    most = most_processes()
    workers = min(asked, most) if isinstance(asked, int) and asked > 0 else most
    return {"num_workers": workers, "initializer": partial(end_with_parent, os.getpid())}


class _Results(Callback):
    """Keeps the result of each piece that is done, whatever becomes of the others."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._advance = advance
        self.by_key: dict[str, Any] = {}

    def _posttask(self, key: str, result: Any, graph: Any, state: Any, worker: Any) -> None:
        del graph, state, worker
        self.by_key[key] = result
        self._advance(1)


def _run_on_cluster(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    address: str,
    advance: Callable[[int], None],
    shared: Sequence[Path],
) -> list[Any]:
    if not arguments:
        return []
    with cluster(address) as client, marked(shared) as marks:
        check_workers(client, marks, address)
        futures = submit(client, function, marks, arguments, address)
        results = {}
        for future, done in finished(client, futures, address):
            results[future.key] = done.value
            advance(1)
    return [results[future.key] for future in futures]
