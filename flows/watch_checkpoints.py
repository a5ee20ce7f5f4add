"""The flow that takes the checkpoints of a folder as they are: for schedules."""

from __future__ import annotations

import time
from glob import has_magic
from pathlib import Path

from prefect import flow, get_run_logger

from activarium.flows.run_pipeline import FlowStages
from activarium.flows.watching import SETTLING_SECONDS, WatchReceipt, record_and_compare
from activarium.schemas.atlas import Atlas, slug
from activarium.schemas.config import RunConfig
from activarium.schemas.errors import UserError, shown
from activarium.tasks.recording.checkpoint_series import weight_files
from activarium.tasks.series.folder_watch import FolderWatch
from activarium.tasks.stores.locking import BusyError, only_process


@flow(name="watch", flow_run_name="watch {config.model.checkpoints}", persist_result=False)
def watch_checkpoints(
    config: RunConfig, root: Path = Path("atlas"), recordings_at: str | None = None
) -> WatchReceipt | None:
    """Record, analyse and compare the checkpoints that are there; nothing is made twice.

    Parameters
    ----------
    config
        The run; `model.checkpoints` says where the files appear.
    root
        The atlas folder.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.

    Returns
    -------
    What was made or found; None where there is no checkpoint yet, or one is being written, which
    the next run takes, or where another run is at it. A run that was killed keeps nobody waiting,
    as a slot of Prefect's would: its lock is freed with its process.

    Raises
    ------
    UserError
        If there is no such folder, or a checkpoint could not be recorded; the others were.
    """
    folder = config.model.checkpoints
    if folder in {None, "trained"}:
        raise UserError(
            f"model.checkpoints: expected the folder or glob to watch, got {folder!r}; set it in "
            "the deployment's parameters"
        )
    where, look = Path(str(folder)).expanduser(), FolderWatch()
    if not where.is_dir() and not has_magic(str(where)):
        raise UserError(
            f"model.checkpoints: expected a folder of checkpoints, or a glob, got {folder} in "
            f"{Path.cwd()}, and there is no such folder"
        )
    look.has_news(weight_files(where))
    time.sleep(SETTLING_SECONDS)
    if not look.has_news(weight_files(where)):
        get_run_logger().info("%s: nothing yet, or a file is being written", shown(str(folder)))
        return None
    try:
        with only_process(Atlas(root).lock(f"watch-{slug(str(folder))[-100:]}"), "watching"):
            receipt = record_and_compare(config, root, FlowStages(), recordings_at)
    except BusyError as error:
        get_run_logger().info("%s: %s", folder, error)
        return None
    if receipt.series.failure is not None:
        raise UserError(receipt.series.failure)
    return receipt
