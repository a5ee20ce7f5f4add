"""Commands that look at an atlas: list, verify, query."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer

from activarium.flows.cli_options import DEFAULT_ROOT, Json, RecordingsAt, Root, Verbose
from activarium.flows.output import (
    err,
    out,
    print_json,
    print_notices,
    print_rows,
    print_verification,
)
from activarium.flows.progress_bars import current_progress, progress_bars
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.tasks.limited_process import QUERY_SECONDS

app = typer.Typer()


@app.command("list")
def list_command(
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List the recordings of the atlas.

    Example: [bold]activarium list --json[/]
    """
    del verbose
    from activarium.tasks.reporting.listing import list_recordings

    atlas = Atlas(root, recordings_at)
    rows = list_recordings(atlas)
    if json:
        print_json(rows)
    elif rows:
        # Of recordings that are of no training in time, there is no series to tell.
        series = ("series", "step") if any(row.get("series") for row in rows) else ()
        draws = ("draws",) if any(row.get("draws") for row in rows) else ()
        columns = ("recording", *series, "status", *draws, "images", "units", "accuracy", "tables")
        print_rows(rows, columns)
        print_notices([f"{row['recording']}: {row['problem']}" for row in rows if row["problem"]])
    else:
        out.print(f"no recordings in {atlas.recordings}: `activarium demo` makes the first")


@app.command()
def verify(
    recordings: Annotated[
        list[str] | None, typer.Argument(metavar="[RECORDING...]", help="By default all.")
    ] = None,
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Recompute every checksum of the atlas, or of some recordings alone.

    Exit code 1: something is damaged. 2: there is nothing to verify. 3: nothing is damaged, but
    something was begun and is not finished.

    Example: [bold]activarium verify[/]
    """
    del verbose
    from activarium.tasks.stores.verify import names_to_verify
    from activarium.tasks.stores.verify import verify as verify_atlas

    atlas = Atlas(root, recordings_at)
    names = names_to_verify(atlas, recordings or ())
    with progress_bars(err):
        found = verify_atlas(atlas, names, others=not recordings, progress=current_progress())
    if json:
        print_json(asdict(found))
    else:
        print_verification(found)
    if found.faults or found.unfinished:
        raise typer.Exit(1 if found.faults else 3)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A query over the tables.")],
    recordings: Annotated[
        list[str] | None,
        typer.Option(
            "--recording",
            metavar="RECORDING",
            help="Id, its beginning or a glob of the recordings to ask; repeatable. By default all.",
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all rows.")] = False,
    json: Json = False,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long the query may take.")
    ] = QUERY_SECONDS,
    verbose: Verbose = False,
) -> None:
    """Ask the tables in SQL (DuckDB); each table is a view.

    [bold]units[/] holds all recordings, the untrained control among them; [bold]trained_units[/] and
    [bold]untrained_units[/] hold one kind. So does every other table.

    One query that reads: SELECT, WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN. It sees the
    tables and no other file, setting or network. Files that are damaged are left out and named.

    Example: [bold]activarium query "SELECT layer, eta2_mean FROM trained_layers LIMIT 9"[/]
    """
    del verbose
    if csv and json:
        raise UserError("--csv and --json: expected one of them")
    from activarium.flows.result_output import (
        print_result,
        print_result_as_csv,
        print_result_as_json,
    )
    from activarium.tasks.reporting.query import open_query

    # In a log, that tables are checked is no news.
    with progress_bars(err) if err.is_terminal else nullcontext():
        result = open_query(
            Atlas(root),
            sql,
            recordings=recordings or (),
            seconds=time_limit,
            progress=current_progress(),
        )
    print_notices(result.notices)
    show = print_result_as_csv if csv else print_result_as_json if json else print_result
    show(result)
