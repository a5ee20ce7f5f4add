"""Commands that take a configuration: demo, run, train, record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from activarium.flows.cli_options import (
    DEFAULT_ROOT,
    ConfigFile,
    Json,
    NoPrefect,
    Overrides,
    Root,
    Verbose,
)
from activarium.flows.output import (
    err,
    out,
    print_invalid,
    print_json,
    print_receipt,
    print_summary,
)
from activarium.flows.progress_bars import progress_bars
from activarium.flows.stage_choice import choose_stages, start_prefect
from activarium.schemas.atlas import Atlas
from activarium.tasks.atlas_check import FLOOR_BYTES, check_atlas

if TYPE_CHECKING:
    from activarium.schemas.config import RunConfig

app = typer.Typer()


def _run(config: RunConfig, root: Path, *, json: bool, verbose: bool, no_prefect: bool) -> None:
    check_atlas(root, needed=FLOOR_BYTES)
    with progress_bars(err):
        if no_prefect:
            from activarium.flows.pipeline import PlainStages, run_stages

            receipt = run_stages(config, root, PlainStages())
        else:
            start_prefect(root, verbose=verbose)
            from activarium.flows.run_pipeline import run_pipeline

            receipt = run_pipeline(config, root)
    from activarium.tasks.summary import summarise

    atlas = Atlas(root)
    summary = summarise(atlas, [each.recording for each in receipt.recordings])
    if json:
        print_json({**summary, "made": receipt.made, "report": receipt.report.path})
        return
    print_summary(summary, receipt, atlas)
    if not receipt.made:
        out.print("nothing was made anew: all of this was there and is current")


@app.command()
def demo(
    root: Root = DEFAULT_ROOT,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Run the whole pipeline on handwritten digits: about a minute, nothing to download.

    Example: [bold]activarium demo --root /tmp/atlas[/]
    """
    from activarium.flows.demo import DEMO

    _run(DEMO, root, json=json, verbose=verbose, no_prefect=no_prefect)


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Train, record, analyse, embed and report; what is current is not made again.

    Example: [bold]activarium run examples/cifar10.yaml --set training.epochs=5[/]
    """
    settings = _load(config, overrides)
    _run(settings, root, json=json, verbose=verbose, no_prefect=no_prefect)


def _load(config: Path, overrides: list[str] | None) -> RunConfig:
    from activarium.flows.configuration import load_run_config

    return load_run_config(config, overrides or (), cwd=Path.cwd())


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Train the configured model; one checkpoint per epoch.

    Example: [bold]activarium train examples/fashion_mnist.yaml --set training.epochs=3[/]
    """
    settings = _load(config, overrides)
    check_atlas(root, needed=FLOOR_BYTES)
    with progress_bars(err):
        stages = choose_stages(root, verbose=verbose, no_prefect=no_prefect)
        receipt = stages.train(settings, root)
    print_receipt(receipt, json=json, text=f"trained {receipt.model}: {receipt.path}")


@app.command()
def record(
    config: ConfigFile,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Record the model's channel means and pooled features; an interrupted run goes on.

    Example: [bold]activarium record examples/imagefolder.yaml --set test_set.path=images.zip[/]
    """
    settings = _load(config, overrides)
    check_atlas(root, needed=FLOOR_BYTES)
    with progress_bars(err):
        stages = choose_stages(root, verbose=verbose, no_prefect=no_prefect)
        from activarium.flows.pipeline import obtain_checkpoint

        checkpoint = obtain_checkpoint(settings, root, stages)
        receipt = stages.record(settings, checkpoint, root)
    text = f"recorded {receipt.images:,} images x {receipt.units:,} units: {receipt.recording}"
    print_receipt(receipt, json=json, text=text)
    if not json:
        print_invalid(receipt.invalid)
