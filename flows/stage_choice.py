"""Chooses how stages run: as Prefect flows, or as plain functions."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from activarium.flows.looking import found_current
from activarium.flows.prefect_settings import prepare_prefect
from activarium.flows.progress_bars import current_progress
from activarium.tasks.images.kept_sets import keeping_test_sets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from activarium.flows.stages import Stages

R = TypeVar("R")


def through_stages(act: Callable[[Stages], R], root: Path, *, verbose: bool, no_prefect: bool) -> R:
    """Return what `act` gives: found as it is, or made by plain functions or Prefect flows.

    Prefect takes ten seconds of processor time, which nobody waits for where nothing is to be made.

    Parameters
    ----------
    act
        Calls stages.
    root
        The atlas folder.
    verbose
        Show Prefect's own log.
    no_prefect
        Run plain functions.
    """
    with keeping_test_sets():
        found = None if no_prefect else found_current(act)
        if found is not None:
            return found
        return act(choose_stages(root, verbose=verbose, no_prefect=no_prefect))


def choose_stages(root: Path, *, verbose: bool, no_prefect: bool) -> Stages:
    """Return the stages as plain functions or as Prefect flows.

    Prefect is imported only where it is used, after its settings are in place.
    """
    if no_prefect:
        from activarium.flows.stages import PlainStages

        return PlainStages()
    start_prefect(root, verbose=verbose)
    from activarium.flows.run_pipeline import FlowStages

    return FlowStages()


def start_prefect(root: Path, *, verbose: bool) -> None:
    """Reach the Prefect server, or start one for this process, before the first flow does.

    It takes 7 to 15 seconds, which deserve a sign of life; and two servers that create the same
    database at once break one another, so one waits for the other.
    """
    prepare_prefect(root, verbose=verbose)
    with current_progress()("starting Prefect", None):
        from prefect import get_client

        home = Path(os.environ.get("PREFECT_HOME", root))
        with _only_starter(home), get_client(sync_client=True) as client:
            error = client.api_healthcheck()
        if error is not None:
            raise error


@contextmanager
def _only_starter(home: Path) -> Iterator[None]:
    """Let one process at a time start a server on the database of a folder."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "starting.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
