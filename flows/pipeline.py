"""The order of the stages, as plain functions: what the Prefect flows run, without Prefect."""

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
from activarium.schemas.receipts import (
    CheckpointReceipt,
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
        return tuple(notice for each in self.tables for notice in each.notices)


WHOLE = RecordCall()
"""Record everything, here."""


class RunReceipt(BaseModel):
    """What one run made or found."""

    model_config = ConfigDict(frozen=True)

    checkpoint: CheckpointReceipt
    recordings: tuple[RecordingReceipt, ...]
    """The model's own recording first, then the controls, then those of earlier checkpoints."""
    tables: tuple[TablesReceipt, ...]
    report: ReportReceipt
    series: SeriesReceipt | None = None
    """What was made of a series of checkpoints, of which the last is the model's own."""

    @property
    def made(self) -> bool:
        """Whether anything was made anew."""
        stages = [self.checkpoint.made, self.report.made]
        stages += [each.made for each in self.recordings]
        return any(stages) or any(each.made for each in self.tables)


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
    from activarium.tasks.stores.recording import open_recording

    atlas = Atlas(root, recordings_at)
    opened = open_recording(atlas, recording, partial=config.partial)
    controls = tuple(
        each if each == SHUFFLE else open_recording(atlas, each).name for each in config.controls
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
    recordings_at: str | None = None,
) -> TablesReceipt:
    """Compare the layers of one recording, or of several."""
    from activarium.tasks.similarity.compare import compare
    from activarium.tasks.stores.recording import open_recording

    atlas = Atlas(root, recordings_at)
    opened = [open_recording(atlas, each) for each in recordings]
    if config.against is not None:
        beside = open_recording(atlas, config.against)
        config = config.model_copy(update={"against": beside.name})
        opened = [*(each for each in opened if each.name != beside.name), beside]
    return compare(atlas, opened, config=config, progress=current_progress())


def compare_series_stage(
    series: Sequence[str],
    config: CompareConfig,
    root: Path,
    name: str = "training",
    recordings_at: str | None = None,
) -> SeriesComparison:
    """Compare each checkpoint of some series with its last, and write the page of them."""
    from activarium.tasks.reporting.series_page import write_series_page
    from activarium.tasks.series.find_series import find_series
    from activarium.tasks.series.tabulate import tabulate_series
    from activarium.tasks.similarity.compare import compare

    atlas, progress = Atlas(root, recordings_at), current_progress()
    found = find_series(atlas, series)
    tables = []
    for members in found.values():
        if len(members) == 1:
            continue
        beside = config.model_copy(update={"against": members[-1].name})
        tables.append(compare(atlas, members, config=beside, progress=progress))
    whole = [each for members in found.values() for each in members]
    with progress(f"tabulating {', '.join(found)}", None):
        tables.append(tabulate_series(atlas, whole))
        names = [each.name for each in whole]
        page = write_series_page(atlas, names, name=name)
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

    with current_progress()(f"writing the report {name}", None):
        atlas = Atlas(root, recordings_at)
        return write_report(atlas, recordings, name=name, title=config.title)


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
        recordings_at: str | None = None,
    ) -> TablesReceipt:
        """Compare layers."""
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


def obtain_checkpoint(config: RunConfig, root: Path, stages: Stages) -> CheckpointReceipt:
    """Return the configured weights, trained where that is asked."""
    if config.model.weights == "trained":
        return stages.train(config, root)
    from activarium.tasks.recording.checkpoints import choose_checkpoint

    return choose_checkpoint(config.model)


def obtain_series(
    config: RunConfig,
    root: Path,
    stages: Stages,
    call: RecordCall = WHOLE,
    recordings_at: str | None = None,
) -> SeriesReceipt:
    """Record the configured series of checkpoints, trained first where that is asked."""
    trained = stages.train(config, root).path if config.model.is_trained_here else None
    folder = None if trained is None else trained.parent
    return stages.record_series(config, root, folder, call, recordings_at)


def run_stages(
    config: RunConfig, root: Path, stages: Stages, recordings_at: str | None = None
) -> RunReceipt:
    """Run everything from a test set and a model to tables and a page."""
    series = None
    if config.model.checkpoints is not None:
        series = obtain_series(config, root, stages, WHOLE, recordings_at)
        *earlier, main = series.recordings
        checkpoint, recordings = series.checkpoints[-1], [main]
    else:
        checkpoint, earlier = obtain_checkpoint(config, root, stages), []
        recordings = [stages.record(config, checkpoint, root, WHOLE, recordings_at)]
    if "untrained" in config.controls and config.model.weights != "untrained":
        from activarium.tasks.recording.checkpoints import untrained_control

        control = untrained_control(config)
        start = obtain_checkpoint(control, root, stages)
        recordings.append(stages.record(control, start, root, WHOLE, recordings_at))
    names = [each.recording for each in recordings]
    before = [each.recording for each in earlier]
    tables = analyse_with_controls(config, names, root, stages, recordings_at, before)
    shown = [each.recording for each in tables[: len(names)]]
    tables.append(stages.embed(names[0], config.embed, root, recordings_at))
    report = stages.report(shown, config.name, config.report, root, recordings_at)
    return RunReceipt(
        checkpoint=checkpoint,
        recordings=(*recordings, *earlier),
        tables=tuple(tables),
        report=report,
        series=series,
    )


def analysis_settings(config: RunConfig) -> AnalyseConfig:
    """Return how a run analyses, with permuted labels beside where it asks for them."""
    own = {*config.analyse.controls, *({SHUFFLE} & {*config.controls})}
    return config.analyse.model_copy(update={"controls": tuple(sorted(own))})


def analyse_with_controls(
    config: RunConfig,
    names: Sequence[str],
    root: Path,
    stages: Stages,
    recordings_at: str | None = None,
    earlier: Sequence[str] = (),
) -> list[TablesReceipt]:
    """Tabulate a recording beside its controls, which come first; return its own tables first.

    The recordings of earlier checkpoints, beside the same controls, come last. A condition chooses
    images by the recording's answers; controls and earlier checkpoints take the same images.
    """
    main, *untrained = names
    settings = analysis_settings(config)
    asked = settings.where_of or main if settings.where is not None else None
    same_images = settings.model_copy(update={"where_of": asked})
    tables = [stages.analyse(name, same_images, root, recordings_at) for name in untrained]
    beside = settings.model_copy(update={"controls": (*settings.controls, *untrained)})
    tables.insert(0, stages.analyse(main, beside, root, recordings_at))
    again = beside.model_copy(update={"where_of": asked})
    return tables + [stages.analyse(name, again, root, recordings_at) for name in earlier]
