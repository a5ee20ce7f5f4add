"""What a recording lacks, told before it is read: Zarr reads missing chunks as fill values."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.stores.recording_store import read_final_receipt, read_store_receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.receipts import ShardReceipt
    from activarium.tasks.stores.places import Place


_SHOWN = 20
"""Runs of missing shards that a message names."""


def missing_shards(place: Place, receipts: Sequence[ShardReceipt]) -> str:
    """Return how many shards have no receipt, and which, in words; empty where none."""
    shards = read_store_receipt(place).shards
    missing = sorted(set(range(shards)) - {receipt.shard for receipt in receipts})
    if not missing:
        return ""
    runs = _runs(missing)
    shown = ", ".join(runs[:_SHOWN]) + (" ..." if len(runs) > _SHOWN else "")
    return f"{len(missing)} of {shards} shards are missing: {shown}"


def _runs(numbers: Sequence[int]) -> list[str]:
    """Return ascending numbers in words, those that follow one another as `first to last`."""
    starts = [
        place for place, each in enumerate(numbers) if not place or each != numbers[place - 1] + 1
    ]
    ends = [*starts[1:], len(numbers)]
    spans = [(numbers[start], numbers[end - 1]) for start, end in zip(starts, ends, strict=True)]
    return [str(first) if first == last else f"{first} to {last}" for first, last in spans]


def check_objects(place: Place, receipts: Sequence[ShardReceipt], *, is_complete: bool) -> None:
    """Compare the size of every object that receipts list, by one listing of the store.

    Parameters
    ----------
    place
        A recording's store.
    receipts
        Of the shards that are to be read.
    is_complete
        Whether what follows from all shards together must be there.

    Raises
    ------
    UserError
        If an object or a receipt is missing or of another size; the message names the first.
    """
    listed = [read_store_receipt(place).objects, *(receipt.objects for receipt in receipts)]
    if is_complete:
        listed.append(read_final_receipt(place).objects)
    sizes = place.sizes()
    for stored in chain.from_iterable(listed):
        found = sizes.get(stored.key)
        if found == stored.size:
            continue
        problem = "is missing" if found is None else f"has {found} bytes, not {stored.size}"
        raise UserError(
            f"{place}/{stored.key} {problem}: `activarium verify` names all that is damaged, "
            "`activarium record --repair` makes it again"
        )
