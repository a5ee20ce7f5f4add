"""The flow that compares the layers of recordings."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from activarium.flows.retrying import retried_task
from activarium.flows.stages import SeriesComparison, compare_series_stage, compare_stage
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.receipts import ComparisonReceipt

compare_task = retried_task(compare_stage, name="compare layers")
compare_series_task = retried_task(compare_series_stage, name="compare series")


@flow(name="compare", persist_result=False)
def compare_recordings(
    recordings: list[str],
    config: CompareConfig | None = None,
    root: Path = Path("atlas"),
    name: str | None = None,
    recordings_at: str | None = None,
) -> ComparisonReceipt:
    """Compare the layers of one recording, or of several of the same images, and write the page.

    Parameters
    ----------
    recordings
        Ids of complete recordings, or the beginnings of them.
    config
        Layers, measures, and what the recordings are compared with.
    root
        The atlas folder.
    name
        Names the page; made of the recordings by default.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    """
    return compare_task(recordings, config or CompareConfig(), root, name, recordings_at)


@flow(name="compare-series", persist_result=False)
def compare_series(
    series: list[str],
    config: CompareConfig | None = None,
    root: Path = Path("atlas"),
    name: str = "training",
    recordings_at: str | None = None,
) -> SeriesComparison:
    """Compare each checkpoint of some series with its last, and write the page of them.

    Parameters
    ----------
    series
        Names of series, beginnings of them, or globs.
    config
        Layers and measures.
    root
        The atlas folder.
    name
        Names the page.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    """
    return compare_series_task(series, config or CompareConfig(), root, name, recordings_at)
