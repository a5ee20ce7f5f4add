"""Receipts as files: JSON whose last line is a checksum of all bytes before it.

A receipt says what is stored, so a wrong bit in it must be found as one in what it lists.
"""

from __future__ import annotations

import hashlib
import re
from typing import TypeVar

from pydantic import ValidationError

from activarium.schemas.receipts import Receipt

R = TypeVar("R", bound=Receipt)

_SEALED = re.compile(rb'(.*),\n "sha256": "([0-9a-f]{64})"\n\}\n', re.DOTALL)


class DamagedReceiptError(Exception):
    """A receipt that is not what was written."""


def sealed(receipt: Receipt) -> bytes:
    """Return the content of a receipt's file."""
    body = receipt.model_dump_json(indent=1).encode().removesuffix(b"\n}")
    return body + b',\n "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def unsealed(kind: type[R], content: bytes) -> R:
    """Return the receipt of a file.

    Raises
    ------
    DamagedReceiptError
        If its content does not match its own checksum, or is not such a receipt.
    """
    parts = _SEALED.fullmatch(content)
    if parts is None or hashlib.sha256(parts[1]).hexdigest().encode() != parts[2]:
        raise DamagedReceiptError("the receipt does not match its own checksum")
    try:
        return kind.model_validate_json(parts[1] + b"\n}")
    except ValidationError as error:
        raise DamagedReceiptError("the receipt is of another version of this program") from error
