"""Progress bars on the terminal; flows pass them to the tasks."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from activarium.schemas.errors import shown
from activarium.tasks.progress import no_advance, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from activarium.tasks import progress as progress_module

_CURRENT: ContextVar[progress_module.Progress] = ContextVar("progress", default=silent)


def current_progress() -> progress_module.Progress:
    """Return what shows progress here; silent unless the command line has opened bars."""
    return _CURRENT.get()


@contextmanager
def shown_by(progress: progress_module.Progress) -> Iterator[None]:
    """Let `progress` show all long work inside the context."""
    token = _CURRENT.set(progress)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def progress_bars(console: Console) -> Iterator[None]:
    """Show a bar on the console for all long work inside the context."""

    @contextmanager
    def bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        description = shown(description)
        if total == 0:
            console.print(Text(description))
            yield no_advance
            return
        if not console.is_terminal:
            # Bars in a log file are noise; one line says what has begun.
            console.print(Text(f"{description} ..."))
            yield no_advance
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bars:
            task = bars.add_task(description, total=total)
            yield lambda steps: bars.advance(task, steps)

    with shown_by(bar):
        yield
