"""Verify: recompute the checksum of everything that receipts and checksum files list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from activarium.schemas.atlas import recording_of
from activarium.schemas.errors import UserError
from activarium.tasks.progress import silent
from activarium.tasks.stores.parquet_files import checksum_file, checksum_line
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.store_check import Finding, check_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress


@dataclass(frozen=True)
class Fault:
    """One object that is not what its receipt or checksum file says."""

    recording: str
    object: str
    """Key in the recording, or path of a table in the atlas."""
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
    }
    return {file.parent.name.removeprefix("recording=") for file in files}


def verify(atlas: Atlas, recordings: Sequence[str], *, progress: Progress = silent) -> Verification:
    """Check every stored object and table file of the recordings against its checksum.

    Every faulty object is reported, in the order of the recordings, shards and keys.
    """
    faults: list[Fault] = []
    objects = 0
    there = set(recording_names(atlas))
    lost = _names_in_tables(atlas) - there
    # Of a selection there are only tables.
    tables_only = tuple(n for n in recordings if n in lost and recording_of(n) not in there)
    with progress("verifying", len(recordings)) as advance:
        for name in recordings:
            found = () if name in lost else check_store(place_at(atlas.recording(name)))
            tables = [Finding(key, problem) for key, problem in _tables(atlas, name)]
            objects += len(found) + len(tables)
            faults += [
                Fault(name, each.object, each.problem, each.shard, each.first_byte, each.last_byte)
                for each in (*found, *tables)
                if each.problem
            ]
            advance(1)
    checked = {recording_of(name) for name in recordings}
    return Verification(len(checked), objects, tuple(faults), tables_only)


def _tables(atlas: Atlas, name: str) -> Iterator[tuple[str, str]]:
    """Yield (file, problem) of each table file; an empty problem for a sound one."""
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
