"""Runs independent pieces of work through Dask: threads, processes, or a running cluster."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOCAL = ("threads", "processes", "synchronous")
"""Schedulers of this machine; synchronous runs one piece after the other."""

WAIT_SECONDS = 30
"""How long to wait for a cluster's first worker."""


def run_pieces(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    scheduler: str,
    advance: Callable[[int], None],
) -> list[Any]:
    """Return `function(*each)` for each tuple of arguments, in their order.

    Parameters
    ----------
    function
        An importable function whose pieces do not depend on one another.
    arguments
        Small arguments: paths and numbers, never arrays.
    scheduler
        `threads`, `processes`, or the address of a Dask scheduler.
    advance
        Called with 1 whenever a piece is done.

    Raises
    ------
    UserError
        If the scheduler is unknown or cannot be reached, or has no workers.
    """
    if scheduler in LOCAL:
        pieces = [delayed(function, pure=False)(*each) for each in arguments]
        # BLAS at one thread where the pieces already fill the cores.
        limit = None if scheduler == "synchronous" else 1
        with threadpool_limits(limit), _Counter(advance):
            return list(compute(*pieces, scheduler=scheduler))  # type: ignore[no-untyped-call]
    if "://" not in scheduler:
        raise UserError(
            f"scheduler: expected one of {', '.join(LOCAL)} or an address such as "
            f"tcp://host:8786, got {scheduler!r}"
        )
    return _run_on_cluster(function, arguments, scheduler, advance)


class _Counter(Callback):
    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._advance = advance

    def _posttask(self, key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        del key, result, graph, state, worker
        self._advance(1)


def _run_on_cluster(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    address: str,
    advance: Callable[[int], None],
) -> list[Any]:
    from distributed import as_completed

    with cluster(address) as client:
        futures = [client.submit(function, *each, pure=False) for each in arguments]
        for _ in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
            advance(1)
        return list(client.gather(futures))


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Give a client of a running Dask scheduler that has workers.

    Raises
    ------
    UserError
        If the scheduler cannot be reached, or has no workers.
    """
    from distributed import Client

    if not re.match(r"(tcp|tls|ucx|ws|wss|inproc)://.", address):
        raise UserError(
            f"expected the address of a Dask scheduler, tcp://host:port, got {address!r}"
        )
    try:
        client = Client(address, timeout=f"{WAIT_SECONDS}s", set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {address}: start one with `dask scheduler`, or leave the "
            "address out"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except TimeoutError as error:
            raise UserError(
                f"the Dask scheduler at {address} has no workers after {WAIT_SECONDS} s: start one "
                f"with `dask worker {address}`"
            ) from error
        yield client
