"""What the command line says at the end of a stage: what was found, and what to type next."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from activarium.flows.cli_options import DEFAULT_ROOT
from activarium.flows.output import out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Ending:
    """Where a command worked, which the next one has to be told again."""

    root: Path
    recordings_at: str | None = None
    no_prefect: bool = False

    def command(self, *words: str) -> str:
        """Return a command line that works as it stands, of the stages."""
        more = [] if self.recordings_at is None else ["--recordings", self.recordings_at]
        plain = ["--no-prefect"] if self.no_prefect else []
        return shlex.join(["activarium", *words, *self._root(), *more, *plain])

    def query(self, *parts: str) -> str:
        """Return a command line that asks the tables, of the parts of an SQL query."""
        sql = " ".join(parts)
        # In double quotes it reads as in the documents; what these would change is quoted otherwise.
        quoted = shlex.quote(sql) if set(sql) & set('"$`\\!') else f'"{sql}"'
        return " ".join(["activarium query", quoted, *map(shlex.quote, self._root())])

    def _root(self) -> list[str]:
        is_default = self.root == DEFAULT_ROOT and "ACTIVARIUM_ROOT" not in os.environ
        return [] if is_default else ["--root", str(self.root)]

    def say(self, command: str, findings: Sequence[str] = (), when: str = "") -> None:
        """Print what was found, and the next command."""
        for line in findings:
            out.print(line)
        out.print(f"next{when}: {command}")


def where(**equal: str) -> str:
    """Return an SQL condition: these columns have these values."""
    pairs = [f"{name} = '" + value.replace("'", "''") + "'" for name, value in equal.items()]
    return f"WHERE {' AND '.join(pairs)}"
