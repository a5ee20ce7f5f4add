"""Verify: recompute the checksum of everything in an atlas, and name what has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from activarium.schemas.atlas import MODELS, REPORTS, recording_of
from activarium.schemas.errors import UserError
from activarium.tasks.progress import silent
from activarium.tasks.stores.atlas_files import check_models, check_reports, unknown_files
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.receipt_files import DamagedReceiptError
from activarium.tasks.stores.set_replacing import settle_tables
from activarium.tasks.stores.store_check import Finding, check_store
from activarium.tasks.stores.table_check import table_findings
from activarium.tasks.stores.table_sets import (
    RECORDING,
    SERIES,
    TableSet,
    series_sets,
    set_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.places import Place

_LOOKS = 3
"""How often a recording is looked at at most in which something seems wrong."""


@dataclass(frozen=True)
class Fault:
    """One object that is not what its receipt or checksum file says."""

    recording: str
    """The recording; empty for a model or a page."""
    object: str
    """Key in the recording, or path of another file in the atlas."""
    problem: str
    shard: int | None = None
    """The shard that wrote it; None for what shards do not write."""
    first_byte: int | None = None
    """Where the first block begins that differs, where that is known."""
    last_byte: int | None = None
    remedy: str = ""
    """What makes it anew."""

    @property
    def where(self) -> str:
        """The object, with its shard and the bytes that differ."""
        shard = [] if self.shard is None else [f"shard {self.shard}"]
        known = self.first_byte is not None
        span = [f"bytes {self.first_byte}-{self.last_byte}"] if known else []
        return ", ".join([*shard, self.object, *span])


@dataclass(frozen=True)
class Unfinished:
    """Something that was begun and is not finished, in which nothing is wrong."""

    name: str
    """A recording, or the folder of a training in the atlas."""
    problem: str


@dataclass(frozen=True)
class Verification:
    """What was looked at and what was wrong."""

    recordings: int
    objects: int
    faults: tuple[Fault, ...]
    unfinished: tuple[Unfinished, ...]
    tables_only: tuple[str, ...]
    """Recordings that are gone, whose tables are still there."""
    checked_less: tuple[str, ...] = ()
    """Recordings, models and pages of earlier versions, whose checksums say less or are not there."""
    unknown: tuple[str, ...] = ()
    """Files in the atlas that no checksum covers."""


def names_to_verify(atlas: Atlas, prefixes: Sequence[str] = ()) -> list[str]:
    """Return the recordings that begin with any of the prefixes; without prefixes all.

    Recordings of which only tables are left count too.

    Raises
    ------
    UserError
        If there is nothing to verify, a prefix fits none, or the address that the recordings were
        said to be at holds none.
    """
    there = recording_names(atlas)
    if not there and atlas.recordings_at is not None:
        raise UserError(f"no recordings in {atlas.recordings}: is the address right?")
    names = sorted({*there, *_names_in_tables(atlas)})
    others = [] if prefixes else [atlas.models, atlas.reports, atlas.checksums]
    if not names and not any(next(each.rglob("*.*"), None) for each in others if each.is_dir()):
        raise UserError(f"no recordings in {atlas.recordings}: is --root the atlas folder?")
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise UserError(f"no recording begins with {prefix!r} in {atlas.recordings}")
    return [name for name in names if not prefixes or name.startswith(tuple(prefixes))]


def _names_in_tables(atlas: Atlas) -> set[str]:
    files = {
        *atlas.tables.glob("*/recording=*/*.parquet"),
        *atlas.maps.glob("recording=*/*.npz"),
        *atlas.checksums.glob("*/recording=*/*.sha256"),
        *atlas.sets.glob("recording=*/*.json"),
    }
    return {file.parent.name.removeprefix("recording=") for file in files}


def verify(
    atlas: Atlas,
    recordings: Sequence[str],
    *,
    others: bool = False,
    progress: Progress = silent,
) -> Verification:
    """Check every stored object, table and map of the recordings against its checksum.

    Parameters
    ----------
    atlas
        The atlas.
    recordings
        Names of recordings, or of those of which only tables are left.
    others
        Look at every other file of the atlas too: models, pages, and what does not belong there.
        `recordings` are then all there are.
    progress
        Shows how far it is.

    Returns
    -------
    Verification
        Every faulty object, in the order of the recordings, shards and keys.
    """
    unsettled = settle_tables(atlas)
    there = set(recording_names(atlas))
    lost = _names_in_tables(atlas) - there
    # Of a selection there are only tables.
    tables_only = tuple(n for n in recordings if n in lost and recording_of(n) not in there)
    found: list[tuple[str, Finding]] = []
    inside: list[Finding] = []
    with progress("verifying", len(recordings) + others) as advance:
        for name in recordings:
            store = () if name in lost else _settled(place_at(atlas.recording(name)))
            files = table_findings(atlas, name)
            found += [(name, each) for each in (*store, *files)]
            advance(1)
        found += [
            *_unsettled(unsettled, None if others else recordings),
            *_series(atlas, recordings),
        ]
        if others:
            inside = [*check_models(atlas), *check_reports(atlas)]
            advance(1)
    unknown: tuple[str, ...] = ()
    if others:
        found += [("", each) for each in inside]
        known = {atlas.root / each.object for name, each in found if not name or _is_file(each)}
        unknown = tuple(unknown_files(atlas, known))
    return Verification(
        recordings=len({recording_of(name) for name in recordings}),
        objects=len(found),
        faults=tuple(_fault(atlas, name, each) for name, each in found if each.problem),
        unfinished=tuple(
            Unfinished(name or each.object, each.unfinished)
            for name, each in found
            if each.unfinished
        ),
        tables_only=tables_only,
        checked_less=tuple(
            dict.fromkeys(name or each.object for name, each in found if each.is_checked_less)
        ),
        unknown=unknown,
    )


def _is_file(finding: Finding) -> bool:
    """Return whether a finding is of a table or map, and not of an object of a recording."""
    return finding.object.endswith((".parquet", ".npz"))


def _settled(place: Place) -> tuple[Finding, ...]:
    """Return what is found in a recording twice: one that is being written changes in between."""
    found = check_store(place)
    for _ in range(_LOOKS):
        wrong = {(each.object, each.problem) for each in found if each.problem}
        if not wrong:
            break
        found = check_store(place)
        if {(each.object, each.problem) for each in found if each.problem} == wrong:
            break
    return found


def _fault(atlas: Atlas, name: str, finding: Finding) -> Fault:
    remedy = _remedy(atlas, name, finding.object)
    return Fault(
        name,
        finding.object,
        finding.problem,
        finding.shard,
        finding.first_byte,
        finding.last_byte,
        remedy,
    )


def _remedy(atlas: Atlas, name: str, key: str) -> str:
    """Return what makes an object anew."""
    top = key.partition("/")[0]
    if name:
        found: TableSet | None
        if top == "checksums":
            found = TableSet(atlas, *key.removesuffix(".json").split("/")[-2:])
        elif top in ("tables", "maps"):
            found = set_of(atlas.root / key)
        else:
            return "`activarium record CONFIG --repair` makes it anew"
        return "" if found is None else f"`{found.command}` makes it anew"
    if top == MODELS:
        folder = "/".join(key.split("/")[:2])
        return f"put a copy of it back, or delete {folder} and `activarium train CONFIG` again"
    return "`activarium report` or `compare` makes it anew" if top == REPORTS else ""


def _unsettled(
    problems: Mapping[str, str], names: Sequence[str] | None
) -> Iterator[tuple[str, Finding]]:
    """Yield (name, finding) of each set that was being replaced and cannot be finished.

    Without names, of all: of one that has neither recording nor tables too.
    """
    for owner, problem in problems.items():
        name = owner.partition("=")[2]
        if names is None or name in names or owner.startswith(SERIES):
            yield name, Finding(f"tables/.staged/{owner}", problem)


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
