"""Write the page of series: how the layers of one or several trainings change, and their health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from activarium.schemas.receipts import ReportReceipt
from activarium.schemas.series_tables import HEALTHY
from activarium.tasks.progress import silent
from activarium.tasks.reporting.chart_parts import even_places
from activarium.tasks.reporting.density_picture import (
    DensityPicture,
    density_picture,
    shown_bins,
)
from activarium.tasks.reporting.page_files import render, replace_page
from activarium.tasks.reporting.series_charts import COLOURS, Chart, health_grid, line_chart
from activarium.tasks.reporting.series_tables import SeriesTables, labels_of, read_series
from activarium.tasks.stores.table_reading import read_settled
from activarium.tasks.stores.table_sets import ANALYSIS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress

PICTURED = 6
"""Layers whose densities are shown, spread over depth."""
MEASURES = {
    "image_sd": "spread over images (log)",
    "dead_fraction": "dead units",
    "eta2_mean": "variance associated with the class (eta²)",
    "selectivity_mean": "class selectivity",
    "class_kept": "units with their last class",
    "cka_to_last": "CKA to the last checkpoint",
}
"""Measures of layers that are drawn over steps."""
ACCURACY = "accuracy of the model"
"""What is drawn before them, one line of the whole."""


@dataclass(frozen=True)
class SeriesView:
    """One series as the page shows it."""

    label: str
    name: str
    verdict: str
    is_healthy: bool
    accuracy: float
    """At the last checkpoint; NaN where unknown."""
    steps: Sequence[int]
    grid: Chart
    charts: Sequence[tuple[str, Chart]]
    pictures: Sequence[DensityPicture | None]
    """One per pictured layer."""

    @property
    def checkpoints(self) -> int:
        """Number of checkpoints."""
        return len(self.steps)


def write_series_page(
    atlas: Atlas,
    recordings: Sequence[str],
    *,
    name: str,
    title: str | None = None,
    progress: Progress = silent,
) -> ReportReceipt:
    """Write one self-contained page of the series of some recordings.

    Parameters
    ----------
    atlas
        Where the tables lie, and the page goes.
    recordings
        Recordings whose rows of `layer_changes` are written.
    name
        Names the file.
    title
        Heading; made of model and test set by default.
    progress
        Told that the page is being made.

    Raises
    ------
    UserError
        If a table is missing or damaged.
    """
    series = read_settled(atlas, recordings, lambda: read_series(atlas, recordings), (ANALYSIS,))
    page = render_series(series, title=title)
    path = atlas.report(name)
    written = replace_page(path, page, progress=progress)
    return ReportReceipt(
        path=path, recordings=tuple(recordings), made=written.made, notices=written.notices
    )


def render_series(series: Sequence[SeriesTables], *, title: str | None = None) -> str:
    """Return the page as HTML, with styles and pictures inside."""
    facts = series[0].checkpoints.iloc[0]
    layers = pictured_layers(series)
    pictures = {layer: _pictures(series, layer) for layer in layers}
    labels = labels_of(series)
    measured = {ACCURACY: [each.accuracy for each in series]}
    measured |= {label: [each.measure(name) for each in series] for name, label in MEASURES.items()}
    charts = {label: _charts(label, values) for label, values in measured.items()}
    views = [
        _view(
            each,
            [(label, charts[label][place]) for label in measured],
            labels[place],
            [pictures[layer][place] for layer in layers],
        )
        for place, each in enumerate(series)
    ]
    return render(
        "series",
        of=[name for each in series for name in each.checkpoints["recording"]],
        styles=("page", "series"),
        title=title or f"{', '.join(labels)} on {facts['test_set']}: training in time",
        views=views,
        layers=layers,
        legend=tuple(COLOURS.items()),
    )


def pictured_layers(series: Sequence[SeriesTables]) -> list[str]:
    """Return the layers whose densities are shown: of all series, spread over depth."""
    shared = [name for name in series[0].layers if all(name in each.densities for each in series)]
    return [shared[place] for place in even_places(len(shared), most=PICTURED)]


def _pictures(series: Sequence[SeriesTables], layer: str) -> list[DensityPicture]:
    counts = [each.densities[layer] for each in series]
    # The same bins in every series, so that pictures side by side compare.
    bins = shown_bins(counts)
    return [density_picture(each, bins) for each in counts]


def _charts(label: str, measured: Sequence[pd.DataFrame]) -> list[Chart]:
    """Return a chart of one measure for each series, all of the same range."""
    logarithmic = label == MEASURES["image_sd"]
    return [line_chart(each, logarithmic=logarithmic, beside=measured) for each in measured]


def _view(
    series: SeriesTables,
    charts: Sequence[tuple[str, Chart]],
    label: str,
    pictures: Sequence[DensityPicture],
) -> SeriesView:
    accuracy = series.checkpoints["accuracy"].iloc[-1]
    return SeriesView(
        label,
        series.name,
        verdict(series),
        series.is_healthy,
        float(accuracy) if accuracy is not None else float("nan"),
        series.steps,
        health_grid(series.measure("health"), series.measure("health_reason")),
        charts,
        pictures,
    )


def verdict(series: SeriesTables) -> str:
    """Return in a sentence or two whether the layers are well, and since when they are not."""
    health = series.measure("health")
    last = health.iloc[:, -1]
    ill = last[last != HEALTHY]
    if series.is_healthy:
        return f"All {len(last)} layers are healthy at every step."
    if ill.empty:
        was_ill = health != HEALTHY
        steps = [step for step, any_ill in zip(series.steps, was_ill.any(), strict=True) if any_ill]
        return (
            f"Broken on the way: {int(was_ill.any(axis=1).sum())} of {len(last)} layers were not "
            f"healthy at some step from {steps[0]:,} to {steps[-1]:,}; at step "
            f"{series.steps[-1]:,} all are within the borders again."
        )
    kinds = ill.value_counts()
    words = " and ".join(f"{count} {kind}" for kind, count in kinds.items())
    began = series.steps[int((health != HEALTHY).to_numpy().any(axis=0).argmax())]
    reason = series.measure("health_reason").loc[ill.index[0]].iloc[-1]
    return (
        f"Broken: {words} of {len(last)} layers at step {series.steps[-1]:,}; the first layers broke "
        f"at step {began:,}. In {ill.index[0]}, {reason}."
    )
