"""Commands that take a recording: analyse, embed, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from activarium.flows.cli_options import (
    DEFAULT_ROOT,
    Json,
    NoPrefect,
    RecordingName,
    RecordingsAt,
    Root,
    Verbose,
    checked_name,
)
from activarium.flows.next_steps import Ending
from activarium.flows.next_steps import where as where_equal
from activarium.flows.output import err, out, print_notices, print_receipt
from activarium.flows.progress_bars import progress_bars
from activarium.flows.stage_choice import through_stages
from activarium.schemas.atlas import Atlas
from activarium.schemas.tables import LAYERS
from activarium.tasks.stores.atlas_check import FLOOR_BYTES, check_atlas

if TYPE_CHECKING:
    from activarium.schemas.config import AnalyseConfig
    from activarium.schemas.receipts import TablesReceipt

app = typer.Typer()


@app.command()
def analyse(
    recording: RecordingName,
    fdr: Annotated[
        float, typer.Option(min=1e-9, max=0.5, help="False discovery rate of `selective`.")
    ] = 0.01,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            "--control",
            metavar="shuffle|RECORDING",
            help="What stands beside it in `layers`: permuted labels (shuffle), an analysed "
            "recording of the untrained model; repeatable.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Only images for which this holds, over the columns of the table images: "
            '"correct and confidence > 0.9".',
        ),
    ] = None,
    where_of: Annotated[
        str | None,
        typer.Option(
            metavar="RECORDING",
            help="The recording of the same images whose answers --where asks, for an untrained "
            "control.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="CSV", help="Group classes: a file of class,group."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|CSV",
            help="A number per image instead of classes: a column of the table images, or a file of "
            "image,number.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the selection; its tables are <recording>~<name>.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take what is there of an unfinished recording.")
    ] = False,
    permutations: Annotated[
        int, typer.Option(min=0, help="Permutations of the labels; 0 leaves their tests out.")
    ] = 999,
    seed: Annotated[int, typer.Option(min=0, help="Seed of permutations and samples.")] = 0,
    exemplars: Annotated[int, typer.Option(min=1, help="Exemplars per unit and end.")] = 8,
    class_exemplars: Annotated[int, typer.Option(min=0, help="The same within each class.")] = 3,
    top_classes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Classes of each unit, those of its largest means, that unit_classes and exemplars "
            "within a class are kept of; 0 keeps none. By default all.",
        ),
    ] = None,
    scheduler: Annotated[
        str, typer.Option(help="Dask: threads, processes, or tcp://host:port.")
    ] = "threads",
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Compute class preferences, effect sizes and tests of a recording into tables.

    Example: [bold]activarium analyse two-block-cnn-epoch --control shuffle --where correct[/]
    """
    from activarium.flows.configuration import parse_section
    from activarium.schemas.config import AnalyseConfig

    settings = {
        "fdr": fdr,
        "controls": tuple(controls or ()),
        "where": where,
        "where_of": where_of,
        "classes": classes,
        "target": target,
        "name": name,
        "partial": partial,
        "permutations": permutations,
        "seed": seed,
        "exemplars": exemplars,
        "class_exemplars": class_exemplars,
        "top_classes": top_classes,
        "scheduler": scheduler,
    }
    config = parse_section(AnalyseConfig, settings, where="analyse")
    check_atlas(root, needed=FLOOR_BYTES, recordings_at=recordings_at)
    with progress_bars(err):
        receipt = through_stages(
            lambda stages: stages.analyse(recording, config, root, recordings_at),
            root,
            verbose=verbose,
            no_prefect=no_prefect,
        )
    print_notices(receipt.notices)
    print_receipt(receipt, json=json, text=f"analysed {receipt.recording}")
    if not json:
        _end_analysis(Ending(root, recordings_at, no_prefect), receipt, config)


def _end_analysis(ending: Ending, receipt: TablesReceipt, config: AnalyseConfig) -> None:
    """Say what an analysis found, and how to see more of it."""
    from activarium.tasks.analysis.selected import table_name
    from activarium.tasks.analysis.untrained import untrained_recording
    from activarium.tasks.reporting.findings import analysis_findings, has_targets
    from activarium.tasks.stores.selections import open_compared

    atlas, name = Atlas(ending.root, ending.recordings_at), receipt.recording
    # What is the answer too is said once.
    found = [line for line in analysis_findings(atlas, name) if line not in receipt.notices]
    if has_targets(atlas, name):
        query = ending.query(
            "SELECT unit, spearman_rho, q_value FROM unit_targets",
            where_equal(recording=name),
            "ORDER BY abs(spearman_rho) DESC LIMIT 10",
        )
        ending.say(query, found)
        return
    control = untrained_recording(config)
    controls = []
    if control is not None:
        beside = table_name(open_compared(atlas, control, draws=True).name, config)
        # Draws have no tables, and a page shows what has.
        controls = [beside] if atlas.table_file(LAYERS, beside).is_file() else []
    ending.say(ending.command("report", name, *controls), found)


