"""Options and arguments that several commands share, described where they are typed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from activarium.schemas.atlas import given_name
from activarium.schemas.errors import UserError, shortened
from activarium.schemas.settings import known_place


@dataclass
class Session:
    """What the command line still has to know when a command has failed."""

    verbose: bool = False


def _remember_verbose(context: typer.Context, value: bool) -> bool:
    if isinstance(context.obj, Session):
        context.obj.verbose = value
    return value


def _checked_address(value: str | None) -> str | None:
    """Return a folder or address as it is meant: shells expand `~` at the start of a word only."""
    try:
        return None if value is None else known_place(value)
    except ValueError as error:
        raise UserError(f"a folder or address: {error}") from error
    except RuntimeError as error:
        raise UserError(f"{shortened(repr(value))} names a user who is not known here") from error


def _checked_folder(value: str | Path) -> Path:
    # A variable of a shell that is not set would be the current folder.
    if value == "":
        raise UserError("--root: expected the folder of an atlas, got '' (`.` is the current one)")
    return Path(str(_checked_address(str(value))))


def _print_version(value: bool) -> bool:
    if value:
        typer.echo(f"activarium {metadata.version('activarium')}")
        raise typer.Exit
    return value


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
]


def checked_name(value: str | None) -> str | None:
    """Return the name of a page, where a file can be called by it."""
    try:
        return None if value is None else given_name(value)
    except ValueError as error:
        raise UserError(f"--name: {error}") from error


Root = Annotated[
    Path,
    typer.Option(
        "--root",
        envvar="ACTIVARIUM_ROOT",
        parser=_checked_folder,
        metavar="FOLDER",
        help="The atlas folder.",
    ),
]
RecordingsAt = Annotated[
    str | None,
    typer.Option(
        "--recordings",
        envvar="ACTIVARIUM_RECORDINGS",
        callback=_checked_address,
        metavar="ADDRESS",
        help="Where recordings lie if not in the atlas folder: a folder, or s3://bucket/prefix "
        "(credentials from the environment or AWS_PROFILE).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_remember_verbose,
        help="Show Prefect's own log, and where an error came from.",
    ),
]
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
