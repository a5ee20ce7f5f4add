"""sha256 of the files of an atlas: written after each file, in a folder of their own."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from activarium.schemas.atlas import MAPS, MODELS, REPORTS
from activarium.schemas.errors import UserError
from activarium.tasks.stores.files import replacing, sha256_file, write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HAS_CHECKSUM = b"<!-- its sha256 lies in checksums/reports -->\n"
"""Last line of a page, by which one whose checksum is lost is told from one of earlier versions."""

DIFFERS = "the content differs from its sha256"


def checksum_file(path: Path) -> Path:
    """Return the path of the checksum of a file of an atlas.

    `<atlas>/tables/<table>/<partition>/<file>` has its checksum at
    `<atlas>/checksums/<table>/<partition>/<file>.sha256`, a file of any other folder, such as
    `<atlas>/models/<training>/<file>`, at `<atlas>/checksums/models/<training>/<file>.sha256`:
    polars reads a folder only where nothing but Parquet lies in it.
    """
    name = f"{path.name}.sha256"
    if path.parent.name == REPORTS:
        return path.parent.parent / "checksums" / REPORTS / name
    kind = path.parent.parent
    root = kind.parent if kind.name in (MAPS, MODELS) else kind.parent.parent
    return root / "checksums" / kind.name / path.parent.name / name


def checksum_line(content: Path | bytes, name: str) -> bytes:
    """Return what the checksum file says of a file, as `sha256sum --check` reads it."""
    if isinstance(content, bytes):
        digest = hashlib.sha256(content).hexdigest()
    else:
        digest = sha256_file(content)
    return f"{digest}  {name}\n".encode()


@contextmanager
def replacing_checked(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end it takes the place of `path`, with its sha256.

    The old checksum goes first: whoever is stopped between the two files leaves a file that is
    made again, never one that seems damaged.

    Raises
    ------
    UserError
        If the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        yield temporary
        line = checksum_line(temporary, path.name)
        checksum_file(path).unlink(missing_ok=True)
    write_bytes(checksum_file(path), line)


def write_checked(path: Path, content: bytes) -> None:
    """Write a whole file at once, and its sha256 as `replacing_checked` does.

    Raises
    ------
    UserError
        If the disk is full or the folder cannot be written.
    """
    line = checksum_line(content, path.name)
    checksum_file(path).unlink(missing_ok=True)
    write_bytes(path, content)
    write_bytes(checksum_file(path), line)


def remove_checked(path: Path) -> None:
    """Delete a file and its checksum, if they are there."""
    checksum_file(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Return whether a file and its checksum are there."""
    return path.exists() and checksum_file(path).exists()


def content_problem(path: Path) -> str:
    """Return what is wrong with a file that has a checksum; empty where nothing is."""
    try:
        same = checksum_file(path).read_bytes() == checksum_line(path, path.name)
    except FileNotFoundError:
        return "missing" if not path.exists() else ""
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "" if same else DIFFERS


def is_model_of_atlas(path: Path) -> bool:
    """Return whether a file lies where the trainings of an atlas do, so that it has a checksum."""
    return path.absolute().parent.parent.name == MODELS


def refuse_damaged_model(path: Path) -> None:
    """Refuse a file of an atlas' training whose content is not what the training wrote.

    Parameters
    ----------
    path
        A file of weights; those outside an atlas, and those that earlier versions wrote, have no
        checksum and are not looked at.

    Raises
    ------
    UserError
        If its content differs from its sha256.
    """
    path = path.absolute()
    if is_model_of_atlas(path) and checksum_file(path).is_file():
        problem = content_problem(path)
        if problem:
            raise UserError(
                f"{path} is damaged ({problem}): put a copy of it back, or delete {path.parent} "
                "and run `activarium train` again"
            )
