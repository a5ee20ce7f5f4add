"""The flows that record answers to a test set: of a model, and of every checkpoint of a series."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from activarium.flows.retrying import retried_task
from activarium.flows.stages import WHOLE, record_series_stage, record_stage
from activarium.schemas.config import RecordCall, RunConfig
from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt, SeriesReceipt

record_task = retried_task(record_stage, name="record shards")
record_series_task = retried_task(record_series_stage, name="record checkpoints")


@flow(name="record", flow_run_name="record {config.name}", persist_result=False)
def record_activations(
    config: RunConfig,
    checkpoint: CheckpointReceipt,
    root: Path = Path("atlas"),
    call: RecordCall = WHOLE,
    recordings_at: str | None = None,
) -> RecordingReceipt:
    """Record one checkpoint over the configured test set, going on from the last receipt.

    Parameters
    ----------
    config
        The run: test set, preprocessing, model, what to record.
    checkpoint
        The weights.
    root
        The atlas folder.
    call
        Which part of the recording is made, and whether a Dask cluster makes it.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    """
    return record_task(config, checkpoint, root, call, recordings_at)


@flow(name="record-series", flow_run_name="record series {config.name}", persist_result=False)
def record_checkpoints(
    config: RunConfig,
    root: Path = Path("atlas"),
    trained: Path | None = None,
    call: RecordCall = WHOLE,
    recordings_at: str | None = None,
) -> SeriesReceipt:
    """Record every checkpoint of a series; recordings that are complete are not repeated.

    Parameters
    ----------
    config
        The run; `model.checkpoints` says which files.
    root
        The atlas folder.
    trained
        The folder of a training, where its own checkpoints are meant.
    call
        Which part of each recording is made, and whether a Dask cluster makes it.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    """
    return record_series_task(config, root, trained, call, recordings_at)
