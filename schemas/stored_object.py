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
    crc32c: str
    """CRC-32C of each block of 65,536 bytes, eight hex digits each, one after the other."""
