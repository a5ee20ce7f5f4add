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
    TablesReceipt,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


WHOLE = RecordCall()
"""Record everything, here."""


class RunReceipt(BaseModel):
    """What one run made or found."""

    model_config = ConfigDict(frozen=True)

    checkpoint: CheckpointReceipt
    recordings: tuple[RecordingReceipt, ...]
    """The model's own recording first, then the controls."""
    tables: tuple[TablesReceipt, ...]
    report: ReportReceipt

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
    """Make the maps of one recording."""
    from activarium.tasks.embedding.embed import embed
    from activarium.tasks.stores.recording import open_recording

    atlas = Atlas(root, recordings_at)
    opened = open_recording(atlas, recording)
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
    analyse = staticmethod(analyse_stage)
    embed = staticmethod(embed_stage)
    compare = staticmethod(compare_stage)
    report = staticmethod(report_stage)


def obtain_checkpoint(config: RunConfig, root: Path, stages: Stages) -> CheckpointReceipt:
    """Return the configured weights, trained where that is asked."""
    if config.model.weights == "trained":
        return stages.train(config, root)
    from activarium.tasks.recording.checkpoints import choose_checkpoint

    return choose_checkpoint(config.model)


def run_stages(
    config: RunConfig, root: Path, stages: Stages, recordings_at: str | None = None
) -> RunReceipt:
    """Run everything from a test set and a model to tables and a page."""
    checkpoint = obtain_checkpoint(config, root, stages)
    recordings = [stages.record(config, checkpoint, root, WHOLE, recordings_at)]
    if "untrained" in config.controls and config.model.weights != "untrained":
        from activarium.tasks.recording.checkpoints import untrained_control

        control = untrained_control(config)
        start = obtain_checkpoint(control, root, stages)
        recordings.append(stages.record(control, start, root, WHOLE, recordings_at))
    names = [each.recording for each in recordings]
    tables = analyse_with_controls(config, names, root, stages, recordings_at)
    shown = [each.recording for each in tables]
    tables.append(stages.embed(names[0], config.embed, root, recordings_at))
    report = stages.report(shown, config.name, config.report, root, recordings_at)
    return RunReceipt(
        checkpoint=checkpoint,
        recordings=tuple(recordings),
        tables=tuple(tables),
        report=report,
    )


def analyse_with_controls(
    config: RunConfig,
    names: Sequence[str],
    root: Path,
    stages: Stages,
    recordings_at: str | None = None,
) -> list[TablesReceipt]:
    """Tabulate a recording beside its controls, which come first; return its own tables first."""
    main, *untrained = names
    own = {*config.analyse.controls, *({SHUFFLE} & {*config.controls})}
    settings = config.analyse.model_copy(update={"controls": tuple(sorted(own))})
    tables = [stages.analyse(name, settings, root, recordings_at) for name in untrained]
    beside = settings.model_copy(update={"controls": (*settings.controls, *untrained)})
    return [stages.analyse(main, beside, root, recordings_at), *tables]
