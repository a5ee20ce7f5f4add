"""Series of checkpoints: which files belong to one, in which order, and a recording of each."""

from __future__ import annotations

import filecmp
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import CheckpointReceipt, FailedCheckpoint, SeriesReceipt
from activarium.tasks.models.checkpoint_files import noted_step
from activarium.tasks.models.models import model_name, model_source
from activarium.tasks.models.training_folder import STATE
from activarium.tasks.progress import silent
from activarium.tasks.recording.checkpoints import load_images
from activarium.tasks.recording.share import parse_part
from activarium.tasks.recording.spreading import record_spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import ModelConfig, RecordCall, RunConfig
    from activarium.schemas.receipts import RecordingReceipt
    from activarium.tasks.progress import Progress

SUFFIXES = (".safetensors", ".pt", ".pth", ".pth.tar", ".bin", ".ckpt")
"""Endings of files of weights; exported programs bring a model of their own and are no checkpoints."""


@dataclass(frozen=True)
class Listed:
    """The checkpoints of one or more series, in order."""

    checkpoints: tuple[CheckpointReceipt, ...]
    notices: tuple[str, ...]
    """Which files were left out."""


def checkpoint_stem(path: Path) -> str | None:
    """Return the name of a file of weights without its ending; None for other files.

    >>> checkpoint_stem(Path("run/epoch-003.pth.tar")), checkpoint_stem(Path("training.json"))
    ('epoch-003', None)
    """
    if path.name == STATE or path.name.startswith("."):
        return None
    endings = [ending for ending in SUFFIXES if path.name.endswith(ending)]
    return path.name.removesuffix(max(endings, key=len)) if endings else None


def step_of(path: Path) -> int | None:
    """Return the step of a file of weights: what it notes, else the last number of its name.

    Parameters
    ----------
    path
        A file of weights; only safetensors files note a step.
    """
    noted = noted_step(path) if path.suffix == ".safetensors" else None
    if noted is not None:
        return noted
    numbers = re.findall(r"\d+", checkpoint_stem(path) or "")
    return int(numbers[-1]) if numbers else None


def list_checkpoints(config: ModelConfig, *, trained: Path | None = None) -> Listed:
    """Return the checkpoints of the configured series, by series and step.

    Of files that are equal byte by byte, as those of an epoch and of its last step, one counts.

    Parameters
    ----------
    config
        `checkpoints`: a folder, a glob of files or folders, or `trained`; `series`.
    trained
        The folder of the run's training.

    Raises
    ------
    UserError
        If there is no file of weights, or different ones have the same step.
    """
    where = str(config.checkpoints)
    source = trained if where == "trained" else Path(where).expanduser()
    if source is None:
        raise UserError("model.checkpoints: trained is known once the run's training is done")
    found: dict[tuple[str, int], Path] = {}
    without_step = []
    for path in sorted(weight_files(source)):
        step = step_of(path)
        if step is None:
            without_step.append(path.name)
            continue
        key = (config.series or path.absolute().parent.name, step)
        if key in found and not filecmp.cmp(found[key], path, shallow=False):
            raise UserError(
                f"model.checkpoints: {found[key]} and {path} are both step {step} of series "
                f"{key[0]}: choose by a glob, such as 'epoch-*.pt', or leave out --series"
            )
        found[key] = path
    if not found:
        raise UserError(
            f"model.checkpoints: no file of weights with a step in {source}; expected a folder or a "
            f"glob of files such as step-000100.safetensors, of {', '.join(SUFFIXES)}"
        )
    model = model_name(model_source(config))
    notices = [f"{name} is left out: it tells no step" for name in without_step]
    return Listed(tuple(_receipts(model, found)), tuple(notices))


def weight_files(source: Path) -> Iterator[Path]:
    """Yield the files of weights in a folder, or that a glob matches or has in its folders.

    Parameters
    ----------
    source
        A folder, a file, or a glob of either.
    """
    whole = source.absolute()
    pattern = str(whole.relative_to(whole.anchor))
    places = [source] if source.exists() else sorted(Path(whole.anchor).glob(pattern))
    for place in places:
        inside: Iterable[Path] = place.iterdir() if place.is_dir() else [place]
        for path in inside:
            if path.is_file() and checkpoint_stem(path) is not None:
                yield path


def _receipts(model: str, found: dict[tuple[str, int], Path]) -> Iterator[CheckpointReceipt]:
    for (series, step), path in sorted(found.items()):
        name = checkpoint_stem(path) or path.name
        yield CheckpointReceipt(
            model=model, checkpoint=name, path=path, made=False, series=series, step=step
        )


def record_series(
    atlas: Atlas,
    config: RunConfig,
    *,
    call: RecordCall,
    trained: Path | None = None,
    progress: Progress = silent,
) -> SeriesReceipt:
    """Record every checkpoint of a series over the configured test set, which is loaded once.

    Complete recordings are not repeated. A checkpoint that cannot be loaded or recorded is noted as
    failed, and the rest goes on.

    Parameters
    ----------
    atlas
        Where the recordings go.
    config
        The run; `model.checkpoints` says which files.
    call
        What this call makes of each recording.
    trained
        The folder of the run's training, where the checkpoints are its own.
    progress
        A bar for each recording.

    Raises
    ------
    UserError
        If there are no checkpoints, or none of them can be recorded.
    """
    parse_part(call.part)
    listed = list_checkpoints(config.model, trained=trained)
    images = load_images(atlas, config)
    made: list[tuple[CheckpointReceipt, RecordingReceipt]] = []
    failed = []
    for checkpoint in listed.checkpoints:
        try:
            recording = record_spread(
                atlas, config, checkpoint, call=call, progress=progress, images=images
            )
        except UserError as error:
            failed.append(_failed(checkpoint, error))
        else:
            made.append((checkpoint, recording))
    if not made:
        raise UserError(
            f"none of {len(failed)} checkpoints could be recorded; the first: {failed[0].reason}"
        )
    return SeriesReceipt(
        checkpoints=tuple(checkpoint for checkpoint, _ in made),
        recordings=tuple(recording for _, recording in made),
        failed=tuple(failed),
        notices=listed.notices,
    )


def _failed(checkpoint: CheckpointReceipt, error: UserError) -> FailedCheckpoint:
    return FailedCheckpoint(
        path=Path(str(checkpoint.path)),
        series=str(checkpoint.series),
        step=int(checkpoint.step or 0),
        reason=str(error),
    )
