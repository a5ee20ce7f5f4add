"""Records one checkpoint by as many processes as were asked for: one, several, or a cluster's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activarium.tasks.progress import begin_work, only_look, silent
from activarium.tasks.recording.devices import device_per_process
from activarium.tasks.recording.share import Share, parse_part

if TYPE_CHECKING:
    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RecordCall, RunConfig
    from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
    from activarium.tasks.progress import Progress
    from activarium.tasks.recording.checkpoints import Images


def record_spread(  # noqa: PLR0913 - a whole stage
    atlas: Atlas,
    config: RunConfig,
    checkpoint: CheckpointReceipt,
    *,
    call: RecordCall,
    progress: Progress = silent,
    images: Images | None = None,
) -> RecordingReceipt:
    """Record one checkpoint, or finish what was begun.

    Parameters
    ----------
    atlas
        Where the recording goes.
    config
        The run; `record.devices` are the processes of this machine.
    checkpoint
        The weights.
    call
        What this call makes of the recording, and whether a cluster does it.
    progress
        One bar for all processes.
    images
        The configured test set, where it is loaded already; other processes load their own.

    Raises
    ------
    UserError
        If the recording cannot be made, or the options do not go together.
    """
    part, parts = parse_part(call.part)
    devices = config.record.devices or ()
    call.check_with(config.record)
    if call.repair or call.dask is not None:
        # What is stored is read whole; what workers see may not be seen from here.
        begin_work(progress)
    if checkpoint.draws:
        # They are few and small, and the weights of all come from their seeds: one process makes them.
        from activarium.tasks.recording.draws import record_draws

        share = Share(part=part, parts=parts)
        return record_draws(
            atlas,
            _on_device(config, device_per_process(devices)[0]) if devices else config,
            progress=progress,
            share=share,
            repair=call.repair,
            images=images,
        )
    if call.dask is not None:
        from activarium.tasks.recording.record_cluster import record_on_cluster

        return record_on_cluster(
            atlas, config, checkpoint, address=call.dask, repair=call.repair, progress=progress
        )
    each = device_per_process(devices) if devices else ()
    if len(each) > 1 and progress is not only_look:
        from activarium.tasks.recording.record_processes import record_on_devices

        return record_on_devices(
            atlas,
            config,
            checkpoint,
            devices=each,
            part=part,
            parts=parts,
            repair=call.repair,
            progress=progress,
        )
    from activarium.tasks.recording.checkpoints import record_checkpoint

    if each:
        config = _on_device(config, each[0])
    share = Share(part=part, parts=parts, workers=parts)
    return record_checkpoint(
        atlas,
        config,
        checkpoint,
        progress=progress,
        share=share,
        repair=call.repair,
        images=images,
    )


def _on_device(config: RunConfig, device: str) -> RunConfig:
    record = config.record.model_copy(update={"device": device, "devices": None})
    return config.model_copy(update={"record": record})
