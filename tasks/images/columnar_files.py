"""Parquet and Arrow IPC files of images, opened in segments that are read block by block.

A segment is where reading can begin: a Parquet row group, a record batch of an Arrow file, or the
whole of an Arrow stream. A block is what is read at once and kept in memory.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_BYTES = 16 * 2**20
"""Larger row groups are read in blocks of about this size."""

STREAM_BUFFER = 2**20
"""Bytes read ahead within a row group; without it a whole row group's column is read at once."""

ARROW_MAGIC = b"ARROW1"
PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Contents:
    """What a file tells without its images being read."""

    segments: tuple[tuple[int, ...], ...]
    """Rows of each block of each segment."""
    schema: pa.Schema
    labels: pa.ChunkedArray | None
    """None where there is no such column."""
    digest: str
    """sha256 of the layout: sizes, and a Parquet file's footer."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(map(sum, self.segments))


class ColumnarFile(Protocol):
    """One format of file."""

    def contents(self, label_column: str | None) -> Contents:
        """Return what the file tells without its images being read."""
        ...

    def blocks(self, segment: int) -> Iterator[pa.Array]:
        """Yield the encoded images of a segment, block by block."""
        ...


@dataclass(frozen=True)
class ParquetImages:
    """A Parquet file whose images are binary, or structs with a field `bytes`."""

    path: Path
    column: str

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, buffer_size=STREAM_BUFFER, pre_buffer=False)

    def contents(self, label_column: str | None) -> Contents:
        """Return what the footer tells, and the labels."""
        with self._open() as file:
            segments = tuple(
                self._block_rows(file.metadata.row_group(group))
                for group in range(file.metadata.num_row_groups)
            )
            schema = file.schema_arrow
            has_labels = label_column in schema.names
            labels = file.read(columns=[label_column]).column(0) if has_labels else None
            # Sizes and places of every column chunk, and their statistics.
            footer = json.dumps(file.metadata.to_dict(), default=str, sort_keys=True)
        return Contents(segments, schema, labels, hashlib.sha256(footer.encode()).hexdigest())

    def _block_rows(self, group: pq.RowGroupMetaData) -> tuple[int, ...]:
        columns = [group.column(index) for index in range(group.num_columns)]
        size = sum(
            column.total_uncompressed_size
            for column in columns
            if column.path_in_schema.split(".")[0] == self.column
        )
        blocks = min(group.num_rows, max(1, -(-size // BLOCK_BYTES)))
        rows = -(-group.num_rows // max(blocks, 1))
        return tuple(
            min(rows, group.num_rows - start) for start in range(0, group.num_rows, rows or 1)
        )

    def blocks(self, segment: int) -> Iterator[pa.Array]:
        """Yield the images of a row group."""
        with self._open() as file:
            rows = self._block_rows(file.metadata.row_group(segment))
            is_struct = pa.types.is_struct(file.schema_arrow.field(self.column).type)
            leaf = f"{self.column}.bytes" if is_struct else self.column
            batches = file.iter_batches(max(rows, default=1), row_groups=[segment], columns=[leaf])
            for batch in batches:
                yield encoded(batch.column(0))


@dataclass(frozen=True)
class ArrowImages:
    """An Arrow IPC file (Feather version 2), mapped into memory, not read into it."""

    path: Path
    column: str

    def _open(self, column: str | None) -> pa.ipc.RecordBatchFileReader:
        source = pa.memory_map(str(self.path))
        schema = pa.ipc.open_file(source).schema
        return pa.ipc.open_file(source, options=_only(schema, column))

    def contents(self, label_column: str | None) -> Contents:
        """Return the sizes of the record batches, and the labels."""
        file = self._open(label_column)
        batches = [file.get_batch(index) for index in range(file.num_record_batches)]
        segments = tuple((batch.num_rows,) for batch in batches)
        schema = pa.ipc.open_file(pa.memory_map(str(self.path))).schema
        return _arrow_contents(self.path, segments, schema, batches, label_column)

    def blocks(self, segment: int) -> Iterator[pa.Array]:
        """Yield the images of a record batch."""
        yield encoded(self._open(self.column).get_batch(segment).column(0))


@dataclass(frozen=True)
class ArrowStreamImages:
    """An Arrow IPC stream, as the Hugging Face library stores data sets, mapped into memory."""

    path: Path
    column: str

    def _open(self, column: str | None) -> pa.ipc.RecordBatchStreamReader:
        schema = pa.ipc.open_stream(pa.memory_map(str(self.path))).schema
        source = pa.memory_map(str(self.path))
        return pa.ipc.open_stream(source, options=_only(schema, column))

    def contents(self, label_column: str | None) -> Contents:
        """Return the sizes of the record batches, and the labels."""
        batches = list(self._open(label_column))
        schema = pa.ipc.open_stream(pa.memory_map(str(self.path))).schema
        segments = (tuple(batch.num_rows for batch in batches),)
        return _arrow_contents(self.path, segments, schema, batches, label_column)

    def blocks(self, segment: int) -> Iterator[pa.Array]:
        """Yield the images of all record batches; a stream has one segment."""
        del segment
        for batch in self._open(self.column):
            yield encoded(batch.column(0))


def _only(schema: pa.Schema, column: str | None) -> pa.ipc.IpcReadOptions:
    """Return options that read one column; where it is not there, the first one."""
    index = schema.get_field_index(column) if column is not None else -1
    return pa.ipc.IpcReadOptions(included_fields=[max(index, 0)])


def _arrow_contents(
    path: Path,
    segments: tuple[tuple[int, ...], ...],
    schema: pa.Schema,
    batches: list[pa.RecordBatch],
    label_column: str | None,
) -> Contents:
    labels = None
    if label_column is not None and label_column in schema.names:
        kind = schema.field(label_column).type
        labels = pa.chunked_array([batch.column(0) for batch in batches], type=kind)
    layout = f"{path.stat().st_size}\0{segments}\0{schema}"
    return Contents(segments, schema, labels, hashlib.sha256(layout.encode()).hexdigest())


def encoded(images: pa.Array) -> pa.Array:
    """Return the images' file contents: the field `bytes` of a struct, or the binary itself."""
    if not pa.types.is_struct(images.type):
        return images
    return images.flatten()[images.type.get_field_index("bytes")]


def open_columnar(path: Path, column: str) -> ColumnarFile:
    """Return the file's reader, by its first bytes and not its name.

    Raises
    ------
    UserError
        If it is neither Parquet nor Arrow IPC.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(ARROW_MAGIC))
        if head.startswith(PARQUET_MAGIC):
            return ParquetImages(path, column)
        if head == ARROW_MAGIC:
            return ArrowImages(path, column)
        pa.ipc.open_stream(pa.memory_map(str(path))).close()
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"test_set.path: {path} is no Parquet or Arrow file: {reason}") from error
    return ArrowStreamImages(path, column)
