"""Verify: recompute the checksum of everything that receipts and checksum files list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from activarium.schemas.errors import UserError
from activarium.schemas.layout import RECEIPTS
from activarium.schemas.receipts import ShardReceipt
from activarium.tasks.files import sha256_file
from activarium.tasks.parquet_files import checksum_file
from activarium.tasks.progress import silent
from activarium.tasks.recording_store import read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress


@dataclass(frozen=True)
class Fault:
    """One object that is not what its receipt says."""

    recording: str
    object: str
    problem: str


@dataclass(frozen=True)
class Verification:
    """What was looked at and what was wrong."""

    recordings: int
    objects: int
    faults: tuple[Fault, ...]


def verify(
    atlas: Atlas, recordings: Sequence[str], *, progress: Progress = silent
) -> Verification:
    """Check every stored chunk and table file of the recordings against its checksum."""
    faults: list[Fault] = []
    objects = 0
    with progress("verifying", len(recordings)) as advance:
        for name in recordings:
            for stored, problem in (*_shards(atlas, name), *_tables(atlas, name)):
                objects += 1
                if problem:
                    faults.append(Fault(name, stored, problem))
            advance(1)
    return Verification(len(recordings), objects, tuple(faults))


def _shards(atlas: Atlas, name: str) -> Iterator[tuple[str, str]]:
    """Yield (object, problem) of each stored object; an empty problem for a sound one."""
    path = atlas.recording(name)
    try:
        attributes = read_attributes(path)
    except UserError as error:
        yield "zarr.json", str(error)
        return
    covered = 0
    for file in sorted((path / RECEIPTS).glob("shard-*.json")):
        key = f"{RECEIPTS}/{file.name}"
        try:
            receipt = ShardReceipt.model_validate_json(file.read_bytes())
        except ValidationError:
            yield key, "the receipt cannot be read"
            continue
        covered += receipt.stop - receipt.start
        belongs = receipt.fingerprint == attributes["fingerprint"]
        yield key, "" if belongs else "the receipt belongs to another recording"
        for stored in receipt.objects:
            yield stored.key, _difference(path / stored.key, stored.size, stored.sha256)
    if attributes["status"] != "complete":
        yield "zarr.json", f"the recording is not complete: {covered} images have receipts"


def _difference(file: Path, size: int | None, sha256: str) -> str:
    if not file.is_file():
        return "missing"
    found = file.stat().st_size
    if size is not None and found != size:
        return f"expected {size} bytes, found {found}"
    return "" if sha256_file(file) == sha256 else "the content differs from its sha256"


def _tables(atlas: Atlas, name: str) -> Iterator[tuple[str, str]]:
    for file in sorted(atlas.tables.glob(f"*/recording={name}/*.parquet")):
        key = str(file.relative_to(atlas.root))
        listed = checksum_file(file)
        if listed.is_file():
            yield key, _difference(file, None, listed.read_text().split()[0])
        else:
            yield key, "its checksum file is missing"
