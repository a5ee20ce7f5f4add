"""Looks whether anything is to be made, before Prefect is imported and its server started."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from activarium.flows.progress_bars import shown_by
from activarium.flows.stages import PlainStages
from activarium.schemas.errors import UserError
from activarium.tasks.progress import WorkLeftError, only_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from activarium.flows.stages import Stages

R = TypeVar("R")


def found_current(act: Callable[[Stages], R]) -> R | None:
    """Return what `act` gives where all of it is there and current; None where work is left.

    A look is the same work by the same functions, which ends at the first thing that would be made.

    Raises
    ------
    UserError
        If the work would end with it: a wrong folder is told of at once.
    """
    with shown_by(only_look):
        try:
            return act(PlainStages())
        except UserError:
            raise
        except WorkLeftError:
            return None
        except Exception:  # noqa: BLE001 - the work itself meets it again, and is tried twice
            return None
