"""Keeps the test sets that a command has loaded, so that each is read once."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from activarium.schemas.config import TestSetConfig
    from activarium.tasks.images.test_sets import TestSet

_KEPT: ContextVar[dict[tuple[str, Path], TestSet] | None] = ContextVar("test_sets", default=None)


@contextmanager
def keeping_test_sets() -> Iterator[None]:
    """Load each test set once inside the context; outside, each call reads it anew."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def forget_test_sets() -> None:
    """Free the memory of the test sets: recording is over."""
    kept = _KEPT.get()
    if kept is not None:
        kept.clear()


def kept_test_set(config: TestSetConfig, *, datasets: Path) -> TestSet:
    """Return the configured test set, which is loaded unless it was before in the same context.

    Raises
    ------
    UserError
        As `load_test_set`.
    """
    from activarium.tasks.images.test_sets import load_test_set

    kept = _KEPT.get()
    if kept is None:
        return load_test_set(config, datasets=datasets)
    key = config.model_dump_json(), datasets
    if key not in kept:
        kept[key] = load_test_set(config, datasets=datasets)
    return kept[key]
