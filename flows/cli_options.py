"""Options and arguments that several commands share, described where they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[
    Path,
    typer.Option("--root", envvar="ACTIVARIUM_ROOT", help="The atlas folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")]
NoPrefect = Annotated[
    bool, typer.Option("--no-prefect", help="Run the same functions without Prefect.")
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run's settings.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
RecordingName = Annotated[
    str, typer.Argument(metavar="RECORDING", help="Id of a recording, or the beginning of it.")
]

DEFAULT_ROOT = Path("atlas")
