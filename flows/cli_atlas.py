"""Commands that look at an atlas: list, verify, query."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from activarium.flows.cli_options import DEFAULT_ROOT, Json, Root
from activarium.flows.output import err, out, print_json, print_result, print_rows
from activarium.flows.progress_bars import current_progress, progress_bars
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError

app = typer.Typer()


@app.command("list")
def list_command(root: Root = DEFAULT_ROOT, json: Json = False) -> None:
    """List the recordings of the atlas.

    Example: [bold]activarium list --json[/]
    """
    from activarium.tasks.listing import list_recordings

    rows = list_recordings(Atlas(root))
    if json:
        print_json(rows)
    elif rows:
        print_rows(rows, ("recording", "status", "images", "units", "accuracy", "tables"))
    else:
        out.print(f"no recordings in {root}: `activarium demo` makes the first")


@app.command()
def verify(
    recordings: Annotated[
        list[str] | None, typer.Argument(metavar="[RECORDING...]", help="By default all.")
    ] = None,
    root: Root = DEFAULT_ROOT,
    json: Json = False,
) -> None:
    """Recompute every checksum; exit code 1 where something differs.

    Example: [bold]activarium verify[/]
    """
    from activarium.tasks.verify import verify as verify_recordings

    atlas = Atlas(root)
    names = _matching(atlas, recordings) if recordings else atlas.recording_names()
    with progress_bars(err):
        found = verify_recordings(atlas, names, progress=current_progress())
    if json:
        print_json(asdict(found))
    else:
        for fault in found.faults:
            out.print(f"[red]{fault.recording}[/] {fault.object}: {fault.problem}")
        out.print(
            f"{found.objects} objects of {found.recordings} recordings, "
            f"{len(found.faults)} not as their checksum says"
        )
    if found.faults:
        raise typer.Exit(1)


def _matching(atlas: Atlas, prefixes: list[str]) -> list[str]:
    names = atlas.recording_names()
    chosen = [name for name in names if any(name.startswith(prefix) for prefix in prefixes)]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise UserError(f"no recording begins with {prefix!r} in {atlas.recordings}")
    return chosen


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A query over the tables.")],
    root: Root = DEFAULT_ROOT,
    json: Json = False,
) -> None:
    """Ask the tables in SQL (DuckDB); each table is a view.

    Example: [bold]activarium query "SELECT layer, eta2_mean FROM layers ORDER BY depth"[/]
    """
    from activarium.tasks.query import query as run_query

    result = run_query(Atlas(root), sql)
    if json:
        print_json(result.to_pylist())
    else:
        print_result(result)
