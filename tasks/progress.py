"""How long work tells that it advances: an argument of every task that takes longer than seconds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Progress(Protocol):
    """Opens one bar; the value of the context advances it by that many steps."""

    def __call__(
        self, description: str, total: int | None
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar of `total` steps, or one that only shows life where `total` is None.

        Of 0 steps there is no bar: the description is a line to read.
        """
        ...


def tell(progress: Progress, line: str) -> None:
    """Say something before long work begins, where progress is shown; it stays to be read."""
    with progress(line, 0):
        pass


def no_advance(steps: int) -> None:
    """Advance nothing."""
    del steps


@contextmanager
def silent(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show nothing; the default of every task."""
    del description, total
    yield no_advance


class WorkLeftError(BaseException):
    """Something would be made, where the caller only looks; no fault that is to be handled."""


@contextmanager
def only_look(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show nothing and let nothing be made: for who wants to know whether there is anything to do."""
    del total
    raise WorkLeftError(description)
    yield no_advance


def begin_work(progress: Progress) -> None:
    """Say that what follows changes what is stored.

    Raises
    ------
    WorkLeftError
        If the caller only looks.
    """
    if progress is only_look:
        raise WorkLeftError


def reading(progress: Progress) -> Progress:
    """Return what shows the progress of work that changes nothing, which who looks does too."""
    return silent if progress is only_look else progress
