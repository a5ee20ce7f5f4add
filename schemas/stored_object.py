"""One stored object as receipts note it; without pydantic, so that chunks can be written without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class StoredObject:
    """One stored object."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    key: str
    """Key within the recording."""
    size: int
    """Bytes."""
    checksum: str
    """CRC-32C of the key followed by each block of 65,536 bytes of all but the last four bytes,
    eight hex digits each, one after the other; then the last four bytes themselves."""


@dataclass(frozen=True)
class EarlierObject:
    """The same as earlier versions noted it, which says less of chunks of a single block."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    key: str
    """Key within the recording."""
    size: int
    """Bytes."""
    crc32c: str
    """CRC-32C of each block of 65,536 bytes, eight hex digits each, one after the other. Of a single
    block that ends in its own CRC-32C it is the same whatever the block holds."""
