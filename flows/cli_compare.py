"""The command that compares the layers of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
from activarium.flows.next_steps import Ending, where
from activarium.flows.output import err, print_notices, print_receipt
from activarium.flows.progress_bars import progress_bars
from activarium.flows.stage_choice import through_stages
from activarium.flows.stages import SeriesComparison
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.tasks.stores.atlas_check import FLOOR_BYTES, check_atlas

if TYPE_CHECKING:
    from activarium.flows.stages import Stages
    from activarium.schemas.receipts import ComparisonReceipt

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
    [bold]activarium compare --series digits[/]
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

    def act(stages: Stages) -> SeriesComparison | ComparisonReceipt:
        if series:
            return stages.compare_series(series, config, root, name or "training", recordings_at)
        return stages.compare(recordings or [], config, root, name, recordings_at)

    with progress_bars(err):
        receipt = through_stages(act, root, verbose=verbose, no_prefect=no_prefect)
    print_notices(receipt.notices)
    ending = Ending(root, recordings_at, no_prefect)
    if isinstance(receipt, SeriesComparison):
        text = f"compared the series {', '.join(receipt.series)}: {receipt.report.path}"
        print_receipt(receipt, json=json, text=text)
        if not json:
            _end_series(ending, receipt)
        return
    print_receipt(receipt, json=json, text=f"compared {receipt.recording}: {receipt.page}")
    if not json:
        _end_comparison(ending, receipt)


def _end_series(ending: Ending, found: SeriesComparison) -> None:
    """Say how the layers of the series are, and where the numbers stand."""
    from activarium.tasks.reporting.findings import series_findings

    atlas = Atlas(ending.root, ending.recordings_at)
    query = ending.query(
        "SELECT step, layer, health, eta2_mean FROM layer_changes",
        where(series=found.series[0]),
        "ORDER BY step, depth LIMIT 20",
    )
    ending.say(query, series_findings(atlas, found.report.recordings))


def _end_comparison(ending: Ending, receipt: ComparisonReceipt) -> None:
    """Say how alike the layers are, and where the numbers stand."""
    from activarium.tasks.reporting.findings import comparison_findings
    from activarium.tasks.reporting.similarity_tables import read_pairs

    pair = read_pairs(receipt.files)[0]
    alone = pair.first == pair.second
    query = ending.query(
        "SELECT layer, other_layer, cka_debiased, rsa FROM similarities",
        where(recording=pair.first, other_recording=pair.second),
        "AND depth < other_depth" if alone else "AND layer = other_layer",
        "ORDER BY cka_debiased DESC LIMIT 10",
    )
    ending.say(query, comparison_findings(receipt.files))
