"""Checksums find a difference and its place."""

from __future__ import annotations

from dataclasses import replace

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activarium.schemas.stored_object import EarlierObject
from activarium.tasks.stores.checksums import BLOCK_BYTES, first_difference, stored_object

SIZE = 2 * BLOCK_BYTES + 1_000
CONTENT = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8).tobytes()
STORED = stored_object("a/c/0", CONTENT)


def test_stored_object__has_eight_digits_per_block_and_the_last_four_bytes():
    assert (STORED.key, STORED.size, len(STORED.checksum)) == ("a/c/0", SIZE, 32)
    # e3069283 is the check value of CRC-32C.
    assert stored_object("12345", b"6789abcd").checksum == "e3069283" + b"abcd".hex()
    assert stored_object("k", b"").checksum == ""
    assert stored_object("k", b"ab").checksum == "6162"


def chunk(content):
    """Return bytes as Zarr stores them: with their CRC-32C at the end."""
    return content + google_crc32c.value(content).to_bytes(4, "little")


@pytest.mark.parametrize("size", [1, 400, BLOCK_BYTES - 4, BLOCK_BYTES, 3 * BLOCK_BYTES + 7])
@pytest.mark.parametrize("differs_at", [0, -1])
def test_first_difference__of_chunks_that_each_end_in_their_own_crc(size, differs_at):
    body = bytearray(CONTENT[:size] if size <= SIZE else CONTENT + CONTENT)[:size]
    one = chunk(bytes(body))
    body[differs_at] ^= 0x10
    other = chunk(bytes(body))
    assert len(one) == len(other)
    assert first_difference(stored_object("a", one), one) is None
    assert first_difference(stored_object("a", one), other) is not None


def test_first_difference__of_the_same_bytes_under_another_key():
    content = chunk(CONTENT[:100])
    moved = replace(stored_object("b", content), key="a")
    assert first_difference(moved, content) is not None


@given(st.integers(0, SIZE - 1), st.integers(0, 7))
def test_first_difference__reads_the_checksums_of_earlier_versions(place, bit):
    starts = range(0, SIZE, BLOCK_BYTES)
    crcs = [google_crc32c.value(CONTENT[at : at + BLOCK_BYTES]) for at in starts]
    earlier = EarlierObject("a/c/0", SIZE, "".join(f"{each:08x}" for each in crcs))
    assert first_difference(earlier, CONTENT) is None
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1 << bit
    first, last = first_difference(earlier, bytes(damaged))
    assert first <= place <= last


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