@app.command()
def embed(
    recording: RecordingName,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            metavar="KIND",
            help="pixels, pooled (features of layers), means (of channels) or logits; repeatable. "
            "By default pixels and pooled.",
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Glob of layers, for pooled and means; repeatable."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help="pca, tsne, umap or autoencoder; repeatable."),
    ] = None,
    dimensions: Annotated[int, typer.Option(min=2, max=3, help="Dimensions of the map.")] = 2,
    perplexity: Annotated[float, typer.Option(min=1.01, help="Perplexity of t-SNE.")] = 30.0,
    neighbours: Annotated[int, typer.Option(min=2, help="Neighbours of UMAP.")] = 15,
    max_images: Annotated[
        int,
        typer.Option(min=10, help="Images that maps are fitted to at most: a seeded sample."),
    ] = 10_000,
    place_rest: Annotated[
        bool,
        typer.Option("--place-rest/--sample-only", help="Place the other images in the map too."),
    ] = True,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="RECORDING",
            help="Place the images in this recording's maps instead of making maps of their own.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each map; by default all cores.")
    ] = None,
    scheduler: Annotated[
        str, typer.Option(help="Dask: synchronous, processes, or tcp://host:port.")
    ] = "synchronous",
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Make maps of the images by features of layers and raw pixels, with quality scores.

    Example: [bold]activarium embed two-block-cnn-epoch --layer conv2 --method tsne[/]
    """
    from activarium.flows.configuration import parse_section
    from activarium.schemas.config import EmbedConfig

    chosen = {"features": features, "layers": layers, "methods": methods}
    config = parse_section(
        EmbedConfig,
        {
            "dimensions": dimensions,
            "perplexity": perplexity,
            "neighbours": neighbours,
            "max_images": max_images,
            "place_rest": place_rest,
            "into": into,
            "seed": seed,
            "threads": threads,
            "scheduler": scheduler,
            **{name: tuple(value) for name, value in chosen.items() if value},
        },
        where="embed",
    )
    check_atlas(root, needed=FLOOR_BYTES, recordings_at=recordings_at)
    with progress_bars(err):
        receipt = through_stages(
            lambda stages: stages.embed(recording, config, root, recordings_at),
            root,
            verbose=verbose,
            no_prefect=no_prefect,
        )
    print_notices(receipt.notices)
    if receipt.files or json:
        print_receipt(receipt, json=json, text=f"embedded {receipt.recording}")
        if not json:
            from activarium.tasks.reporting.findings import map_findings

            ending = Ending(root, recordings_at, no_prefect)
            ending.say(ending.command("report", receipt.recording), map_findings(receipt.files))
    else:
        out.print(f"no map of {receipt.recording} was made")


@app.command()
def report(
    recordings: Annotated[
        list[str], typer.Argument(metavar="RECORDING...", help="The recording, then controls.")
    ],
    name: Annotated[
        str | None,
        typer.Option(callback=checked_name, help="Names the page; by default the recording."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    root: Root = DEFAULT_ROOT,
    recordings_at: RecordingsAt = None,
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Write one self-contained page about a recording and its controls.

    Example: [bold]activarium report two-block-cnn-epoch two-block-cnn-untrained --name digits[/]
    """
    from activarium.flows.configuration import parse_section
    from activarium.schemas.config import ReportConfig
    from activarium.tasks.stores.selections import analysed_name

    config = parse_section(ReportConfig, {"title": title}, where="report")
    check_atlas(root, needed=FLOOR_BYTES, recordings_at=recordings_at)
    atlas = Atlas(root, recordings_at)
    names = [analysed_name(atlas, each) for each in recordings]
    with progress_bars(err):
        receipt = through_stages(
            lambda stages: stages.report(names, name or names[0], config, root, recordings_at),
            root,
            verbose=verbose,
            no_prefect=no_prefect,
        )
    print_notices(receipt.notices)
    print_receipt(receipt, json=json, text=f"report {receipt.path}")
