"""The flow that records a model's answers to a test set."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from activarium.flows.pipeline import WHOLE, record_stage
from activarium.flows.retrying import retried_task
from activarium.schemas.config import RecordCall, RunConfig
from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt

record_task = retried_task(record_stage, name="record shards")


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
