"""Whether a training is finished, and what it has lost: checkpoints that are damaged or gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from activarium.schemas.atlas import TRAINING_LOG, TRAINING_STATE
from activarium.schemas.errors import UserError
from activarium.tasks.models.checkpoint_files import epoch_file
from activarium.tasks.stores.checksum_files import (
    checksum_file,
    content_problem,
    refuse_damaged_model,
)

if TYPE_CHECKING:
    from pathlib import Path


READ_BYTES = 2 * 2**30
"""Checkpoints of a training that is there already are read up to this size: some seconds."""


def is_finished(folder: Path, epochs: int) -> bool:
    """Return whether a training has ended, after its last checkpoint was written.

    Parameters
    ----------
    folder
        Of the training; `verify` tells of a log in it that cannot be read.
    epochs
        Of the training.
    """
    if not (folder / epoch_file(epochs)).exists() or (folder / TRAINING_STATE).exists():
        return False
    try:
        return len(json.loads((folder / TRAINING_LOG).read_bytes())["epochs"]) == epochs
    except (OSError, ValueError, KeyError, TypeError):
        return True


def lost_checkpoints(folder: Path, epochs: int) -> tuple[str, ...]:
    """Return a line each about checkpoints and the log of a finished training that are lost.

    Of the last one the whole content is checked; that of the others too where they are no more than
    `READ_BYTES`, and else when they are recorded, and by `verify`.

    Parameters
    ----------
    folder
        Of the training, in an atlas.
    epochs
        Of the training.

    Raises
    ------
    UserError
        If the last checkpoint is damaged.
    """
    last = folder / epoch_file(epochs)
    refuse_damaged_model(last)
    problem = cut_off(last)
    if problem:
        raise UserError(
            f"{last} is damaged ({problem}): put a copy of it back, or delete {folder} and run "
            "`activarium train` again"
        )
    known = checksum_file((folder / "any").absolute()).parent.glob("*.safetensors.sha256")
    names = {path.stem for path in known} | {epoch_file(epoch + 1) for epoch in range(epochs)}
    paths = [folder / name for name in sorted(names)]
    are_read = sum(path.stat().st_size for path in paths if path.exists()) <= READ_BYTES
    lost = [path.name for path in paths if cut_off(path) or (are_read and _differs(path))]
    notices = []
    if lost:
        shown = ", ".join(lost[:3]) + (" ..." if len(lost) > 3 else "")
        notices.append(
            f"{len(lost)} of {len(names)} checkpoints in {folder} are missing or damaged ({shown}): "
            "put copies of them back, or delete the folder to train anew"
        )
    log = folder / TRAINING_LOG
    if not log.is_file() or _differs(log):
        notices.append(
            f"{log}, the log of the training, is missing or damaged; the checkpoints are not"
        )
    return tuple(notices)


def _differs(path: Path) -> bool:
    path = path.absolute()
    return checksum_file(path).is_file() and bool(content_problem(path))


def cut_off(path: Path) -> str:
    """Return what is wrong with the head or the size of a safetensors file; empty where nothing is."""
    try:
        with safe_open(path, "np"):
            return ""
    except FileNotFoundError:
        return "missing"
    except (SafetensorError, OSError, ValueError) as error:
        return str(error).splitlines()[0]
