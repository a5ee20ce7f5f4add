"""Chunks of uncompressed arrays: the bytes of Zarr's codecs `bytes` and `crc32c`, in one copy.

Zarr's own encoding copies a chunk three times, which takes longer than writing it.
"""

from __future__ import annotations

import sys
from threading import local
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from zarr.codecs import BytesCodec, Crc32cCodec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import AsyncArray

_CRC_BYTES = 4


def is_plain(array: AsyncArray[Any]) -> bool:
    """Return whether an array's chunks are its numbers, little-endian, and their CRC-32C."""
    codecs = getattr(array.metadata, "codecs", ())
    kinds = [type(codec) for codec in codecs]
    return kinds == [BytesCodec, Crc32cCodec] and sys.byteorder == "little"


class PlainEncoder:
    """Encodes chunks into memory that each thread uses again for its next chunk."""

    def __init__(self) -> None:
        self._memory = local()

    def encode(self, array: AsyncArray[Any], values: NDArray[Any]) -> memoryview:
        """Return the stored bytes of a chunk; they hold until the thread encodes another.

        Parameters
        ----------
        array
            The array, for which `is_plain` holds.
        values
            The chunk's values; fewer than a whole chunk at the array's ends.
        """
        dtype, shape = values.dtype, array.chunks
        size = int(np.prod(shape)) * dtype.itemsize
        content = self._buffer(size + _CRC_BYTES)
        chunk = content[:size].view(dtype).reshape(shape)
        if values.shape != shape:
            chunk[...] = array.metadata.fill_value
        chunk[tuple(slice(length) for length in values.shape)] = values
        checksum = google_crc32c.value(content[:size])
        content[size:] = np.frombuffer(checksum.to_bytes(_CRC_BYTES, "little"), np.uint8)
        return content.data

    def _buffer(self, size: int) -> NDArray[np.uint8]:
        known = getattr(self._memory, "content", None)
        if known is None or len(known) < size:
            known = self._memory.content = np.empty(size, np.uint8)
        found: NDArray[np.uint8] = known[:size]
        return found
