"""Ctrl-C ends a command soon, also where Prefect waits for a server that was interrupted too."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

GRACE_SECONDS = 10.0
"""How long stages may take to store what is full and to stop their processes."""


def end_soon_after_interruption(say: Callable[[], None], *, grace: float = GRACE_SECONDS) -> None:
    """Let SIGINT raise KeyboardInterrupt, and end the process if it is not over soon after.

    A terminal sends SIGINT to every process of the command. Prefect's own server ends at once, and
    Prefect would ask it for more than a minute how the flow is to be marked.

    Parameters
    ----------
    say
        Tells the user, just before such an end.
    grace
        Seconds until then.
    """

    def leave() -> None:
        say()
        os._exit(INTERRUPTED)

    def interrupt(number: int, frame: FrameType | None) -> None:
        timer = threading.Timer(grace, leave)
        timer.daemon = True
        timer.start()
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
