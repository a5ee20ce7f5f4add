"""The stages as plain functions: what the Prefect flows run, and what runs without Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict

from activarium.flows.progress_bars import current_progress
from activarium.schemas.analysis_config import SHUFFLE
from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import (
    AnalyseConfig,
    EmbedConfig,
    RecordCall,
    ReportConfig,
    RunConfig,
)
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import (
    CheckpointReceipt,
    ComparisonReceipt,
    RecordingReceipt,
    ReportReceipt,
    SeriesReceipt,
    TablesReceipt,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class SeriesComparison(BaseModel):
    """What was made or found of a comparison of series."""

    model_config = ConfigDict(frozen=True)

    series: tuple[str, ...]
    tables: tuple[TablesReceipt, ...]
    report: ReportReceipt

    @property
    def made(self) -> bool:
        """Whether anything was made anew."""
        return self.report.made or any(each.made for each in self.tables)

    @property
    def notices(self) -> tuple[str, ...]:
        """What has to be said of it."""
        made: tuple[TablesReceipt | ReportReceipt, ...] = (*self.tables, self.report)
        return tuple(notice for each in made for notice in each.notices)


WHOLE = RecordCall()
"""Record everything, here."""


def train_stage(config: RunConfig, root: Path) -> CheckpointReceipt:
    """Train the configured model."""
    from activarium.tasks.recording.checkpoints import train_checkpoint

    return train_checkpoint(Atlas(root), config, progress=current_progress())


def record_stage(
    config: RunConfig,
    checkpoint: CheckpointReceipt,
    root: Path,
    call: RecordCall = WHOLE,
    recordings_at: str | None = None,
) -> RecordingReceipt:
    """Record one checkpoint over the configured test set."""
    from activarium.tasks.recording.spreading import record_spread

    atlas = Atlas(root, recordings_at)
    return record_spread(atlas, config, checkpoint, call=call, progress=current_progress())


def record_series_stage(
    config: RunConfig,
    root: Path,
    trained: Path | None = None,
    call: RecordCall = WHOLE,
    recordings_at: str | None = None,
) -> SeriesReceipt:
    """Record every checkpoint of the configured series."""
    from activarium.tasks.recording.checkpoint_series import record_series

    atlas, progress = Atlas(root, recordings_at), current_progress()
    return record_series(atlas, config, call=call, trained=trained, progress=progress)


def analyse_stage(
    recording: str, config: AnalyseConfig, root: Path, recordings_at: str | None = None
) -> TablesReceipt:
    """Compute the class-preference tables of one recording."""
    from activarium.tasks.analysis.analyse import analyse
    from activarium.tasks.images.kept_sets import forget_test_sets
    from activarium.tasks.stores.recording import open_recording
    from activarium.tasks.stores.selections import open_compared

    forget_test_sets()
    atlas = Atlas(root, recordings_at)
    opened = open_recording(atlas, recording, partial=config.partial)
    controls = tuple(
        each if each == SHUFFLE else open_compared(atlas, each, draws=True).name
        for each in config.controls
    )
    named = config.model_copy(update={"controls": controls})
    return analyse(atlas, opened, config=named, progress=current_progress())


def embed_stage(
    recording: str, config: EmbedConfig, root: Path, recordings_at: str | None = None
) -> TablesReceipt:
    """Make the maps of one recording, or place it in those of another."""
    from activarium.tasks.embedding.embed import embed
    from activarium.tasks.stores.recording import open_recording

    atlas = Atlas(root, recordings_at)
    opened = open_recording(atlas, recording)
    if config.into is not None:
        config = config.model_copy(update={"into": open_recording(atlas, config.into).name})
    return embed(atlas, opened, config=config, progress=current_progress())


def compare_stage(
    recordings: Sequence[str],
    config: CompareConfig,
    root: Path,
    name: str | None = None,
    recordings_at: str | None = None,
) -> ComparisonReceipt:
    """Compare the layers of one recording, or of several, and write the page of them."""
    from activarium.tasks.reporting.similarity_page import write_similarity_page
    from activarium.tasks.similarity.compare import compare
    from activarium.tasks.stores.selections import open_compared

    atlas = Atlas(root, recordings_at)
    opened = [open_compared(atlas, each) for each in recordings]
    if config.against is not None:
        beside = open_compared(atlas, config.against)
        config = config.model_copy(update={"against": beside.name})
        opened = [*(each for each in opened if each.name != beside.name), beside]
    progress = current_progress()
    tables = compare(atlas, opened, config=config, progress=progress)
    page = write_similarity_page(atlas, tables, name=name, progress=progress)
    more = {"page": page.path, "made": tables.made or page.made}
    notices = (*tables.notices, *page.notices)
    return ComparisonReceipt(**tables.model_dump() | more | {"notices": notices})


def compare_series_stage(
    series: Sequence[str],
    config: CompareConfig,
    root: Path,
    name: str = "training",
    recordings_at: str | None = None,
) -> SeriesComparison:
    """Compare each checkpoint of some series with its last, and write the page of them.

    Recordings that are not analysed are analysed first, with the default settings.
    """
    from activarium.tasks.analysis.analyse import analyse
    from activarium.tasks.reporting.series_page import write_series_page
    from activarium.tasks.series.find_series import find_series
    from activarium.tasks.series.tabulate import not_analysed, tabulate_series
    from activarium.tasks.similarity.compare import compare

    if config.features != "means":
        raise UserError(
            f"series are compared by channel means, got features {config.features}: compare their "
            "recordings instead"
        )
    atlas, progress = Atlas(root, recordings_at), current_progress()
    found = find_series(atlas, series)
    whole = [each for members in found.values() for each in members]
    left = not_analysed(atlas, whole)
    settings = AnalyseConfig(scheduler=config.scheduler)
    tables = [analyse(atlas, each, config=settings, progress=progress) for each in left]
    for members in found.values():
        if len(members) == 1:
            continue
        beside = config.model_copy(update={"against": members[-1].name})
        tables.append(compare(atlas, members, config=beside, progress=progress))
    tables.append(tabulate_series(atlas, whole, progress=progress))
    names = [each.name for each in whole]
    page = write_series_page(atlas, names, name=name, progress=progress)
    return SeriesComparison(series=tuple(found), tables=tuple(tables), report=page)


def report_stage(
    recordings: Sequence[str],
    name: str,
    config: ReportConfig,
    root: Path,
    recordings_at: str | None = None,
) -> ReportReceipt:
    """Write the page of a recording and its controls."""
    from activarium.tasks.reporting.report import write_report

    atlas, progress = Atlas(root, recordings_at), current_progress()
    return write_report(atlas, recordings, name=name, title=config.title, progress=progress)


class Stages(Protocol):
    """The six stages, plain or as Prefect flows."""

    def train(self, config: RunConfig, root: Path) -> CheckpointReceipt:
        """Train the configured model."""
        ...

    def record(
        self,
        config: RunConfig,
        checkpoint: CheckpointReceipt,
        root: Path,
        call: RecordCall = WHOLE,
        recordings_at: str | None = None,
    ) -> RecordingReceipt:
        """Record one checkpoint."""
        ...

    def record_series(
        self,
        config: RunConfig,
        root: Path,
        trained: Path | None = None,
        call: RecordCall = WHOLE,
        recordings_at: str | None = None,
    ) -> SeriesReceipt:
        """Record every checkpoint of a series."""
        ...

    def analyse(
        self, recording: str, config: AnalyseConfig, root: Path, recordings_at: str | None = None
    ) -> TablesReceipt:
        """Compute one recording's tables."""
        ...

    def embed(
        self, recording: str, config: EmbedConfig, root: Path, recordings_at: str | None = None
    ) -> TablesReceipt:
        """Make one recording's maps."""
        ...

    def compare(
        self,
        recordings: list[str],
        config: CompareConfig,
        root: Path,
        name: str | None = None,
        recordings_at: str | None = None,
    ) -> ComparisonReceipt:
        """Compare layers, and write the page of them."""
        ...

    def compare_series(
        self,
        series: list[str],
        config: CompareConfig,
        root: Path,
        name: str = "training",
        recordings_at: str | None = None,
    ) -> SeriesComparison:
        """Compare the checkpoints of series, and write the page of them."""
        ...

    def report(
        self,
        recordings: Sequence[str],
        name: str,
        config: ReportConfig,
        root: Path,
        recordings_at: str | None = None,
    ) -> ReportReceipt:
        """Write the page."""
        ...


@dataclass(frozen=True)
class PlainStages:
    """The stages as plain functions."""

    train = staticmethod(train_stage)
    record = staticmethod(record_stage)
    record_series = staticmethod(record_series_stage)
    analyse = staticmethod(analyse_stage)
    embed = staticmethod(embed_stage)
    compare = staticmethod(compare_stage)
    compare_series = staticmethod(compare_series_stage)
    report = staticmethod(report_stage)
