"""The command that compares the layers of recordings."""

from __future__ import annotations

from typing import Annotated

import typer

from activarium.flows.cli_options import (
    DEFAULT_ROOT,
    Json,
    NoPrefect,
    RecordingsAt,
    Root,
    Verbose,
    checked_name,
)
from activarium.flows.output import err, print_notices, print_receipt
from activarium.flows.progress_bars import progress_bars
from activarium.flows.stage_choice import choose_stages
from activarium.schemas.errors import UserError
from activarium.tasks.stores.atlas_check import FLOOR_BYTES, check_atlas

app = typer.Typer()


@app.command()
def compare(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECORDING...",
            help="One: its layers with each other. Several, of the same images: up to four each "
            "with each, more each with the last.",
        ),
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead of recordings: each checkpoint of a series with its last, and a page of "
            "how the layers change; a name, its beginning or a glob; repeatable."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            callback=checked_name,
            help="Names the page; by default training for series, else the recordings.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--with", metavar="RECORDING", help="Compare each with this one instead."),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layer", help="Glob of layers; repeatable.")
    ] = None,
    features: Annotated[
        str,
        typer.Option(help="What stands for an image in a layer: means (of channels) or pooled."),
    ] = "means",
    measures: Annotated[
        list[str] | None,
        typer.Option("--measure", help="cka, rsa, procrustes or units; repeatable; default all."),
    ] = None,
    rsa_images: Annotated[
        int, typer.Option(min=3, help="Images at most in RSA: a seeded sample.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that sample.")] = 0,
    scheduler: Annotated[
        str, typer.Option(help="Dask: threads, processes, synchronous, or tcp://host:port.")
    ] = "threads",
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Compare layers by CKA, RSA and Procrustes, match units between recordings, and draw it all.

    Example: [bold]activarium compare two-block-cnn-epoch two-block-cnn-untrained[/], or
    [bold]activarium compare --series healthy --series broken[/]
    """
    from activarium.flows.configuration import parse_section
    from activarium.schemas.compare_config import CompareConfig

    chosen = {"layers": layers, "measures": measures}
    settings = {name: tuple(value) for name, value in chosen.items() if value}
    config = parse_section(
        CompareConfig,
        {
            "against": against,
            "features": features,
            "rsa_images": rsa_images,
            "seed": seed,
            "scheduler": scheduler,
            **settings,
        },
        where="compare",
    )
    if bool(recordings) == bool(series):
        raise UserError(
            "expected the ids of recordings, or --series NAME, and not both; `activarium list` tells "
            "which there are"
        )
    check_atlas(root, needed=FLOOR_BYTES, recordings_at=recordings_at)
    with progress_bars(err):
        stages = choose_stages(root, verbose=verbose, no_prefect=no_prefect)
        if series:
            found = stages.compare_series(series, config, root, name or "training", recordings_at)
            print_notices(found.notices)
            text = f"compared the series {', '.join(found.series)}: {found.report.path}"
            print_receipt(found, json=json, text=text)
            return
        receipt = stages.compare(recordings or [], config, root, name, recordings_at)
    print_notices(receipt.notices)
    print_receipt(receipt, json=json, text=f"compared {receipt.recording}: {receipt.page}")
