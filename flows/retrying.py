"""How Prefect treats our tasks: never cached, tried again unless the user must act."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from activarium.schemas.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

RETRY_SECONDS = 5


def is_worth_retrying(run_task: Any, run: Any, state: Any) -> bool:
    """Return false where the same would fail the same way."""
    del run_task, run
    return not isinstance(state.result(raise_on_failure=False), UserError)


def retried_task(function: Callable[P, R], *, name: str) -> Callable[P, R]:
    """Return the function as a Prefect task that is tried once more after a fault.

    Nothing is cached: receipts and table files say what is done, not Prefect's memory of it.
    """
    options = task(
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=1,
        retry_delay_seconds=RETRY_SECONDS,
        retry_condition_fn=is_worth_retrying,
    )
    return options(function)
