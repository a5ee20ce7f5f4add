"""What tasks hand to one another: small frozen receipts, never arrays."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Receipt(BaseModel):
    """Base of all receipts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredObject(Receipt):
    """One stored chunk."""

    key: str
    """Key within the recording."""
    size: int
    """Bytes."""
    sha256: str
    """Checksum of the bytes."""


class ShardReceipt(Receipt):
    """Written after a shard is safely stored; only this counts as done."""

    shard: int
    start: int
    stop: int
    fingerprint: str
    invalid: tuple[str, ...] = ()
    """Ids of the images that could not be decoded."""
    objects: tuple[StoredObject, ...]
    device: str
    read_seconds: float
    forward_seconds: float
    write_seconds: float


class StoreReceipt(Receipt):
    """Written when a recording is complete: its metadata, coordinates and shard receipts."""

    fingerprint: str
    objects: tuple[StoredObject, ...]


class CheckpointReceipt(Receipt):
    """One saved state of a model, or the untrained model."""

    model: str
    checkpoint: str
    path: Path | None
    """The weights' file; None for weights that are made and not read."""
    made: bool
    """False where it was there already."""


class RecordingReceipt(Receipt):
    """One complete recording."""

    recording: str
    path: Path
    images: int
    units: int
    layers: int
    made: bool
    """False where it was there already."""
    invalid: tuple[str, ...] = ()
    """Ids of the images that could not be decoded."""
    resumed_shards: int = 0
    """Shards that an earlier, interrupted run had stored."""
    seconds: float = 0.0


class TablesReceipt(Receipt):
    """The tables that one stage wrote for one recording."""

    recording: str
    files: tuple[Path, ...]
    made: bool
    """False where they were there already."""
    seconds: float = 0.0


class ReportReceipt(Receipt):
    """One report page."""

    path: Path
    recordings: tuple[str, ...]
    made: bool
    """False where an equal page was there already."""
