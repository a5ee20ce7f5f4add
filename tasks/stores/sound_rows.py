"""Which images of an array of a recording can be shown: those whose chunks are as receipts say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.errors import UserError
from activarium.schemas.layout import ROOT
from activarium.schemas.receipts import ShardReceipt
from activarium.tasks.stores.checksums import first_difference
from activarium.tasks.stores.created_objects import root_metadata
from activarium.tasks.stores.receipt_files import DamagedReceiptError, unsealed
from activarium.tasks.stores.recording_store import read_store_receipt, receipt_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.stored_object import StoredObject
    from activarium.tasks.stores.places import Place


@dataclass(frozen=True)
class SoundRows:
    """The images of an array whose chunks are as they were written."""

    rows: NDArray[np.bool_]
    """Whether each image is one of them, shape (image,)."""
    damaged: tuple[str, ...]
    """Keys of what is damaged or gone."""


def sound_rows(place: Place, array: str, images: int) -> SoundRows:
    """Compare the chunks of an array with their checksums.

    Parameters
    ----------
    place
        A recording's store; one without receipts cannot be checked, and counts as sound.
    array
        Name of an array whose chunks shards write.
    images
        Images of it.
    """
    keys = receipt_keys(place)
    if not keys:
        return SoundRows(np.ones(images, bool), ())
    rows = np.zeros(images, bool)
    if not _has_its_metadata(place):
        return SoundRows(rows, (ROOT,))
    damaged: list[str] = []
    for key in keys:
        try:
            receipt = unsealed(ShardReceipt, place.read(key))
        except (DamagedReceiptError, OSError):
            damaged.append(key)
            continue
        chunks = [each for each in receipt.objects if each.key.startswith(f"{array}/c/")]
        with ThreadPoolExecutor(place.threads) as pool:
            sound = list(pool.map(lambda each: _is_sound(place, each), chunks))
        damaged += [each.key for each, good in zip(chunks, sound, strict=True) if not good]
        rows[receipt.start : receipt.stop] = all(sound)
    return SoundRows(rows, tuple(damaged))


def _has_its_metadata(place: Place) -> bool:
    """Return whether the root tells of the arrays what was written when they were made."""
    try:
        created, content = read_store_receipt(place), place.read(ROOT)
    except (UserError, OSError):
        return False
    return content in {root_metadata(created, each) for each in ("complete", "recording")}


def _is_sound(place: Place, stored: StoredObject) -> bool:
    try:
        content = place.read(stored.key)
    except OSError:
        return False
    return len(content) == stored.size and first_difference(stored, content) is None
