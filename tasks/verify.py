"""Verify: recompute the checksum of everything that receipts and checksum files list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from activarium.schemas.errors import UserError
from activarium.schemas.layout import RECEIPTS, STORE_RECEIPT
from activarium.schemas.receipts import ShardReceipt, StoreReceipt
from activarium.tasks.files import sha256_file
from activarium.tasks.parquet_files import checksum_file, checksum_line
from activarium.tasks.progress import silent
from activarium.tasks.recording_store import read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
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
    tables_only: tuple[str, ...]
    """Recordings that are gone, whose tables are still there."""


def names_to_verify(atlas: Atlas, prefixes: Sequence[str] = ()) -> list[str]:
    """Return the recordings that begin with any of the prefixes; without prefixes all.

    Recordings of which only tables are left count too.

    Raises
    ------
    UserError
        If there are none, or a prefix fits none.
    """
    names = sorted({*atlas.recording_names(), *_names_in_tables(atlas)})
    if not names:
        raise UserError(f"no recordings in {atlas.recordings}: is --root the atlas folder?")
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise UserError(f"no recording begins with {prefix!r} in {atlas.recordings}")
    return [name for name in names if not prefixes or name.startswith(tuple(prefixes))]


def _names_in_tables(atlas: Atlas) -> set[str]:
    files = {
        *atlas.tables.glob("*/recording=*/*.parquet"),
        *atlas.checksums.glob("*/recording=*/*.sha256"),
    }
    return {file.parent.name.removeprefix("recording=") for file in files}


def verify(atlas: Atlas, recordings: Sequence[str], *, progress: Progress = silent) -> Verification:
    """Check every stored object and table file of the recordings against its checksum."""
    faults: list[Fault] = []
    objects = 0
    lost = _names_in_tables(atlas) - set(atlas.recording_names())
    tables_only = tuple(name for name in recordings if name in lost)
    with progress("verifying", len(recordings)) as advance:
        for name in recordings:
            store = () if name in lost else _store(atlas, name)
            found = _first_problems((*store, *_tables(atlas, name)))
            objects += len(found)
            faults += [Fault(name, key, problem) for key, problem in found.items() if problem]
            advance(1)
    return Verification(len(recordings), objects, tuple(faults), tables_only)


def _first_problems(findings: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first problem of each object; an object may be looked at in two ways."""
    first: dict[str, str] = {}
    for key, problem in findings:
        first[key] = first.get(key) or problem
    return first


def _store(atlas: Atlas, name: str) -> Iterator[tuple[str, str]]:
    """Yield (object, problem) of each stored object; an empty problem for a sound one."""
    path = atlas.recording(name)
    try:
        attributes = read_attributes(path)
    except UserError as error:
        yield "zarr.json", str(error)
        return
    if attributes["status"] == "complete":
        yield from _listed_beside_chunks(path)
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


def _listed_beside_chunks(path: Path) -> Iterator[tuple[str, str]]:
    file = path / STORE_RECEIPT
    if not file.is_file():
        yield STORE_RECEIPT, "missing"
        return
    try:
        receipt = StoreReceipt.model_validate_json(file.read_bytes())
    except ValidationError:
        yield STORE_RECEIPT, "the receipt cannot be read"
        return
    yield STORE_RECEIPT, ""
    for stored in receipt.objects:
        yield stored.key, _difference(path / stored.key, stored.size, stored.sha256)


def _difference(file: Path, size: int, sha256: str) -> str:
    if not file.is_file():
        return "missing"
    found = file.stat().st_size
    if found != size:
        return f"expected {size} bytes, found {found}"
    return "" if sha256_file(file) == sha256 else "the content differs from its sha256"


def _tables(atlas: Atlas, name: str) -> Iterator[tuple[str, str]]:
    # A checksum without its table tells of a table that is gone.
    listed = {
        atlas.tables / file.relative_to(atlas.checksums).with_suffix("")
        for file in atlas.checksums.glob(f"*/recording={name}/*.sha256")
    }
    found = set(atlas.tables.glob(f"*/recording={name}/*.parquet"))
    for table in sorted(found | listed):
        yield str(table.relative_to(atlas.root)), _table_problem(table)


def _table_problem(table: Path) -> str:
    if not table.is_file():
        return "missing"
    if not checksum_file(table).is_file():
        return "its checksum file is missing"
    same = checksum_file(table).read_bytes() == checksum_line(table, table.name)
    return "" if same else "the content differs from its sha256"
