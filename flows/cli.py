"""The command line: `activarium`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from activarium.flows.output import err, out, print_json, print_result, print_rows, print_summary
from activarium.flows.prefect_settings import prepare_prefect
from activarium.flows.progress_bars import progress_bars
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from activarium.flows.pipeline import Stages
    from activarium.schemas.config import RunConfig

app = typer.Typer(
    name="activarium",
    help="Which classes does each channel of a vision model prefer, how strongly, and is it "
    "more than chance?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)

Root = Annotated[
    Path,
    typer.Option("--root", envvar="ACTIVARIUM_ROOT", help="The atlas folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")]
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


def _stages(root: Path, *, verbose: bool, no_prefect: bool) -> Stages:
    if no_prefect:
        from activarium.flows.pipeline import PlainStages

        return PlainStages()
    prepare_prefect(root, verbose=verbose)
    from activarium.flows.run_pipeline import FlowStages

    return FlowStages()


def _run(config: RunConfig, root: Path, *, json: bool, verbose: bool, no_prefect: bool) -> None:
    with progress_bars(err):
        if no_prefect:
            from activarium.flows.pipeline import PlainStages, run_stages

            receipt = run_stages(config, root, PlainStages())
        else:
            prepare_prefect(root, verbose=verbose)
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
    root: Root = Path("atlas"),
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
    root: Root = Path("atlas"),
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


def _print_receipt(receipt: Any, *, json: bool, text: str) -> None:
    if json:
        print_json(receipt.model_dump(mode="json"))
    else:
        out.print(text if receipt.made else f"{text} (was there already, nothing made anew)")


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    root: Root = Path("atlas"),
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Train the configured model; one checkpoint per epoch.

    Example: [bold]activarium train examples/fashion_mnist.yaml --set training.epochs=3[/]
    """
    settings = _load(config, overrides)
    with progress_bars(err):
        stages = _stages(root, verbose=verbose, no_prefect=no_prefect)
        receipt = stages.train(settings, root)
    _print_receipt(receipt, json=json, text=f"trained {receipt.model}: {receipt.path}")


@app.command()
def record(
    config: ConfigFile,
    overrides: Overrides = None,
    root: Root = Path("atlas"),
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Record the model's channel means and pooled features; an interrupted run goes on.

    Example: [bold]activarium record examples/imagefolder.yaml --set test_set.path=images.zip[/]
    """
    settings = _load(config, overrides)
    with progress_bars(err):
        stages = _stages(root, verbose=verbose, no_prefect=no_prefect)
        from activarium.flows.pipeline import obtain_checkpoint

        checkpoint = obtain_checkpoint(settings, root, stages)
        receipt = stages.record(settings, checkpoint, root)
    text = f"recorded {receipt.images:,} images x {receipt.units:,} units: {receipt.recording}"
    _print_receipt(receipt, json=json, text=text)


@app.command()
def analyse(
    recording: RecordingName,
    fdr: Annotated[
        float, typer.Option(min=1e-9, max=0.5, help="False discovery rate of `selective`.")
    ] = 0.01,
    exemplars: Annotated[int, typer.Option(min=1, help="Exemplars per unit and end.")] = 8,
    class_exemplars: Annotated[int, typer.Option(min=0, help="The same within each class.")] = 3,
    scheduler: Annotated[
        str, typer.Option(help="Dask: threads, processes, or tcp://host:port.")
    ] = "threads",
    root: Root = Path("atlas"),
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Compute class preferences, effect sizes and tests of a recording into tables.

    Example: [bold]activarium analyse two-block-cnn --fdr 0.05[/]
    """
    from activarium.schemas.config import AnalyseConfig

    config = AnalyseConfig(
        fdr=fdr, exemplars=exemplars, class_exemplars=class_exemplars, scheduler=scheduler
    )
    with progress_bars(err):
        stages = _stages(root, verbose=verbose, no_prefect=no_prefect)
        receipt = stages.analyse(recording, config, root)
    _print_receipt(receipt, json=json, text=f"analysed {receipt.recording}")


@app.command()
def embed(
    recording: RecordingName,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Glob of layers with pooled features; repeatable."),
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="pca, tsne or umap; repeatable.")
    ] = None,
    dimensions: Annotated[int, typer.Option(min=2, max=3, help="Dimensions of the map.")] = 2,
    perplexity: Annotated[float, typer.Option(min=1.01, help="Perplexity of t-SNE.")] = 30.0,
    neighbours: Annotated[int, typer.Option(min=2, help="Neighbours of UMAP.")] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    root: Root = Path("atlas"),
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Make maps of the images by pooled features and raw pixels, with quality scores.

    Example: [bold]activarium embed two-block-cnn --layer conv2 --method tsne[/]
    """
    from activarium.schemas.config import EmbedConfig

    chosen = {"layers": tuple(layers) if layers else None, "methods": methods}
    settings = {name: value for name, value in chosen.items() if value}
    config = _checked(
        EmbedConfig,
        {
            "dimensions": dimensions,
            "perplexity": perplexity,
            "neighbours": neighbours,
            "seed": seed,
            **settings,
        },
    )
    with progress_bars(err):
        stages = _stages(root, verbose=verbose, no_prefect=no_prefect)
        receipt = stages.embed(recording, config, root)
    _print_receipt(receipt, json=json, text=f"embedded {receipt.recording}")


def _checked(model: Any, settings: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{place}: {first['msg']}, got {first['input']!r}") from error


@app.command()
def report(
    recordings: Annotated[
        list[str], typer.Argument(metavar="RECORDING...", help="The recording, then controls.")
    ],
    name: Annotated[str, typer.Option(help="Names the page.")] = "report",
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    root: Root = Path("atlas"),
    json: Json = False,
    verbose: Verbose = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Write one self-contained page about a recording and its controls.

    Example: [bold]activarium report two-block-cnn-epoch two-block-cnn-untrained --name digits[/]
    """
    from activarium.schemas.config import ReportConfig
    from activarium.tasks.recording import open_recording

    names = [open_recording(Atlas(root), each).name for each in recordings]
    with progress_bars(err):
        stages = _stages(root, verbose=verbose, no_prefect=no_prefect)
        receipt = stages.report(names, name, ReportConfig(title=title), root)
    _print_receipt(receipt, json=json, text=f"report {receipt.path}")


@app.command("list")
def list_command(root: Root = Path("atlas"), json: Json = False) -> None:
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
    root: Root = Path("atlas"),
    json: Json = False,
) -> None:
    """Recompute every checksum; exit code 1 where something differs.

    Example: [bold]activarium verify[/]
    """
    from dataclasses import asdict

    from activarium.tasks.verify import verify as verify_recordings

    atlas = Atlas(root)
    names = _matching(atlas, recordings) if recordings else atlas.recording_names()
    with progress_bars(err):
        found = verify_recordings(atlas, names, progress=_progress())
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


def _progress() -> Any:
    from activarium.flows.progress_bars import current_progress

    return current_progress()


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
    root: Root = Path("atlas"),
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


def main() -> None:
    """Run the command line; a user's error is one line and exit code 2."""
    if not sys.warnoptions:
        # Warnings of libraries are for developers; python -W shows them.
        warnings.simplefilter("ignore")
    try:
        app(standalone_mode=True)
    except UserError as error:
        err.print(f"[red]error:[/] {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted; run the same command again to go on")
        sys.exit(130)


if __name__ == "__main__":
    main()
