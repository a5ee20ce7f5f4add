"""The command that watches a folder of checkpoints."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from activarium.flows.cli_options import (
    DEFAULT_ROOT,
    NoPrefect,
    Overrides,
    RecordingsAt,
    Root,
    Verbose,
)
from activarium.flows.output import err, out, print_notices
from activarium.flows.progress_bars import progress_bars
from activarium.flows.stage_choice import through_stages
from activarium.schemas.errors import UserError
from activarium.tasks.stores.atlas_check import RECORD_FLOOR_BYTES, check_atlas

app = typer.Typer()

MOST_SECONDS = 604_800.0
"""A week between looks."""


def _seconds(value: float) -> float:
    # typer's own bounds let what is no number pass.
    if not 0.1 <= value <= MOST_SECONDS:
        raise UserError(f"--every: expected 0.1 to {MOST_SECONDS:,.0f} seconds, got {value}")
    return value


@app.command()
def watch(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Where checkpoints appear; or a glob of files.")
    ],
    config: Annotated[
        Path,
        typer.Option("--config", metavar="CONFIG.yaml", help="The run: test set, model, layers."),
    ],
    overrides: Overrides = None,
    series: Annotated[
        str | None, typer.Option(help="Name of the series; by default the folder's name.")
    ] = None,
    every: Annotated[float, typer.Option(callback=_seconds, help="Seconds between looks.")] = 30.0,
    once: Annotated[
        bool, typer.Option("--once", help="Take what is there, then end: for schedulers.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Record, analyse and compare each new checkpoint as it appears; Ctrl-C ends it.

    Example: [bold]activarium watch 'atlas/models/two-block-cnn-digits-*' --config
    examples/digits.yaml --once[/]
    """
    from activarium.flows.configuration import check_run, load_run_config
    from activarium.flows.watching import WatchReceipt, record_and_compare
    from activarium.flows.watching import watch as watch_folder
    from activarium.tasks.recording.checkpoint_series import weight_files
    from activarium.tasks.series.folder_watch import FolderWatch

    named = {"model.checkpoints": folder, "model.series": series}
    given = [f"{key}={dumps(value)}" for key, value in named.items() if value is not None]
    settings = load_run_config(config, [*(overrides or ()), *given], cwd=Path.cwd())
    check_run(settings)
    check_atlas(root, needed=RECORD_FLOOR_BYTES, recordings_at=recordings_at)
    if once and not list(weight_files(Path(folder).expanduser())):
        raise UserError(f"{folder}: expected files of weights, found none")
    looking = FolderWatch()
    if not once:
        err.print(f"watching {folder}, every {every:g} s; Ctrl-C ends it")

    def act() -> WatchReceipt | None:
        try:
            with progress_bars(err):
                return through_stages(
                    lambda stages: record_and_compare(settings, root, stages, recordings_at),
                    root,
                    verbose=verbose,
                    no_prefect=no_prefect,
                )
        except UserError as error:
            if once:
                raise
            # The next checkpoint may be better: a watch that ends watches nothing.
            print_notices([str(error)])
            return None

    passes = watch_folder(
        lambda: looking.has_news(weight_files(Path(folder).expanduser())),
        act,
        every=every,
        most=1 if once else None,
    )
    for receipt in passes:
        if receipt is None:
            continue
        print_notices([*receipt.series.notices, *receipt.comparison.notices])
        steps = [int(each.step or 0) for each in receipt.series.checkpoints]
        out.print(
            f"{len(steps)} checkpoint{'' if len(steps) == 1 else 's'}, the last of step {max(steps):,}: "
            f"{receipt.comparison.report.path}"
        )
        failure = receipt.series.failure
        if failure is not None and once:
            raise UserError(failure)
        if failure is not None:
            print_notices([failure])
