"""Sets are replaced as one: whoever is killed leaves the old set, or the new one once settled.

All files of the new set are written aside and flushed first. Then a note tells what is about to
move where; files are renamed; the receipt of the set is written; the note goes. A note that is left
behind says all that is needed to finish: whoever looks at tables next does so.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import Replacement, SetFile, SetReceipt
from activarium.tasks.stores.checksum_files import checksum_file
from activarium.tasks.stores.files import (
    TEMPORARY_SUFFIX,
    aside,
    sha256_file,
    sweep,
    sync_file,
    temporary_name,
    write_bytes,
)
from activarium.tasks.stores.receipt_files import DamagedReceiptError, sealed, unsealed
from activarium.tasks.stores.table_sets import TableSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from activarium.schemas.atlas import Atlas

WAIT_SECONDS = 60.0
"""How long one waits for another process that moves files; that takes a moment."""

READ_SECONDS = 5.0
"""How long one waits for it where nothing can be locked."""

KILLED = "they were being replaced when a run was killed"
"""What a note that is left behind tells."""


@dataclass
class StagedSet:
    """The files of a new set, as they are being written."""

    folder: Path
    files: dict[Path, Path] = field(default_factory=dict)
    """Where each file waits, by where it goes."""

    def path(self, destination: Path) -> Path:
        """Return where to write a file that goes to `destination`."""
        # Short: the name of a table may be as long as names can be.
        staged = self.folder / f"{len(self.files):05d}{destination.suffix}"
        return self.files.setdefault(destination, staged)


@contextmanager
def replacing_set(
    found: TableSet, *, inputs: str, command: str, others: Iterable[Path] = ()
) -> Iterator[StagedSet]:
    """Give where to write the files of a set; at the end all take their places as one.

    Parameters
    ----------
    found
        The set.
    inputs
        Fingerprint of everything that it is made of.
    command
        What makes it anew, as it is typed.
    others
        Files that do not belong to the set any more, listed in its receipt or not.

    Raises
    ------
    UserError
        If the disk is full or a folder cannot be written; the old set is then whole.
    """
    atlas = found.atlas
    folder = atlas.staged / temporary_name("set")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staged = StagedSet(folder)
        yield staged
        files = tuple(_listed(found, *each) for each in staged.files.items())
        sync_file(folder)
        with moving(atlas):
            note = Replacement(
                receipt=SetReceipt(inputs=inputs, command=command, files=files),
                staged=tuple(found.inside(path) for path in staged.files.values()),
                removed=tuple(sorted(_before(found, others) - {each.path for each in files})),
            )
            write_bytes(found.replacement_file, sealed(note))
            _move(found, note)
    except OSError as error:
        raise UserError(
            f"cannot write the tables of {found.name} in {atlas.root}: {error.strerror or error}"
        ) from error
    finally:
        if not found.is_being_replaced:
            shutil.rmtree(folder, ignore_errors=True)


def _listed(found: TableSet, destination: Path, staged: Path) -> SetFile:
    """Return what the receipt notes of a file, which is flushed to the disk."""
    sync_file(staged)
    size, sha256 = staged.stat().st_size, sha256_file(staged)
    return SetFile(path=found.inside(destination), size=size, sha256=sha256)


def _before(found: TableSet, others: Iterable[Path]) -> set[str]:
    """Return the files that are there of the set, of one that was being replaced too."""
    known = {found.inside(each) for each in others if each.exists()}
    if found.is_being_replaced:
        with suppress(DamagedReceiptError, OSError):
            known |= {each.path for each in _read(found).receipt.files}
    with suppress(DamagedReceiptError):
        receipt = replace(found).receipt  # as it is now
        known |= {each.path for each in receipt.files} if receipt else set()
    return known


def _move(found: TableSet, note: Replacement) -> None:
    """Put the files of a note in their places; what is there already stays: it can be repeated."""
    root = found.atlas.root
    folders = set()
    for file, staged in zip(note.receipt.files, note.staged, strict=True):
        destination = root / file.path
        destination.parent.mkdir(parents=True, exist_ok=True)
        if (root / staged).exists():
            _rename(root / staged, destination)
        line = f"{file.sha256}  {destination.name}\n".encode()
        write_bytes(checksum_file(destination), line, settle=False)
        folders |= {destination.parent, checksum_file(destination).parent}
    for gone in note.removed:
        for each in (root / gone, checksum_file(root / gone)):
            each.unlink(missing_ok=True)
    for folder in folders:
        sync_file(folder)
    write_bytes(found.receipt_file, sealed(note.receipt))
    noted = found.replacement_file
    noted.unlink(missing_ok=True)
    sync_file(noted.parent)
    for path in {(root / each).parent for each in note.staged}:
        shutil.rmtree(path, ignore_errors=True)
    _remove_empty(noted.parent)
    for folder in {*folders, found.receipt_file.parent}:
        sweep(list(folder.glob(f".*{TEMPORARY_SUFFIX}")))


def _rename(staged: Path, destination: Path) -> None:
    try:
        staged.replace(destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A folder of the atlas may lie on another disk.
        with aside(destination) as copied:
            shutil.copyfile(staged, copied)
            sync_file(copied)
            copied.replace(destination)
        staged.unlink()


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def moving(atlas: Atlas) -> Iterator[None]:
    """Keep others from moving files of tables meanwhile.

    Raises
    ------
    UserError
        If another process does not end.
    OSError
        If the atlas cannot be written.
    """
    path = atlas.lock("tables")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise UserError(
                        f"another process has been moving tables in {atlas.root} for "
                        f"{WAIT_SECONDS:.0f} s; wait for it to end"
                    ) from error
                time.sleep(0.01)
        yield


def settle_tables(atlas: Atlas) -> dict[str, str]:
    """Finish what killed processes left half done among the tables, and delete their litter.

    Returns
    -------
    What cannot be finished: the problem by its owner, `recording=<id>` or `series=<name>`.

    Raises
    ------
    UserError
        If a process is moving files and does not end.
    """
    # What waits behind a link is not this atlas' own: nothing of it is moved or deleted.
    if atlas.staged.is_symlink() or not any(atlas.staged.glob("*")):
        return {}
    try:
        with moving(atlas):
            # Nobody moves files now: whoever left a note is dead.
            problems = {each.owner: problem for each in _notes(atlas) if (problem := _finish(each))}
            sweep(_left(atlas))
            for folder in atlas.staged.glob("*=*"):
                _remove_empty(folder)
            return problems
    except OSError as error:
        return _unfinished(atlas, error)


def _unfinished(atlas: Atlas, error: OSError) -> dict[str, str]:
    """Return what is left to finish where this process may not write."""
    end = time.monotonic() + READ_SECONDS
    while _notes(atlas) and time.monotonic() < end:
        time.sleep(0.05)
    problem = (
        f"{KILLED}, and that cannot be finished here ({error.strerror or error}): run `activarium "
        "list` as one who may write there"
    )
    return {each.owner: problem for each in _notes(atlas)}


def _notes(atlas: Atlas) -> list[TableSet]:
    """Return the sets that are being replaced."""
    return [
        TableSet(atlas, path.parent.name, path.stem)
        for path in sorted(atlas.staged.glob("*=*/*.json"))
    ]


def _left(atlas: Atlas) -> list[Path]:
    """Return folders of new sets, and notes, that are being written, or were when a process died."""
    noted = set()
    for each in _notes(atlas):
        with suppress(DamagedReceiptError, OSError):
            noted |= {Path(path).parent.name for path in _read(each).staged}
    found = [
        *atlas.staged.glob(f"*{TEMPORARY_SUFFIX}"),
        *atlas.staged.glob(f"*=*/*{TEMPORARY_SUFFIX}"),
    ]
    return [path for path in found if path.name not in noted]


def _read(found: TableSet) -> Replacement:
    return unsealed(Replacement, found.replacement_file.read_bytes())


def _link(root: Path, note: Replacement) -> Path | None:
    """Return a folder that is a link, of those that a note would change: it may lead anywhere.

    The atlas' own folders of tables, maps and checksums may lie on another disk.
    """
    named = {root / each.path for each in note.receipt.files} | {
        root / each for each in note.removed
    }
    changed = (
        named | {checksum_file(each) for each in named} | {root / each for each in note.staged}
    )
    folders = {part for each in changed for part in each.parents if root in part.parent.parents}
    return next((folder for folder in sorted(folders) if folder.is_symlink()), None)


def _finish(found: TableSet) -> str:
    """Finish one replacement; return why it cannot be."""
    again = f"run `{found.command}` again"
    root = found.atlas.root
    try:
        note = _read(found)
        link = _link(root, note)
        if link is not None:
            return f"{KILLED}, and {link} is a link, which is not followed here: {again}"
        for file, staged in zip(note.receipt.files, note.staged, strict=True):
            there = root / (staged if (root / staged).exists() else file.path)
            if not there.is_file() or sha256_file(there) != file.sha256:
                return f"{KILLED}, and {there} is not what it wrote: {again}"
        _move(found, note)
    except DamagedReceiptError as error:
        return f"{KILLED}, and its note is damaged ({error}): {again}"
    except (OSError, UserError) as error:
        return f"{KILLED}, and that cannot be finished ({error})"
    return ""
