"""What tasks hand to one another: small frozen receipts, never arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from activarium.schemas.stored_object import EarlierObject, StoredObject

_NAME = r"[^/\\\x00]"
_OF_SET = rf"^(tables/[a-z_]+|maps)/recording={_NAME}+/[^/\\\x00.]{_NAME}*\.(parquet|npz)$"
_STAGED = rf"^tables/\.staged/\.{_NAME}+\.partial/[0-9]+\.(parquet|npz)$"

# An atlas may come from somebody else: what moves and deletes files reads these.
PlaceOfTable = Annotated[str, Field(pattern=_OF_SET)]
"""Where a table or map lies in an atlas: nowhere else, and not above it."""
PlaceStaged = Annotated[str, Field(pattern=_STAGED)]
"""Where a file of a new set waits in an atlas."""


class Receipt(BaseModel):
    """Base of all receipts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardReceipt(Receipt):
    """Written after a shard is safely stored; only this counts as done."""

    shard: int
    start: int
    stop: int
    fingerprint: str
    invalid: tuple[str, ...] = ()
    """Ids of the images that could not be decoded."""
    conversions: dict[str, int] = {}
    """How many images were converted on their way to the model, per kind of conversion."""
    batch_size: int
    """Images per forward pass; less than the recording's where memory did not suffice."""
    objects: tuple[StoredObject | EarlierObject, ...]
    device: str
    processor: str = ""
    """Model of the processor or GPU, with the instruction set that torch uses; empty where it was not
    noted. Numbers of two of them may differ in their last bits."""
    read_seconds: float
    forward_seconds: float
    write_seconds: float


class StoreReceipt(Receipt):
    """Written when a recording is created: all that it holds beside what its shards write."""

    fingerprint: str
    shards: int
    """How many shards there will be."""
    metadata: dict[str, Any]
    """Content of the root zarr.json at creation."""
    objects: tuple[StoredObject | EarlierObject, ...]
    """The arrays' metadata and the coordinates."""


class FinalReceipt(Receipt):
    """Written when a recording is complete: what follows from all shards together."""

    fingerprint: str
    objects: tuple[StoredObject | EarlierObject, ...]


class CheckpointReceipt(Receipt):
    """One saved state of a model, or the untrained model."""

    model: str
    checkpoint: str
    path: Path | None
    """The weights' file; None for weights that are made and not read."""
    made: bool
    """False where it was there already."""
    series: str | None = None
    """The series of checkpoints that it belongs to; None where it stands alone."""
    step: int | None = None
    """Optimiser steps before it, or what else its file's name counts."""
    draws: int = 0
    """How many untrained networks it stands for; 0 for one network."""
    notices: tuple[str, ...] = ()
    """What the user should know: other checkpoints of its training that are lost."""


class RecordingReceipt(Receipt):
    """One complete recording."""

    recording: str
    path: str
    """Address of its store."""
    images: int
    units: int
    layers: int
    made: bool
    """False where it was there already."""
    invalid: tuple[str, ...] = ()
    """Ids of the images that could not be decoded."""
    resumed_shards: int = 0
    """Shards that an earlier, interrupted run had stored."""
    shards_left: int = 0
    """Shards that are still to be made, by other parts; 0 where the recording is complete."""
    notices: tuple[str, ...] = ()
    """What the user should know: the engine, conversions, smaller batches, repairs."""
    seconds: float = 0.0


class FailedCheckpoint(Receipt):
    """A checkpoint of a series that could not be recorded."""

    path: Path
    series: str
    step: int
    reason: str


class SeriesReceipt(Receipt):
    """The recordings of the checkpoints of one or more series, in the order of their steps."""

    checkpoints: tuple[CheckpointReceipt, ...]
    """Those that were recorded."""
    recordings: tuple[RecordingReceipt, ...]
    """One of each."""
    failed: tuple[FailedCheckpoint, ...] = ()
    """Those that were left out because they cannot be loaded or recorded."""
    notices: tuple[str, ...] = ()
    """What the user should know."""

    @property
    def made(self) -> bool:
        """Whether any recording was made anew."""
        return any(each.made for each in self.recordings)

    @property
    def failure(self) -> str | None:
        """One line that names what failed, and why; None where nothing did."""
        if not self.failed:
            return None
        total = len(self.failed) + len(self.recordings)
        each = "; ".join(f"step {one.step} ({one.path.name}): {one.reason}" for one in self.failed)
        return f"{len(self.failed)} of {total} checkpoints could not be recorded: {each}"


class SetFile(Receipt):
    """One file of a set."""

    path: PlaceOfTable
    """Where it lies in the atlas: tables/units/recording=<id>/units.parquet."""
    size: int
    sha256: str


class SetReceipt(Receipt):
    """Tables and maps that one piece of work made together; written after all of its files."""

    inputs: str
    """Fingerprint of everything that they were made of."""
    command: str
    """What makes them anew, as it is typed."""
    files: tuple[SetFile, ...]


class Replacement(Receipt):
    """What takes the place of a set: written before the first of its files moves."""

    receipt: SetReceipt
    """Of the new set."""
    staged: tuple[PlaceStaged, ...]
    """Where each file of it waits, in the atlas."""
    removed: tuple[PlaceOfTable, ...]
    """Files of the old set that the new one has not."""


class TablesReceipt(Receipt):
    """The tables that one stage wrote for one recording."""

    recording: str
    files: tuple[Path, ...]
    made: bool
    """False where they were there already."""
    seconds: float = 0.0
    notices: tuple[str, ...] = ()
    """What the user should know."""


class ComparisonReceipt(TablesReceipt):
    """The tables of a comparison of recordings, and the page that shows them."""

    page: Path


class ReportReceipt(Receipt):
    """One report page."""

    path: Path
    recordings: tuple[str, ...]
    made: bool
    """False where an equal page was there already."""
    notices: tuple[str, ...] = ()
    """What the user should know."""
