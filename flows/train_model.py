"""The flow that trains a model."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from activarium.flows.retrying import retried_task
from activarium.flows.stages import train_stage
from activarium.schemas.config import RunConfig
from activarium.schemas.receipts import CheckpointReceipt

train_task = retried_task(train_stage, name="train checkpoints")


@flow(name="train", flow_run_name="train {config.name}", persist_result=False)
def train_model(config: RunConfig, root: Path = Path("atlas")) -> CheckpointReceipt:
    """Train the configured model, one checkpoint per epoch; finished training is not repeated.

    Parameters
    ----------
    config
        The run: test set, model, training.
    root
        The atlas folder.
    """
    return train_task(config, root)
