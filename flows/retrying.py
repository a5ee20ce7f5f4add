"""How Prefect treats our tasks: never cached, tried again unless the user must act."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE

from activarium.schemas.errors import UserError


def is_worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Return false where the same would fail the same way."""
    del task, run
    return not isinstance(state.result(raise_on_failure=False), UserError)


TASK_OPTIONS: dict[str, Any] = {
    # What is on disk is the truth: receipts and table files, not Prefect's memory of a task.
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 1,
    "retry_delay_seconds": 5,
    "retry_condition_fn": is_worth_retrying,
}
