"""The flow that records a model's answers to a test set."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from activarium.flows.pipeline import record_stage
from activarium.flows.retrying import retried_task
from activarium.schemas.config import RunConfig
from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt

record_task = retried_task(record_stage, name="record shards")


@flow(name="record", flow_run_name="record {config.name}", persist_result=False)
def record_activations(
    config: RunConfig, checkpoint: CheckpointReceipt, root: Path = Path("atlas")
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
    """
    return record_task(config, checkpoint, root)
