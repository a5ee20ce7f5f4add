"""Tell when the checkpoints in a folder are new, and no longer being written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

State = dict[str, tuple[int, int]]
"""Size and time of the last change of each file."""


@dataclass
class FolderWatch:
    """Looks at a folder of checkpoints again and again."""

    seen: State = field(default_factory=dict)
    """What the last look saw."""
    handled: State = field(default_factory=dict)
    """What was there when it was last said to have news."""

    def has_news(self, files: Iterable[Path]) -> bool:
        """Look once; return whether files are there that were not handled, and none is growing.

        A file counts when two looks in a row see it alike: whoever writes it may take his time.

        Parameters
        ----------
        files
            The checkpoints that are there now.
        """
        state: State = {}
        for path in files:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # renamed or deleted between the listing and the look
            state[str(path)] = (status.st_size, status.st_mtime_ns)
        is_settled, self.seen = state == self.seen, state
        new = {name for name, each in state.items() if self.handled.get(name) != each}
        if not (is_settled and new):
            return False
        self.handled = state
        return True
