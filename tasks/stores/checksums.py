"""Checksums of stored objects, block by block, so that a difference is found with its place.

CRC-32C (Castagnoli), the code that Zarr's own codec uses, finds every burst of up to 32 wrong bits
and all but one in 2^32 of other damages of a block. It is some five times as fast as a sha256,
which would be the slowest part of writing.

A chunk ends in its own CRC-32C, and the CRC-32C of such bytes is the same whatever they are: so the
last four bytes are noted as they are, beside the checksums of those before. Each checksum begins
with the object's key, so that an object that was put in another's place is found too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from activarium.schemas.stored_object import EarlierObject, StoredObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.stores.files import Content

BLOCK_BYTES = 65_536
"""Bytes of one block; the last block of an object may be shorter."""

TRAILER_BYTES = 4
"""Bytes at the end that are noted as they are."""

_DIGITS = 8


def stored_object(key: str, content: Content) -> StoredObject:
    """Return what a receipt notes of an object."""
    view = np.frombuffer(content, dtype=np.uint8)
    return StoredObject(key=key, size=len(view), checksum=_checksum(key, view, len(view)))


def _checksum(key: str, view: NDArray[np.uint8], size: int) -> str:
    """Return the checksum of bytes as those of an object of this size."""
    body = max(size - TRAILER_BYTES, 0)
    return _blocks(view[:body], google_crc32c.value(key.encode())) + bytes(view[body:size]).hex()


def _blocks(view: NDArray[np.uint8], before: int) -> str:
    """Return the checksum of each block, which goes on from that of the bytes before it."""
    starts = range(0, len(view), BLOCK_BYTES)
    return "".join(
        f"{google_crc32c.extend(before, view[at : at + BLOCK_BYTES]):08x}" for at in starts
    )


def first_difference(
    stored: StoredObject | EarlierObject, content: Content
) -> tuple[int, int] | None:
    """Return the first and last byte of the first block that is not as it was stored.

    None where the content is the same. A missing end counts to the block where it begins; what
    was added at the end is a block of its own.
    """
    view = np.frombuffer(content, dtype=np.uint8)
    if isinstance(stored, EarlierObject):
        noted, found = stored.crc32c, _blocks(view[: stored.size], 0)
    else:
        noted, found = stored.checksum, _checksum(stored.key, view, stored.size)
    for block in range(0, len(noted), _DIGITS):
        if found[block : block + _DIGITS] != noted[block : block + _DIGITS]:
            # The bytes at the end belong to the last block.
            last_block = max(stored.size - 1, 0) // BLOCK_BYTES
            first = min(block // _DIGITS, last_block) * BLOCK_BYTES
            return first, min(first + BLOCK_BYTES, stored.size) - 1
    return (stored.size, len(view) - 1) if len(view) > stored.size else None
