"""Commands that take a configuration: demo, run, train, record."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from activarium.flows.cli_options import (
    DEFAULT_ROOT,
    ConfigFile,
    Json,
    NoPrefect,
    Overrides,
    RecordingsAt,
    Root,
    Verbose,
)
from activarium.flows.output import (
    err,
    out,
    print_invalid,
    print_json,
    print_notices,
    print_receipt,
    print_summary,
)
from activarium.flows.progress_bars import progress_bars
from activarium.flows.stage_choice import choose_stages, start_prefect
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.tasks.stores.atlas_check import FLOOR_BYTES, RECORD_FLOOR_BYTES, check_atlas

if TYPE_CHECKING:
    from activarium.schemas.config import RunConfig
    from activarium.schemas.receipts import SeriesReceipt

app = typer.Typer()


def _run(
    config: RunConfig,
    root: Path,
    recordings_at: str | None,
    *,
    json: bool,
    verbose: bool,
    no_prefect: bool,
) -> None:
    check_atlas(root, needed=FLOOR_BYTES, recordings_at=recordings_at)
    with progress_bars(err):
        if no_prefect:
            from activarium.flows.pipeline import run_stages
            from activarium.flows.stages import PlainStages

            receipt = run_stages(config, root, PlainStages(), recordings_at)
        else:
            start_prefect(root, verbose=verbose)
            from activarium.flows.run_pipeline import run_pipeline

            receipt = run_pipeline(config, root, recordings_at)
    from activarium.tasks.reporting.summary import summarise

    atlas = Atlas(root, recordings_at)
    summary = summarise(atlas, receipt.report.recordings)
    notices = [*receipt.checkpoint.notices]
    notices += receipt.series.notices if receipt.series is not None else ()
    notices += [line for each in receipt.recordings for line in each.notices]
    notices += [line for each in receipt.tables for line in each.notices]
    notices += receipt.report.notices
    notices = list(dict.fromkeys(notices))
    # What is the answer too is said once.
    print_notices([each for each in notices if json or each != summary["answer"]])
    if json:
        more = {"made": receipt.made, "report": receipt.report.path, "notices": notices}
        if receipt.series is not None:
            more["series"] = receipt.series.model_dump(mode="json")
        print_json({**summary, **more})
    else:
        print_summary(summary, receipt, atlas)
        if not receipt.made:
            out.print("nothing was made anew: all of this was there and is current")
    _end_with_failures(receipt.series)


@app.command()
def demo(
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Run the whole pipeline on handwritten digits: about a minute, nothing to download.

    Example: [bold]activarium demo --root /tmp/atlas[/]
    """
    from activarium.flows.demo import DEMO

    _run(DEMO, root, recordings_at, json=json, verbose=verbose, no_prefect=no_prefect)


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Train, record, analyse, embed and report; what is current is not made again.

    Example: [bold]activarium run examples/cifar10.yaml --set training.epochs=5[/]
    """
    settings = _load(config, overrides)
    _run(settings, root, recordings_at, json=json, verbose=verbose, no_prefect=no_prefect)


def _load(config: Path, overrides: list[str] | None) -> RunConfig:
    from activarium.flows.configuration import check_run, load_run_config

    settings = load_run_config(config, overrides or (), cwd=Path.cwd())
    check_run(settings)
    return settings


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Train the configured model; one checkpoint per epoch, and more where that is asked.

    Example: [bold]activarium train examples/fashion_mnist.yaml --set training.epochs=3[/]
    """
    settings = _load(config, overrides)
    check_atlas(root, needed=FLOOR_BYTES)
    with progress_bars(err):
        stages = choose_stages(root, verbose=verbose, no_prefect=no_prefect)
        receipt = stages.train(settings, root)
    print_notices(receipt.notices)
    print_receipt(receipt, json=json, text=f"trained {receipt.model}: {receipt.path}")


@app.command()
def record(
    config: ConfigFile,
    overrides: Overrides = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE,...",
            help="Devices of this machine that record side by side, one process each: "
            "cuda:0,cuda:1, or cpu:2 for two processes on the CPU.",
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Record part i of n of the shards; other machines that see the same recordings "
            "record the others. Whoever ends last completes the recording.",
        ),
    ] = "1/1",
    checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|GLOB|trained",
            help="Record every checkpoint of a series, in the order of their steps: the weights "
            "files of a folder or a glob, or all checkpoints of the configured training.",
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the series; by default the folder's name."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Record on the workers of a Dask cluster, tcp://host:port, which see the atlas "
            "under the same path.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at the first image that cannot be decoded, instead of leaving NaN in its "
            "rows.",
        ),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Check everything that is stored first, and record exactly the damaged shards "
            "again.",
        ),
    ] = False,
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Record what every layer of the model answers to every image; an interrupted run goes on.

    Example: [bold]activarium record examples/imagefolder.yaml --set test_set.path=images.zip[/]
    """
    from activarium.flows.configuration import parse_section
    from activarium.schemas.config import RecordCall

    named = {
        "model.checkpoints": checkpoints,
        "model.series": series,
        "record.devices": None if devices is None else devices.split(","),
        "record.strict": strict or None,
    }
    given = [f"{key}={dumps(value)}" for key, value in named.items() if value is not None]
    settings = _load(config, [*(overrides or ()), *given])
    call = parse_section(RecordCall, {"part": part, "dask": dask, "repair": repair}, where="record")
    check_atlas(root, needed=RECORD_FLOOR_BYTES, recordings_at=recordings_at)
    with progress_bars(err):
        stages = choose_stages(root, verbose=verbose, no_prefect=no_prefect)
        from activarium.flows.pipeline import obtain_checkpoint, obtain_series

        if settings.model.checkpoints is not None:
            found = obtain_series(settings, root, stages, call, recordings_at)
            _print_series(found, json=json)
            return
        checkpoint = obtain_checkpoint(settings, root, stages)
        receipt = stages.record(settings, checkpoint, root, call, recordings_at)
    print_notices([*checkpoint.notices, *receipt.notices])
    text = f"recorded {receipt.images:,} images x {receipt.units:,} units: {receipt.recording}"
    if receipt.shards_left:
        text = (
            f"recorded part {part} of {receipt.recording}; {receipt.shards_left} shards are still "
            "to be recorded by other parts"
        )
    print_receipt(receipt, json=json, text=text)
    if not json:
        print_invalid(receipt.invalid)


def _print_series(receipt: SeriesReceipt, *, json: bool) -> None:
    """Print what was recorded of a series; end with an error where a checkpoint failed."""
    said = [line for each in receipt.recordings for line in each.notices]
    print_notices([*receipt.notices, *said])
    series = sorted({str(each.series) for each in receipt.checkpoints})
    text = f"recorded {len(receipt.recordings)} checkpoints of {', '.join(series)}"
    left = sum(each.shards_left for each in receipt.recordings)
    text += f"; {left} shards are still to be recorded by other parts" if left else ""
    print_receipt(receipt, json=json, text=text)
    if not json:
        for each in receipt.recordings:
            out.print(f"  {each.recording}")
        print_invalid([name for each in receipt.recordings for name in each.invalid])
    _end_with_failures(receipt)


def _end_with_failures(receipt: SeriesReceipt | None) -> None:
    failure = None if receipt is None else receipt.failure
    if failure is not None:
        raise UserError(failure)
