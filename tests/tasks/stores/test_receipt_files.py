"""Receipts tell of every wrong bit in themselves."""

from __future__ import annotations

import json

import pytest

from activarium.schemas.receipts import FinalReceipt, StoreReceipt
from activarium.schemas.stored_object import StoredObject
from activarium.tasks.stores.receipt_files import DamagedReceiptError, sealed, unsealed

RECEIPT = FinalReceipt(
    fingerprint="f", objects=(StoredObject(key="a/c/0", size=3, checksum="0a1b2c3d"),)
)


def test_sealed__is_json_and_comes_back():
    content = sealed(RECEIPT)
    assert json.loads(content)["fingerprint"] == "f"
    assert unsealed(FinalReceipt, content) == RECEIPT


def test_unsealed__any_flipped_bit_is_found():
    content = sealed(RECEIPT)
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            with pytest.raises(DamagedReceiptError):
                unsealed(FinalReceipt, bytes(damaged))


@pytest.mark.parametrize("change", [lambda c: c[:0], lambda c: c[:-1], lambda c: c + b"\n"])
def test_unsealed__other_lengths_are_found(change):
    with pytest.raises(DamagedReceiptError, match="its own checksum"):
        unsealed(FinalReceipt, change(sealed(RECEIPT)))


def test_unsealed__another_kind_is_told():
    with pytest.raises(DamagedReceiptError, match="another version"):
        unsealed(StoreReceipt, sealed(RECEIPT))
