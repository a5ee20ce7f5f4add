"""Check of the tables and maps of one recording: every file against receipts and checksums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activarium.schemas.columns import IN_SET_KEY
from activarium.tasks.stores.checksum_files import checksum_file
from activarium.tasks.stores.receipt_files import DamagedReceiptError
from activarium.tasks.stores.set_replacing import moving
from activarium.tasks.stores.store_check import Finding
from activarium.tasks.stores.table_sets import (
    RECORDING,
    TableSet,
    checksum_beside,
    file_problem,
    footer_metadata,
    set_of,
    sets_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from activarium.schemas.atlas import Atlas


def table_findings(atlas: Atlas, name: str) -> list[Finding]:
    """Return one finding per table, map and receipt of a set of a recording or selection.

    What seems wrong is looked at once more while nobody may move files: it may have been replaced
    while it was read.
    """
    found = _look(atlas, name, None)
    wrong = {file for file, problem in found.items() if problem}
    if wrong:
        try:
            with moving(atlas):
                again = _look(atlas, name, wrong)
        except OSError:  # nothing can be written here
            again = _look(atlas, name, wrong)
        found = {file: problem for file, problem in found.items() if file not in wrong} | again
    return [
        Finding(
            file.relative_to(atlas.root).as_posix(), found[file], is_checked_less=_is_older(file)
        )
        for file in sorted(found)
    ]


def _look(atlas: Atlas, name: str, only: set[Path] | None) -> dict[Path, str]:
    """Return the problem of each file, or of some, as they are now."""
    found: dict[Path, str] = {}
    sets = {(each.owner, each.part): each for each in sets_of(atlas, name)}
    for each in sets.values():
        found |= _receipt_problem(each)
    for file in sorted(_files(atlas, name, sets.values())):
        if only is None or file in only:
            own = set_of(file)
            known = own if own is None else sets.get((own.owner, own.part), own)
            found[file] = _problem(known, file)
    for each in sets.values():
        told = each.problem()
        if told and not any(found.values()):
            path, _, problem = told.partition(": ")
            found[atlas.root / path] = problem
    return found if only is None else {file: found[file] for file in only & found.keys()}


def _receipt_problem(found: TableSet) -> dict[Path, str]:
    try:
        return {} if found.receipt is None else {found.receipt_file: ""}
    except DamagedReceiptError as error:
        return {found.receipt_file: str(error)}


def _files(atlas: Atlas, name: str, sets: Iterable[TableSet]) -> set[Path]:
    """Return the files that are there, or that a checksum or a receipt tells of."""
    folder = f"{RECORDING}{name}"
    found = {*atlas.tables.glob(f"*/{folder}/*.parquet"), *atlas.maps.glob(f"{folder}/*.npz")}
    # A checksum without its file tells of a file that is gone.
    found |= {_checked_by(atlas, file) for file in atlas.checksums.glob(f"*/{folder}/*.sha256")}
    for each in sets:
        try:
            receipt = each.receipt
        except DamagedReceiptError:
            continue
        found |= {atlas.root / file.path for file in receipt.files} if receipt else set()
    return found


def _checked_by(atlas: Atlas, checksum: Path) -> Path:
    """Return the file that a checksum belongs to."""
    inside = checksum.relative_to(atlas.checksums).with_suffix("")
    return (atlas.root if inside.parts[0] == atlas.maps.name else atlas.tables) / inside


def _problem(found: TableSet | None, file: Path) -> str:
    problem = file_problem(found, file)
    if problem:
        return problem
    if not checksum_file(file).is_file():
        return "its checksum file is missing"
    # The receipt of its set, which has a checksum of its own, says that the file is sound.
    is_noted = (
        checksum_file(file).read_bytes() == f"{checksum_beside(file)}  {file.name}\n".encode()
    )
    try:
        listed = found.listed(file) if found is not None else None
    except DamagedReceiptError:
        listed = None
    if not is_noted or (listed is not None and checksum_beside(file) != listed.sha256):
        return "its checksum file is damaged, its content is sound"
    return ""


def _is_older(file: Path) -> bool:
    """Return whether a table is of a version that wrote no receipts of sets."""
    metadata = footer_metadata(file) if file.suffix == ".parquet" else {}
    return bool(metadata) and IN_SET_KEY not in metadata
