"""sha256 of the files of an atlas: written after each file, in a folder of their own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from activarium.schemas.atlas import MAPS
from activarium.tasks.stores.files import replacing, sha256_file, write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def checksum_file(path: Path) -> Path:
    """Return the path of the checksum of a table or map file.

    `<atlas>/tables/<table>/<partition>/<file>` has its checksum at
    `<atlas>/checksums/<table>/<partition>/<file>.sha256`, `<atlas>/maps/<partition>/<file>` at
    `<atlas>/checksums/maps/...`: polars reads a folder only where nothing but Parquet lies in it.
    """
    kind = path.parent.parent
    root = kind.parent if kind.name == MAPS else kind.parent.parent
    return root / "checksums" / kind.name / path.parent.name / f"{path.name}.sha256"


def checksum_line(content: Path, name: str) -> bytes:
    """Return what the checksum file says of a file, as `sha256sum --check` reads it."""
    return f"{sha256_file(content)}  {name}\n".encode()


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


def is_whole(path: Path) -> bool:
    """Return whether a file and its checksum are there."""
    return path.exists() and checksum_file(path).exists()
