"""The command that makes the tables of an analysis anew."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from activarium.schemas.config import AnalyseConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTIONS = (
    "fdr", "where", "where_of", "classes", "target", "name", "permutations", "seed", "exemplars",
    "class_exemplars",
)  # fmt: skip
"""Settings that the command takes as an option of their name, and a value."""


def analyse_command(recording: str, config: AnalyseConfig) -> str:
    """Return the command that analyses a recording with some settings, as far as it takes them.

    >>> analyse_command("toy", AnalyseConfig(fdr=0.05, where="correct and valid"))
    "activarium analyse toy --fdr 0.05 --where 'correct and valid'"
    """
    usual = AnalyseConfig()
    given: list[Sequence[str]] = [("--control", each) for each in config.controls]
    for name in _OPTIONS:
        value = getattr(config, name)
        if value != getattr(usual, name):
            given.append((f"--{name.replace('_', '-')}", str(value)))
    if config.partial:
        given.append(("--partial",))
    return shlex.join(
        ["activarium", "analyse", recording, *(word for each in given for word in each)]
    )
