"""Series of checkpoints: which files belong to one, in which order, and a recording of each."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from activarium.schemas.atlas import TRAINING_STATE
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import CheckpointReceipt, FailedCheckpoint, SeriesReceipt
from activarium.tasks.models.models import model_name, model_source
from activarium.tasks.progress import silent
from activarium.tasks.recording.checkpoint_steps import NUMBERED_FOLDER, Candidate, order_series
from activarium.tasks.recording.checkpoints import load_images
from activarium.tasks.recording.share import parse_part
from activarium.tasks.recording.spreading import record_spread
from activarium.tasks.stores.checksum_files import refuse_damaged_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import ModelConfig, RecordCall, RunConfig
    from activarium.schemas.receipts import RecordingReceipt
    from activarium.tasks.progress import Progress
    from activarium.tasks.recording.checkpoint_steps import Ordered

SUFFIXES = (".safetensors", ".pt", ".pth", ".pth.tar", ".bin", ".ckpt")
"""Endings of files of weights; exported programs bring a model of their own and are no checkpoints."""

BESIDE = re.compile(
    r"(optimizer|scheduler|scaler|sampler|rng_state|random_states|training_args)[._\d]"
    r"|.*(optim_states|[-_]optimizer)\."
)
"""Names of files that a trainer writes beside the weights of a checkpoint."""

PART = re.compile(r"-\d{5}-of-\d{5}\.")
"""`model-00001-of-00003.safetensors`, which is a third of a checkpoint."""


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
    if path.name == TRAINING_STATE or path.name.startswith(".") or BESIDE.match(path.name):
        return None
    endings = [ending for ending in SUFFIXES if path.name.endswith(ending)]
    return path.name.removesuffix(max(endings, key=len)) if endings else None


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
    by_series: dict[str, list[Candidate]] = {}
    for path in sorted(weight_files(source)):
        series = config.series or _series_folder(path).name
        by_series.setdefault(series, []).append(Candidate(path, checkpoint_stem(path) or path.name))
    try:
        ordered = {name: order_series(name, each) for name, each in sorted(by_series.items())}
    except UserError:
        # Files of the same step are equal, but for damage.
        for each in itertools.chain.from_iterable(by_series.values()):
            refuse_damaged_model(each.path)
        raise
    if not any(each.by_step for each in ordered.values()):
        names = [each.path.name for several in by_series.values() for each in several]
        seen = f" ({names[0]} has none)" if names else ""
        raise UserError(
            f"model.checkpoints: no file of weights with a step in {source}{seen}; expected a folder "
            f"or a glob of files such as step-000100.safetensors, of {', '.join(SUFFIXES)}; a number "
            "after a word that is not of steps, such as acc_61, is none"
        )
    model = model_name(model_source(config))
    notices = [notice for each in ordered.values() for notice in each.notices]
    return Listed(tuple(_receipts(model, ordered)), tuple(notices))


def _is_of_one_checkpoint(folder: Path) -> bool:
    return NUMBERED_FOLDER.fullmatch(folder.name) is not None


def _series_folder(path: Path) -> Path:
    """Return the folder that holds a series: that of the file, or the one around `checkpoint-500`."""
    folder = path.absolute().parent
    return folder.parent if _is_of_one_checkpoint(folder) else folder


def weight_files(source: Path) -> Iterator[Path]:
    """Yield the files of weights in a folder, or that a glob matches or has in its folders.

    Folders of one checkpoint each, such as `checkpoint-500`, are looked into.

    Parameters
    ----------
    source
        A folder, a file, or a glob of either.

    Raises
    ------
    UserError
        If a file is a part of a checkpoint that was saved in several.
    """
    whole = source.absolute()
    pattern = str(whole.relative_to(whole.anchor))
    places = [source] if source.exists() else sorted(Path(whole.anchor).glob(pattern))
    for place in places:
        for path in _inside(place):
            if path.is_file() and checkpoint_stem(path) is not None:
                _refuse_part(path)
                yield path


def _inside(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for path in sorted(place.iterdir()):
        is_folder = path.is_dir() and _is_of_one_checkpoint(path)
        yield from path.iterdir() if is_folder else [path]


def _refuse_part(path: Path) -> None:
    if PART.search(path.name):
        raise UserError(
            f"model.checkpoints: {path} is a part of a checkpoint that was saved in several files, "
            "which cannot be read: save it whole (save_pretrained with a larger max_shard_size)"
        )


def _receipts(model: str, ordered: Mapping[str, Ordered]) -> Iterator[CheckpointReceipt]:
    for series, each in ordered.items():
        for step, candidate in sorted(each.by_step.items()):
            folder = candidate.path.absolute().parent
            name = folder.name if _is_of_one_checkpoint(folder) else candidate.stem
            yield CheckpointReceipt(
                model=model,
                checkpoint=name,
                path=candidate.path,
                made=False,
                series=series,
                step=step,
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
