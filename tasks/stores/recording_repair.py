"""Repair of a damaged recording: what its plan tells is written again, the rest is recorded again.

`restore_root -> repair_created -> drop_receipts(faulty_shards)`; whatever then lacks a receipt is
recorded as in any interrupted recording, and finalised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError
from activarium.schemas.layout import FINAL_RECEIPT, RECEIPTS, ROOT
from activarium.tasks.progress import silent
from activarium.tasks.stores.created_objects import created_objects, root_metadata
from activarium.tasks.stores.recording_store import read_attributes, read_store_receipt, reopen
from activarium.tasks.stores.store_check import UNLISTED, check_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from activarium.schemas.layout import RecordingLayout, Shard
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.places import Place


def restore_root(place: Place) -> bool:
    """Write the recording's own metadata again from its receipt, where they differ.

    Raises
    ------
    UserError
        If both are damaged: then the settings that it was begun with are lost.
    """
    try:
        created = read_store_receipt(place)
    except UserError as error:
        try:
            read_attributes(place)
        except UserError:
            raise UserError(
                f"{place} cannot be repaired, its {ROOT} and its store receipt are both damaged: "
                "delete it and record again"
            ) from error
        return False
    sound = [root_metadata(created, status) for status in ("recording", "complete")]
    if _read(place, ROOT) in sound:
        return False
    place.write(ROOT, sound[0])
    return True


def repair_created(
    place: Place, layout: RecordingLayout, *, coordinates: Mapping[str, NDArray[Any]]
) -> tuple[str, ...]:
    """Write damaged metadata, coordinates and store receipts again; return their keys.

    What follows from all shards together is only forgotten: finalising makes it again.

    Parameters
    ----------
    place
        The recording's store, whose attributes can be read.
    layout
        The recording's sizes, with the shards that it was begun with.
    coordinates
        One value array per array that is written at creation.
    """
    faulty = {
        each.object
        for each in check_store(place)
        if each.shard is None and each.problem not in ("", UNLISTED)
    }
    attributes = read_attributes(place)
    objects = created_objects(layout, attributes, coordinates)
    repaired = []
    root = objects.pop(ROOT)
    of_shards = faulty - objects.keys() - {ROOT}
    if faulty - of_shards:
        for key, content in objects.items():
            if _read(place, key) != content:
                place.write(key, content)
                repaired.append(key)
        if attributes["status"] == "complete":
            root = root_metadata(read_store_receipt(place), "complete")
        if _read(place, ROOT) != root:
            place.write(ROOT, root)
            repaired.append(ROOT)
    if of_shards and attributes["status"] == "complete":
        place.delete(FINAL_RECEIPT)
        repaired.append(FINAL_RECEIPT)
    return tuple(repaired)


def faulty_shards(
    place: Place, shards: Sequence[Shard], *, progress: Progress = silent
) -> tuple[Shard, ...]:
    """Return the shards whose receipt or any of whose objects is not as it was written.

    Shards without a receipt in a recording that is not complete are not made yet, not faulty.
    """
    with progress(f"checking {place.name}", None):
        faulty = {each.shard for each in check_store(place) if each.problem}
    return tuple(shard for shard in shards if shard.index in faulty)


def drop_receipts(place: Place, shards: Iterable[Shard]) -> None:
    """Delete the receipts of these shards, so that exactly they are recorded again."""
    for shard in shards:
        reopen(place)
        place.delete(f"{RECEIPTS}/{shard.receipt_name}")


def _read(place: Place, key: str) -> bytes | None:
    try:
        return place.read(key)
    except FileNotFoundError:
        return None
