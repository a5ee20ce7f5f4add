"""Checksums find a difference and its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activarium.tasks.stores.checksums import BLOCK_BYTES, first_difference, stored_object

SIZE = 2 * BLOCK_BYTES + 1_000
CONTENT = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8).tobytes()
STORED = stored_object("a/c/0", CONTENT)


def test_stored_object__has_eight_digits_per_block():
    assert (STORED.key, STORED.size, len(STORED.crc32c)) == ("a/c/0", SIZE, 24)
    assert stored_object("k", b"123456789").crc32c == "e3069283"  # the check value of CRC-32C
    assert stored_object("k", b"").crc32c == ""


@given(st.integers(0, SIZE - 1), st.integers(0, 7))
def test_first_difference__names_the_block_of_any_flipped_bit(place, bit):
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1 << bit
    first, last = first_difference(STORED, bytes(damaged))
    assert first <= place <= last
    assert (first % BLOCK_BYTES, last) == (0, min(first + BLOCK_BYTES, SIZE) - 1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CONTENT, None),
        (b"", (0, BLOCK_BYTES - 1)),
        (CONTENT[:-1], (2 * BLOCK_BYTES, SIZE - 1)),
        (CONTENT[:BLOCK_BYTES], (BLOCK_BYTES, 2 * BLOCK_BYTES - 1)),
        (CONTENT + b"\0\0", (SIZE, SIZE + 1)),
        (b"x" + CONTENT, (0, BLOCK_BYTES - 1)),
    ],
    ids=["same", "empty", "cut", "cut at a block", "longer", "shifted"],
)
def test_first_difference__of_other_sizes(content, expected):
    assert first_difference(STORED, content) == expected


def test_first_difference__of_an_empty_object():
    assert first_difference(stored_object("k", b""), b"") is None
    assert first_difference(stored_object("k", b""), b"x") == (0, 0)
