"""The flow that computes class-preference tables."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from activarium.flows.retrying import retried_task
from activarium.flows.stages import analyse_stage
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.receipts import TablesReceipt

analyse_task = retried_task(analyse_stage, name="analyse units and layers")


@flow(name="analyse", flow_run_name="analyse {recording}", persist_result=False)
def analyse_preferences(
    recording: str,
    config: AnalyseConfig | None = None,
    root: Path = Path("atlas"),
    recordings_at: str | None = None,
) -> TablesReceipt:
    """Compute the tables of one recording, unless they are current.

    Parameters
    ----------
    recording
        Id of a complete recording, or the beginning of it.
    config
        Levels, exemplars, and where the tasks run.
    root
        The atlas folder.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    """
    return analyse_task(recording, config or AnalyseConfig(), root, recordings_at)
