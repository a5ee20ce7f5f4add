"""Reads single rows of Parquet and Arrow files, keeping the few blocks that were read last."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from activarium.tasks.images.columnar_files import open_columnar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

CACHED_BYTES = 64 * 2**20
"""Blocks of images that are kept, beside the one in use."""


class Block(NamedTuple):
    """Consecutive rows that are read at once."""

    file: int
    segment: int
    position: int
    """Place among the blocks of the segment."""
    rows: int


@dataclass
class _Cursor:
    """Where a segment is being read."""

    file: int
    segment: int
    following: int
    blocks: Iterator[pa.Array]


class ColumnarReader:
    """Reads encoded images by their row over all files of a split.

    Images are mostly read in order, by several threads, a few rows apart: they find their block
    among the ones that were read last. Going back further opens the segment again.
    """

    def __init__(self, paths: tuple[Path, ...], column: str, blocks: tuple[Block, ...]) -> None:
        self._arguments = (paths, column, blocks)
        self._files = [open_columnar(path, column) for path in paths]
        self._blocks = blocks
        self._starts = [0, *accumulate(block.rows for block in blocks)]
        self._cursor: _Cursor | None = None
        self._cache: OrderedDict[int, pa.Array] = OrderedDict()
        self._lock = Lock()

    def read(self, key: int) -> bytes:
        """Return the content of one row's image.

        Raises
        ------
        OSError, ValueError
            If the row holds none, or the file is damaged there.
        """
        number = bisect_right(self._starts, key) - 1
        with self._lock:
            images = self._images(number)
        content: bytes | None = images[key - self._starts[number]].as_py()
        if content is None:
            raise ValueError("the row holds no image, at most the path of one")
        return content

    def _images(self, number: int) -> pa.Array:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        block = self._blocks[number]
        cursor, self._cursor = self._cursor, None  # dropped where reading fails
        if (
            cursor is None
            or (cursor.file, cursor.segment) != (block.file, block.segment)
            or cursor.following > block.position
        ):
            images = self._files[block.file].blocks(block.segment)
            cursor = _Cursor(block.file, block.segment, 0, images)
        while cursor.following <= block.position:
            found = next(cursor.blocks)
            self._keep(number - block.position + cursor.following, found)
            cursor.following += 1
        self._cursor = cursor
        return found

    def _keep(self, number: int, images: pa.Array) -> None:
        self._cache[number] = images
        while (
            len(self._cache) > 1
            and sum(each.nbytes for each in self._cache.values()) > CACHED_BYTES
        ):
            self._cache.popitem(last=False)

    def __getstate__(self) -> tuple[tuple[Path, ...], str, tuple[Block, ...]]:
        return self._arguments

    def __setstate__(self, arguments: tuple[tuple[Path, ...], str, tuple[Block, ...]]) -> None:
        self.__init__(*arguments)  # type: ignore[misc]
