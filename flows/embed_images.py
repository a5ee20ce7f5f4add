"""The flow that makes maps of the images."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from activarium.flows.retrying import retried_task
from activarium.flows.stages import embed_stage
from activarium.schemas.config import EmbedConfig
from activarium.schemas.receipts import TablesReceipt

embed_task = retried_task(embed_stage, name="embed images")


@flow(name="embed", flow_run_name="embed {recording}", persist_result=False)
def embed_images(
    recording: str,
    config: EmbedConfig | None = None,
    root: Path = Path("atlas"),
    recordings_at: str | None = None,
) -> TablesReceipt:
    """Make every map of one recording that is not current.

    Parameters
    ----------
    recording
        Id of a complete recording, or the beginning of it.
    config
        Layers, methods and their parameters.
    root
        The atlas folder.
    recordings_at
        Address of the recordings where they lie elsewhere, such as s3://bucket/prefix.
    """
    return embed_task(recording, config or EmbedConfig(), root, recordings_at)
