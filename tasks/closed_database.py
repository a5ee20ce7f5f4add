"""DuckDB in memory, for queries that others wrote: they reach no file and no network."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

from activarium.tasks.limited_process import memory_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLOSED: dict[str, Any] = {
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,  # variables of Python, as tables
    "temp_directory": "",  # or it writes into the current folder
}


@contextmanager
def closed_database(files: Any = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection that reaches nothing but the files that are given.

    The caller makes its tables and views and then sets `lock_configuration`.

    Parameters
    ----------
    files
        A file system of fsspec, whose protocol begins the names of its files.
    """
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        connection.execute(f"SET memory_limit = '{memory_bytes()}B'")
        if files is not None:
            connection.register_filesystem(files)
            connection.execute(f"SET allowed_directories = ['{files.protocol}://']")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
        yield connection


def first_line(error: duckdb.Error) -> str:
    """Return what DuckDB says, without the lines that show where in the text."""
    return " ".join(str(error).split("\n")[0].split())
