"""Commands that take a configuration: demo, run, train, record."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from activarium.flows.next_steps import Ending
from activarium.flows.output import (
    EXAMPLE_QUERY,
    counted,
    err,
    out,
    print_invalid,
    print_json,
    print_notices,
    print_receipt,
    print_summary,
)
from activarium.flows.progress_bars import progress_bars
from activarium.flows.stage_choice import through_stages
from activarium.flows.stages import PlainStages
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import SeriesReceipt
from activarium.tasks.stores.atlas_check import FLOOR_BYTES, RECORD_FLOOR_BYTES, check_atlas

if TYPE_CHECKING:
    from activarium.flows.pipeline import PartReceipt, RunReceipt
    from activarium.flows.stages import Stages
    from activarium.schemas.config import RecordCall, RunConfig
    from activarium.schemas.receipts import RecordingReceipt

app = typer.Typer()


Devices = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE,...",
        help="Devices of this machine that record side by side, one process each: "
        "cuda:0,cuda:1, or cpu:2 for two processes on the CPU.",
    ),
]
Part = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Record part i of n of the shards; other machines that see the same recordings "
        "record the others. Whoever ends last completes the recording.",
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Record on the workers of a Dask cluster, tcp://host:port, which see the atlas "
        "under the same path.",
    ),
]


def _run(
    config: RunConfig,
    root: Path,
    recordings_at: str | None,
    call: RecordCall | None = None,
    *,
    json: bool,
    verbose: bool,
    no_prefect: bool,
) -> None:
    from activarium.flows.pipeline import PartReceipt, run_stages
    from activarium.flows.stages import WHOLE

    check_atlas(root, needed=FLOOR_BYTES, recordings_at=recordings_at)
    call = call or WHOLE

    def act(stages: Stages) -> RunReceipt | PartReceipt:
        if isinstance(stages, PlainStages):
            return run_stages(config, root, stages, recordings_at, call)
        from activarium.flows.run_pipeline import run_pipeline

        return run_pipeline(config, root, recordings_at, call)

    with progress_bars(err):
        receipt = through_stages(act, root, verbose=verbose, no_prefect=no_prefect)
    if isinstance(receipt, PartReceipt):
        _print_part(receipt, call.part, json=json)
        return
    _print_run(receipt, Atlas(root, recordings_at), json=json)


def _print_part(receipt: PartReceipt, part: str, *, json: bool) -> None:
    """Print what a part of a run recorded, where others are still to record theirs."""
    print_notices([line for each in receipt.recordings for line in each.notices])
    names = " and ".join(each.recording for each in receipt.recordings)
    text = f"recorded part {part} of {names}; {_left(receipt.shards_left)}"
    text += "; the part that completes them goes on to tables and report"
    print_receipt(receipt, json=json, text=text)


def _left(shards: int) -> str:
    """Return how many shards other parts are to record."""
    are = "is" if shards == 1 else "are"
    return f"{counted(shards, 'shard')} {are} left for other parts"


def _print_run(receipt: RunReceipt, atlas: Atlas, *, json: bool) -> None:
    """Print what a run found."""
    from activarium.tasks.reporting.summary import summarise

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
        print_summary(summary, receipt, atlas, Ending(atlas.root).query(EXAMPLE_QUERY))
        if not receipt.made:
            out.print(
                "nothing was made anew: all of this was there and is current; "
                "`activarium verify` reads every byte of it"
            )
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

    Example: [bold]activarium demo --root digits[/]
    """
    from activarium.flows.demo import DEMO

    _run(DEMO, root, recordings_at, json=json, verbose=verbose, no_prefect=no_prefect)


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    devices: Devices = None,
    part: Part = "1/1",
    dask: Dask = None,
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Train, record, analyse, embed and report; what is current is not made again.

    With --part, each part records its shards, and the one that completes the recordings goes on.

    Example: [bold]activarium run examples/digits.yaml --set training.epochs=5[/]
    """
    settings = _load(config, [*(overrides or ()), *_flags({"record.devices": _listed(devices)})])
    call = _call(part=part, dask=dask)
    call.check_with(settings.record)
    how = {"json": json, "verbose": verbose, "no_prefect": no_prefect}
    _run(settings, root, recordings_at, call, **how)


def _call(*, part: str, dask: str | None, repair: bool = False) -> RecordCall:
    """Return what a command records, checked."""
    from activarium.flows.configuration import parse_section
    from activarium.schemas.config import RecordCall

    return parse_section(RecordCall, {"part": part, "dask": dask, "repair": repair}, where="record")


def _listed(devices: str | None) -> list[str] | None:
    return None if devices is None else devices.split(",")


def _flags(named: dict[str, Any]) -> list[str]:
    """Return the settings that were given by options of their own, as --set takes them."""
    return [f"{key}={dumps(value)}" for key, value in named.items() if value is not None]


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

    Example: [bold]activarium train examples/own_dataset.yaml --set training.epochs=3[/]
    """
    settings = _load(config, overrides)
    check_atlas(root, needed=FLOOR_BYTES)
    with progress_bars(err):
        receipt = through_stages(
            lambda stages: stages.train(settings, root),
            root,
            verbose=verbose,
            no_prefect=no_prefect,
        )
    print_notices(receipt.notices)
    print_receipt(receipt, json=json, text=f"trained {receipt.model}: {receipt.path}")
    if not json:
        given = [word for each in overrides or () for word in ("--set", each)]
        ending = Ending(root, no_prefect=no_prefect)
        ending.say(ending.command("record", str(config), *given))


