"""The flow that writes a report page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from activarium.flows.retrying import retried_task
from activarium.flows.stages import report_stage
from activarium.schemas.config import ReportConfig
from activarium.schemas.receipts import ReportReceipt

report_task = retried_task(report_stage, name="write page")


@flow(name="report", flow_run_name="report {name}", persist_result=False)
def write_report_page(
    recordings: Sequence[str],
    name: str,
    config: ReportConfig | None = None,
    root: Path = Path("atlas"),
    recordings_at: str | None = None,
) -> ReportReceipt:
    """Write the page of a recording and its controls.

    Parameters
    ----------
    recordings
        Ids of analysed recordings, the main one first.
    name
        Names the file.
    config
        The page's heading.
    root
        The atlas folder.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    """
    return report_task(recordings, name, config or ReportConfig(), root, recordings_at)
