"""Which shards of a recording a process makes, where several make one recording together."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from activarium.schemas.layout import RecordingLayout, Shard


def _ignore(recording: str) -> None:
    del recording


@dataclass(frozen=True)
class Share:
    """One process's share of a recording. Shares may overlap: equal shards have equal bytes."""

    part: int = 1
    parts: int = 1
    """The part of this machine among the parts of all machines, from 1."""
    processes: int = 1
    """Processes of this machine that record beside one another."""
    workers: int = 1
    """Processes of all machines: the shards are made a multiple of it, so that work is even."""
    positions: Callable[[int], Iterable[int]] = range
    """Given the number of the part's shards: the places of those to make, taken one by one."""
    began: Callable[[str], None] = _ignore
    """Told the name of a recording whose store this process creates."""

    def shards(self, layout: RecordingLayout) -> tuple[Shard, ...]:
        """Return the shards of this part."""
        return layout.shards()[self.part - 1 :: self.parts]

    @property
    def is_whole(self) -> bool:
        """Whether this process alone makes the recording."""
        return self.workers == self.parts == self.processes == 1


def parse_part(text: str) -> tuple[int, int]:
    """Return i and n of `i/n`.

    Raises
    ------
    UserError
        If it is no part, such as 2/8.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UserError(f"--part: expected i/n with i from 1 to n, such as 2/8, got {text!r}")
    return part, parts


def even_shards(layout: RecordingLayout, workers: int) -> RecordingLayout:
    """Return the layout with a number of shards that is a multiple of the workers.

    Their images differ by one shard's remainder at most; there is at least one image in each.
    """
    shards = -(-layout.images // layout.shard_images)
    wanted = min(layout.images, -(-shards // workers) * workers)
    return replace(layout, shard_images=-(-layout.images // wanted))
