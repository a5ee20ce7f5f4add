"""Folders: places on a local or shared disk, one file per object."""

from __future__ import annotations

import glob
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from zarr.storage import LocalStore

from activarium.tasks.stores.files import (
    TEMPORARY_SUFFIX,
    aside,
    sweep,
    sweep_partial_files,
    sync_file,
    write_bytes,
    write_flushed,
)
from activarium.tasks.stores.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zarr.abc.store import Store

    from activarium.tasks.stores.files import Content


@dataclass(frozen=True)
class Folder(Place):
    """A local folder: one file per object."""

    path: Path
    threads: ClassVar[int] = max(4, min(16, os.cpu_count() or 1))
    appears_whole: ClassVar[bool] = True

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    def absolute(self) -> Folder:
        """Return the folder by its absolute path."""
        return Folder(self.path.absolute())

    def child(self, name: str) -> Folder:
        """Return a folder in this one."""
        return Folder(self.path / name)

    def read(self, key: str) -> bytes:
        """Return a file's content."""
        try:
            return (self.path / key).read_bytes()
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(f"{self.path / key}: {error.strerror}") from error

    def write(self, key: str, content: Content, *, settle: bool = True) -> None:
        """Write a file aside, flush it, rename it."""
        write_bytes(self.path / key, content, settle=settle)

    def settle(self, keys: Iterable[str]) -> None:
        """Flush the folders that the files are in."""
        folders = {folder for key in keys for folder in PurePosixPath(key).parents}
        for folder in folders:
            sync_file(self.path / folder)

    def create(self, key: str, content: bytes) -> bool:
        """Write a file aside, flush it, and link it to its name, which fails where it is taken."""
        path = self.path / key
        with aside(path) as temporary:
            write_flushed(temporary, content)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            sync_file(path.parent)
        return True

    def create_all(self, objects: Mapping[str, bytes], *, first: str, last: str) -> bool:
        """Make the whole folder aside and rename it, which fails where there is one."""
        del first, last  # All appear at once.
        if self.names():
            return False
        with aside(self.path) as temporary:
            for key, content in objects.items():
                (temporary / key).parent.mkdir(parents=True, exist_ok=True)
                write_flushed(temporary / key, content)
            Folder(temporary).settle(objects)
            try:
                temporary.rename(self.path)
            except OSError:
                if self.names():
                    return False
                raise
            sync_file(self.path.parent)
        return True

    def size(self, key: str) -> int | None:
        """Return a file's size."""
        file = self.path / key
        with suppress(FileNotFoundError):  # another process may delete it
            return file.stat().st_size if file.is_file() else None
        return None

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the size of each file whose path in this folder begins with the prefix."""
        top = self.path / prefix.rpartition("/")[0]
        found = {}
        for folder, _, names in os.walk(top):
            for file in (Path(folder, name) for name in names):
                key = file.relative_to(self.path).as_posix()
                if key.startswith(prefix) and not _is_hidden(file):
                    with suppress(FileNotFoundError):  # another process may delete it
                        found[key] = file.stat().st_size
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Return what lies directly in the folder."""
        if not self.path.is_dir():
            return []
        return sorted(each.name for each in self.path.iterdir() if not _is_hidden(each))

    def delete(self, key: str) -> None:
        """Delete a file."""
        with suppress(FileNotFoundError, NotADirectoryError):
            (self.path / key).unlink()

    def delete_all(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def check(self) -> None:
        """Do nothing: a folder is made when it is written to."""

    def sweep(self) -> None:
        """Delete temporary files in the folder, and folders that were to become it."""
        sweep_partial_files(self.path)
        own = f".{glob.escape(self.path.name)}.*{TEMPORARY_SUFFIX}"
        sweep(list(self.path.parent.glob(own)))

    def free_bytes(self) -> int:
        """Return the free space of the disk that the folder is or would be on."""
        there = next(each for each in (self.path, *self.path.absolute().parents) if each.exists())
        return shutil.disk_usage(there).free

    def zarr_store(self, *, read_only: bool = False) -> Store:
        """Return the folder as a Zarr store."""
        return LocalStore(self.path, read_only=read_only)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(TEMPORARY_SUFFIX)
