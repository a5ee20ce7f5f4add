"""Check of what lies in an atlas beside recordings, tables and maps: models, pages, other files."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from activarium.schemas.atlas import MODELS, REPORTS, TRAINING_LOG, TRAINING_STATE
from activarium.tasks.stores.checksum_files import (
    HAS_CHECKSUM,
    checksum_file,
    content_problem,
)
from activarium.tasks.stores.files import TEMPORARY_SUFFIX
from activarium.tasks.stores.store_check import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from activarium.schemas.atlas import Atlas

UNCOVERED = "no checksum covers it"

_LOOKS, _PAUSE_SECONDS = 4, 0.1
"""How often a file that seems damaged is looked at, and how long in between: one that is being
replaced has no checksum, or another's, for a moment."""

_NOT_LOOKED_AT = ("datasets", "work", "checksums/sets")
"""Folders of what was downloaded, of what is half done, and of receipts that are checked with their
tables."""


def check_models(atlas: Atlas) -> Iterator[Finding]:
    """Yield one finding per file of the trainings, and one per training that is not finished."""
    checksums = atlas.checksums / MODELS
    folders = {path.name for top in (atlas.models, checksums) for path in _folders(top)}
    for name in sorted(folders):
        yield from _check_training(atlas, atlas.models / name)


def _folders(top: Path) -> list[Path]:
    found = top.iterdir() if top.is_dir() else ()
    return [path for path in found if path.is_dir() and not _is_hidden(path)]


def _check_training(atlas: Atlas, folder: Path) -> Iterator[Finding]:
    listed = _listed(atlas, folder)
    unfinished, has_checksums = _told_by_log(folder)
    has_checksums = has_checksums or any(listed)
    for file in sorted({*_files(folder), *listed}):
        if file in listed:
            problem = _settled(content_problem, file)
        elif file.suffix not in (".safetensors", ".json"):
            continue
        else:
            problem = UNCOVERED if has_checksums and not unfinished else _cut_off(file)
        is_less = file not in listed and not problem and not unfinished
        yield Finding(_key(atlas, file), problem, is_checked_less=is_less)
    if unfinished:
        yield Finding(_key(atlas, folder), unfinished=unfinished)


def _listed(atlas: Atlas, folder: Path) -> set[Path]:
    """Return the files of a folder that have a checksum, there or not."""
    checksums = atlas.checksums / folder.relative_to(atlas.root)
    return {folder / path.stem for path in checksums.glob("*.sha256")}


def _told_by_log(folder: Path) -> tuple[str, bool]:
    """Return what is still to be done in a training, and whether its files have checksums."""
    again = "run the same `activarium train` again"
    try:
        log = json.loads((folder / TRAINING_LOG).read_bytes())
        done, epochs = len(log["epochs"]), int(log["config"]["epochs"])
        has_checksums = bool(log.get("has_checksums"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_resumed = (folder / TRAINING_STATE).exists()
        return f"the training is not finished: {again}" if is_resumed else "", False
    if done < epochs or (folder / TRAINING_STATE).exists():
        told = f"the training is not finished, {done} of {epochs} epochs are done: {again}"
        return told, has_checksums
    return "", has_checksums


def _settled(problem_of: Callable[[Path], str], file: Path) -> str:
    """Return what is wrong with a file, also when it is looked at again."""
    problem = problem_of(file)
    for _ in range(_LOOKS):
        if not problem:
            break
        time.sleep(_PAUSE_SECONDS)
        if not file.exists() and not checksum_file(file).exists():
            return ""  # Both are gone: it was not needed any more.
        problem = problem_of(file)
    return problem


def _cut_off(file: Path) -> str:
    """Return what can be told of a file without a checksum: whether it can be read at all."""
    try:
        if file.suffix == ".json":
            json.loads(file.read_bytes())
            return ""
        content = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            head = dict(json.loads(stream.read(min(length, content))))
        tensors = [each for name, each in head.items() if name != "__metadata__"]
        ends = [each["data_offsets"][1] for each in tensors]
        whole = 8 + length + max(ends, default=0)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "cannot be read"
    return "" if content == whole else f"expected {whole} bytes, found {content}"


def check_reports(atlas: Atlas) -> Iterator[Finding]:
    """Yield one finding per page."""
    pages = {file for file in _files(atlas.reports) if file.suffix == ".html"}
    listed = {atlas.reports / path.stem for path in (atlas.checksums / REPORTS).glob("*.sha256")}
    for page in sorted(pages | listed):
        lacks = _settled(_lacks_checksum, page)
        if lacks:
            has_none = (page.read_bytes() if page.exists() else b"").endswith(HAS_CHECKSUM)
            yield Finding(
                _key(atlas, page),
                unfinished=lacks if has_none else "",
                is_checked_less=not has_none,
            )
        else:
            yield Finding(_key(atlas, page), _settled(content_problem, page))


def _lacks_checksum(page: Path) -> str:
    """Return what can be said of a page without a checksum; empty where it has one."""
    is_lacking = page.exists() and not checksum_file(page).exists()
    return (
        "its writing was stopped, or its checksum is lost: run the same `activarium report` or "
        "`compare` again"
        if is_lacking
        else ""
    )


def unknown_files(atlas: Atlas, known: set[Path]) -> Iterator[str]:
    """Yield the files of an atlas that no check has looked at, but for those of other programs.

    Parameters
    ----------
    atlas
        The atlas.
    known
        Files that were looked at; their checksums are known too.
    """
    known = known | {checksum_file(file) for file in known}
    for file in _walk(atlas, atlas.root):
        if file not in known and not _is_lock(file):
            yield _key(atlas, file)


def _walk(atlas: Atlas, folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that belong to the atlas, but for those of recordings."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        inside = path.relative_to(atlas.root)
        is_recording = inside.match("recordings/*.zarr") and path.is_dir()
        if _is_hidden(path) or is_recording or inside.as_posix() in _NOT_LOOKED_AT:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(atlas, path)
        else:
            yield path


def _is_lock(file: Path) -> bool:
    return file.suffix == ".lock" and file.parent.name == MODELS and file.stat().st_size == 0


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(TEMPORARY_SUFFIX)


def _files(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if path.is_file() and not _is_hidden(path)]


def _key(atlas: Atlas, path: Path) -> str:
    return path.relative_to(atlas.root).as_posix()