@app.command()
def record(
    config: ConfigFile,
    overrides: Overrides = None,
    devices: Devices = None,
    part: Part = "1/1",
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
    draws: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Record N untrained networks over a sample of the images instead, as `run` does for "
            "controls; sample and seeds are the section untrained.",
        ),
    ] = None,
    dask: Dask = None,
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

    Example: [bold]activarium record examples/imagefolder.yaml --set test_set.path=images.zip
    --set model.weights=weights.safetensors[/], or every checkpoint of a training:
    [bold]activarium record examples/digits.yaml --checkpoints trained --series digits[/], or 99
    untrained networks: [bold]activarium record examples/digits.yaml --draws 99[/]
    """
    from activarium.flows.pipeline import obtain_checkpoint, obtain_series

    named = {
        "model.checkpoints": checkpoints,
        "model.series": series,
        "record.devices": _listed(devices),
        "record.strict": strict or None,
        "untrained.draws": draws,
    }
    if draws is not None and (checkpoints is not None or series is not None):
        raise UserError(
            "--draws records untrained networks, --checkpoints and --series a training: give one of them"
        )
    settings = _load(config, [*(overrides or ()), *_flags(named)])
    call = _call(part=part, dask=dask, repair=repair)
    call.check_with(settings.record)
    check_atlas(root, needed=RECORD_FLOOR_BYTES, recordings_at=recordings_at)

    notices: list[str] = []

    def act(stages: Stages) -> RecordingReceipt | SeriesReceipt:
        if draws is not None:
            from activarium.tasks.recording.draws import choose_draws

            return stages.record(settings, choose_draws(settings), root, call, recordings_at)
        if settings.model.checkpoints is not None:
            return obtain_series(settings, root, stages, call, recordings_at)
        checkpoint = obtain_checkpoint(settings, root, stages)
        notices[:] = checkpoint.notices
        return stages.record(settings, checkpoint, root, call, recordings_at)

    with progress_bars(err):
        receipt = through_stages(act, root, verbose=verbose, no_prefect=no_prefect)
    if isinstance(receipt, SeriesReceipt):
        _print_series(receipt, json=json, ending=Ending(root, recordings_at, no_prefect))
        return
    print_notices([*notices, *receipt.notices])
    text = f"recorded {receipt.images:,} images x {receipt.units:,} units: {receipt.recording}"
    if receipt.shards_left:
        text = f"recorded part {part} of {receipt.recording}; {_left(receipt.shards_left)}"
    print_receipt(receipt, json=json, text=text)
    if not json:
        print_invalid(receipt.invalid)
        ending = Ending(root, recordings_at, no_prefect)
        when = ", when all parts are recorded" if receipt.shards_left else ""
        following = [receipt.recording, "--control", "shuffle"]
        if draws is not None:
            following = ["RECORDING", "--control", receipt.recording]
        ending.say(ending.command("analyse", *following), when=when)


def _print_series(receipt: SeriesReceipt, *, json: bool, ending: Ending) -> None:
    """Print what was recorded of a series; end with an error where a checkpoint failed."""
    said = [line for each in receipt.recordings for line in each.notices]
    print_notices([*receipt.notices, *said])
    series = sorted({str(each.series) for each in receipt.checkpoints})
    text = f"recorded {len(receipt.recordings)} checkpoints of {', '.join(series)}"
    left = sum(each.shards_left for each in receipt.recordings)
    text += f"; {_left(left)}" if left else ""
    print_receipt(receipt, json=json, text=text)
    if not json:
        for each in receipt.recordings:
            out.print(f"  {each.recording}")
        print_invalid([name for each in receipt.recordings for name in each.invalid])
        named = [word for name in series for word in ("--series", name)]
        when = ", when all parts are recorded" if left else ""
        ending.say(ending.command("compare", *named), when=when)
    _end_with_failures(receipt)


def _end_with_failures(receipt: SeriesReceipt | None) -> None:
    failure = None if receipt is None else receipt.failure
    if failure is not None:
        raise UserError(failure)
