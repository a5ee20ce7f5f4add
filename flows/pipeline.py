"""The order of the stages: what the Prefect flows run, without Prefect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from activarium.flows.progress_bars import current_progress
from activarium.flows.stages import WHOLE
from activarium.schemas.analysis_config import SHUFFLE
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import (
    CheckpointReceipt,
    RecordingReceipt,
    ReportReceipt,
    SeriesReceipt,
    TablesReceipt,
)
from activarium.tasks.progress import only_look

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.flows.stages import Stages
    from activarium.schemas.config import AnalyseConfig, RecordCall, RunConfig


class RunReceipt(BaseModel):
    """What one run made or found."""

    model_config = ConfigDict(frozen=True)

    checkpoint: CheckpointReceipt
    recordings: tuple[RecordingReceipt, ...]
    """The model's own recording first, then one untrained network, then the draws of many, then those of
    earlier checkpoints."""
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


class PartReceipt(BaseModel):
    """What one part of a run recorded, where other parts are still to record theirs."""

    model_config = ConfigDict(frozen=True)

    recordings: tuple[RecordingReceipt, ...]
    shards_left: int
    """Shards of all recordings that are still to be made, by other parts."""

    @property
    def made(self) -> bool:
        """Whether anything was made anew."""
        return any(each.made for each in self.recordings)


def obtain_checkpoint(config: RunConfig, root: Path, stages: Stages) -> CheckpointReceipt:
    """Return the configured weights, trained where that is asked."""
    if config.model.weights == "trained":
        return _train(config, root, stages)
    from activarium.tasks.recording.checkpoints import choose_checkpoint

    return choose_checkpoint(config.model)


def _train(config: RunConfig, root: Path, stages: Stages) -> CheckpointReceipt:
    """Train what is recorded afterwards."""
    from activarium.tasks.recording.checkpoints import check_before_training

    check_before_training(Atlas(root), config)
    return stages.train(config, root)


def obtain_series(
    config: RunConfig,
    root: Path,
    stages: Stages,
    call: RecordCall = WHOLE,
    recordings_at: str | None = None,
) -> SeriesReceipt:
    """Record the configured series of checkpoints, trained first where that is asked."""
    trained = _train(config, root, stages) if config.model.is_trained_here else None
    folder = None if trained is None or trained.path is None else trained.path.parent
    series = stages.record_series(config, root, folder, call, recordings_at)
    lost = () if trained is None else trained.notices
    return series.model_copy(update={"notices": (*lost, *series.notices)})


def check_last_stages(config: RunConfig, atlas: Atlas) -> None:
    """Find before any work what would stop the stages that come last.

    Raises
    ------
    UserError
        If a control or the recording to place images in is not there, or no scheduler answers.
    """
    from activarium.tasks.cluster import cluster
    from activarium.tasks.stores.recording import open_recording
    from activarium.tasks.stores.selections import open_compared

    try:
        setting = "analyse.controls"
        for control in config.analyse.controls:
            if control != SHUFFLE:
                open_compared(atlas, control, draws=True)
        setting = "embed.into"
        if config.embed.into is not None:
            open_recording(atlas, config.embed.into)
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error
    for address in sorted({config.analyse.scheduler, config.embed.scheduler}):
        if "://" in address:
            with cluster(address):
                pass


def run_stages(
    config: RunConfig,
    root: Path,
    stages: Stages,
    recordings_at: str | None = None,
    call: RecordCall = WHOLE,
) -> RunReceipt | PartReceipt:
    """Run everything from a test set and a model to tables and a page.

    Where `call` makes one part of the recordings, the part that completes them goes on to the tables.
    """
    if current_progress() is not only_look:
        check_last_stages(config, Atlas(root, recordings_at))
    series, draws = None, list[RecordingReceipt]()
    if config.model.checkpoints is not None:
        series = obtain_series(config, root, stages, call, recordings_at)
        *earlier, main = series.recordings
        checkpoint, recordings = series.checkpoints[-1], [main]
    else:
        checkpoint, earlier = obtain_checkpoint(config, root, stages), []
        recordings = [stages.record(config, checkpoint, root, call, recordings_at)]
    if "untrained" in config.controls and config.model.weights != "untrained":
        from activarium.tasks.recording.checkpoints import untrained_control
        from activarium.tasks.recording.draws import choose_draws

        control = untrained_control(config)
        start = obtain_checkpoint(control, root, stages)
        recordings.append(stages.record(control, start, root, call, recordings_at))
        draws.append(stages.record(config, choose_draws(config), root, call, recordings_at))
    made = (*recordings, *draws, *earlier)
    left = sum(each.shards_left for each in made)
    if left:
        return PartReceipt(recordings=made, shards_left=left)
    names = [each.recording for each in recordings]
    tables = analyse_with_controls(
        config,
        names,
        root,
        stages,
        recordings_at,
        earlier=[each.recording for each in earlier],
        draws=[each.recording for each in draws],
    )
    shown = [each.recording for each in tables[: len(names)]]
    tables.append(stages.embed(names[0], config.embed, root, recordings_at))
    report = stages.report(shown, config.name, config.report, root, recordings_at)
    return RunReceipt(
        checkpoint=checkpoint,
        recordings=made,
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
    *,
    earlier: Sequence[str] = (),
    draws: Sequence[str] = (),
) -> list[TablesReceipt]:
    """Tabulate a recording and what is shown beside it; return its own tables first.

    The recordings of earlier checkpoints come last. They and the recording itself stand beside the
    untrained networks of `draws`; the one that is recorded whole is a picture, and is beside
    permuted labels alone. A condition chooses
    images by the recording's answers; controls and earlier checkpoints take the same images.
    """
    main, *untrained = names
    settings = analysis_settings(config)
    asked = settings.where_of or main if settings.where is not None else None
    same_images = settings.model_copy(update={"where_of": asked})
    tables = [stages.analyse(name, same_images, root, recordings_at) for name in untrained]
    beside = settings.model_copy(update={"controls": (*settings.controls, *draws)})
    tables.insert(0, stages.analyse(main, beside, root, recordings_at))
    again = beside.model_copy(update={"where_of": asked})
    return tables + [stages.analyse(name, again, root, recordings_at) for name in earlier]
