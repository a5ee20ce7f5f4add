"""Verify: recompute the checksum of everything that receipts and checksum files list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from activarium.schemas.atlas import recording_of
from activarium.schemas.errors import UserError
from activarium.tasks.progress import silent
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.receipt_files import DamagedReceiptError
from activarium.tasks.stores.set_replacing import settle_tables
from activarium.tasks.stores.store_check import Finding, check_store
from activarium.tasks.stores.table_check import is_older, table_findings
from activarium.tasks.stores.table_sets import RECORDING, series_sets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress


@dataclass(frozen=True)
class Fault:
    """One object that is not what its receipt or checksum file says."""

    recording: str
    object: str
    """Key in the recording, or path of a table or map in the atlas."""
    problem: str
    shard: int | None = None
    """The shard that wrote it; None for what shards do not write."""
    first_byte: int | None = None
    """Where the first block begins that differs, where that is known."""
    last_byte: int | None = None

    @property
    def where(self) -> str:
        """The object, with its shard and the bytes that differ."""
        shard = [] if self.shard is None else [f"shard {self.shard}"]
        known = self.first_byte is not None
        span = [f"bytes {self.first_byte}-{self.last_byte}"] if known else []
        return ", ".join([*shard, self.object, *span])


@dataclass(frozen=True)
class Verification:
    """What was looked at and what was wrong."""

    recordings: int
    objects: int
    faults: tuple[Fault, ...]
    tables_only: tuple[str, ...]
    """Recordings that are gone, whose tables are still there."""
    older_tables: tuple[str, ...] = ()
    """Recordings and selections whose tables are of an earlier version, which checks them less."""


def names_to_verify(atlas: Atlas, prefixes: Sequence[str] = ()) -> list[str]:
    """Return the recordings that begin with any of the prefixes; without prefixes all.

    Recordings of which only tables are left count too.

    Raises
    ------
    UserError
        If there are none, or a prefix fits none.
    """
    names = sorted({*recording_names(atlas), *_names_in_tables(atlas)})
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
        *atlas.sets.glob("recording=*/*.json"),
    }
    return {file.parent.name.removeprefix("recording=") for file in files}


def verify(atlas: Atlas, recordings: Sequence[str], *, progress: Progress = silent) -> Verification:
    """Check every stored object, table and map of the recordings against its checksum.

    Every faulty object is reported, in the order of the recordings, shards and keys.
    """
    faults = [
        Fault(owner.partition("=")[2], "tables", problem)
        for owner, problem in settle_tables(atlas).items()
    ]
    objects = 0
    there = set(recording_names(atlas))
    lost = _names_in_tables(atlas) - there
    # Of a selection there are only tables.
    tables_only = tuple(n for n in recordings if n in lost and recording_of(n) not in there)
    with progress("verifying", len(recordings)) as advance:
        for name in recordings:
            found = () if name in lost else check_store(place_at(atlas.recording(name)))
            files = [Finding(key, problem) for key, problem in table_findings(atlas, name)]
            objects += len(found) + len(files)
            faults += [
                Fault(name, each.object, each.problem, each.shard, each.first_byte, each.last_byte)
                for each in (*found, *files)
                if each.problem
            ]
            advance(1)
    of_series = [*_series(atlas, recordings)]
    objects += len(of_series)
    faults += [Fault(name, each.object, each.problem) for name, each in of_series if each.problem]
    checked = {recording_of(name) for name in recordings}
    older = tuple(name for name in recordings if is_older(atlas, name))
    return Verification(len(checked), objects, tuple(faults), tables_only, older)


def _series(atlas: Atlas, names: Sequence[str]) -> Iterator[tuple[str, Finding]]:
    """Yield (series, finding) of the receipt of each series that has files of the recordings."""
    folders = {f"{RECORDING}{name}" for name in names}
    for found in series_sets(atlas):
        key = found.inside(found.receipt_file)
        try:
            receipt = found.receipt
        except DamagedReceiptError as error:
            yield found.name, Finding(key, str(error))
            continue
        if receipt and folders & {PurePosixPath(each.path).parent.name for each in receipt.files}:
            yield found.name, Finding(key)
