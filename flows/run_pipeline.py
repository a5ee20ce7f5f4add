"""The parent flow: everything from a test set and a model to tables and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from activarium.flows.analyse_preferences import analyse_preferences
from activarium.flows.compare_recordings import compare_recordings, compare_series
from activarium.flows.embed_images import embed_images
from activarium.flows.pipeline import PartReceipt, RunReceipt, run_stages
from activarium.flows.record_activations import record_activations, record_checkpoints
from activarium.flows.stages import WHOLE
from activarium.flows.train_model import train_model
from activarium.flows.write_report_page import write_report_page
from activarium.schemas.config import RecordCall, RunConfig


@dataclass(frozen=True)
class FlowStages:
    """The stages as Prefect flows."""

    train = staticmethod(train_model)
    record = staticmethod(record_activations)
    record_series = staticmethod(record_checkpoints)
    analyse = staticmethod(analyse_preferences)
    embed = staticmethod(embed_images)
    compare = staticmethod(compare_recordings)
    compare_series = staticmethod(compare_series)
    report = staticmethod(write_report_page)


@flow(name="run", flow_run_name="run {config.name}", persist_result=False)
def run_pipeline(
    config: RunConfig,
    root: Path = Path("atlas"),
    recordings_at: str | None = None,
    call: RecordCall = WHOLE,
) -> RunReceipt | PartReceipt:
    """Train, record, analyse, embed and report; what is current is not made again.

    Parameters
    ----------
    config
        The whole run.
    root
        The atlas folder.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    call
        Which part of the recordings is made, and whether a Dask cluster makes them.
    """
    return run_stages(config, root, FlowStages(), recordings_at, call)
