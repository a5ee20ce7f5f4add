"""Recordings in a place: create the store whole, fill shards, read receipts, finalise.

`create -> write_shard(i) -> finalise`: each step is safe to repeat, by any number of processes at
once, and only receipts count as progress, because missing chunks read as fill values without a
word.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import zarr

from activarium.schemas.errors import UserError
from activarium.schemas.layout import (
    FINAL_RECEIPT,
    FORMAT_VERSION,
    RECEIPTS,
    ROOT,
    STORE_RECEIPT,
    RecordingLayout,
    Shard,
)
from activarium.schemas.receipts import FinalReceipt, Receipt, ShardReceipt, StoreReceipt
from activarium.tasks.stores.chunk_writer import Rows, write_rows
from activarium.tasks.stores.created_objects import created_objects, root_metadata
from activarium.tasks.stores.receipt_files import DamagedReceiptError, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from activarium.schemas.stored_object import StoredObject
    from activarium.tasks.stores.places import Place

R = TypeVar("R", bound=Receipt)


def create_store(
    place: Place,
    layout: RecordingLayout,
    *,
    attributes: Mapping[str, Any],
    coordinates: Mapping[str, NDArray[Any]],
    compression: str = "none",
) -> None:
    """Create a recording with every array in place and every coordinate written.

    It appears whole. Where another process creates the same store at the same time, or has before,
    that one's settings may be the ones that count: read the attributes afterwards.

    Parameters
    ----------
    place
        Where the store will be.
    layout
        The recording's sizes.
    attributes
        The recording's fingerprint, provenance and settings.
    coordinates
        One value array per array that is written at creation.
    compression
        `none` or `zstd`; every array carries a crc32c either way.
    """
    own = {**attributes, "compression": compression}
    if _create(place, layout, own, coordinates) or place.size(ROOT) is not None:
        return
    # Another has begun it with its own settings, and may have been killed over it.
    begun = read_store_receipt(place).metadata["attributes"]
    layout = replace(layout, shard_images=int(begun["shard_images"]))
    _create(place, layout, begun, coordinates)


def _create(
    place: Place,
    layout: RecordingLayout,
    attributes: Mapping[str, Any],
    coordinates: Mapping[str, NDArray[Any]],
) -> bool:
    objects = created_objects(layout, attributes, coordinates)
    return place.create_all(objects, first=STORE_RECEIPT, last=ROOT)


def write_shard(
    place: Place, layout: RecordingLayout, shard: Shard, values: Mapping[str, NDArray[Any]]
) -> tuple[StoredObject, ...]:
    """Write one shard's rows of every array, each chunk once, and return what is now stored.

    Parameters
    ----------
    place
        The recording's store.
    layout
        The recording's sizes.
    shard
        The range of images.
    values
        For every array that shards fill: its rows (image, ...).

    Raises
    ------
    UserError
        If the rows do not fit the layout, or the disk is full.
    """
    everything = []
    for array in layout.shard_arrays():
        rows, first = values[array.spec.name], shard.index * array.chunks[0]
        expected = (min(array.chunks[0], array.shape[0] - first), *array.shape[1:])
        if rows.shape != expected:
            raise UserError(
                f"{place.name}, shard {shard.index}: expected {array.spec.name} of shape "
                f"{expected}, got {rows.shape}"
            )
        everything.append(Rows(array.spec.name, first, rows))
    try:
        return write_rows(place, everything)
    except UserError as error:
        again = "run the same command again"
        hint = "" if again in str(error) else f"; {again} to go on from the last receipt"
        raise UserError(f"shard {shard.index}: {error}{hint}") from error


def write_receipt(place: Place, shard: Shard, receipt: ShardReceipt) -> None:
    """Write the receipt of a shard that is safely stored."""
    place.write(f"{RECEIPTS}/{shard.receipt_name}", sealed(receipt))


def read_receipt(place: Place, shard: Shard) -> ShardReceipt | None:
    """Return the receipt of a shard, or None where there is none that can be trusted.

    A receipt counts when it can be read, belongs to this recording, and all its objects have the
    size that it notes.
    """
    return _trusted(place, shard, read_attributes(place)["fingerprint"], place.size)


def pending_shards(place: Place, shards: Sequence[Shard]) -> list[Shard]:
    """Return the shards that have no receipt that can be trusted."""
    size, fingerprint = place.sizes().get, read_attributes(place)["fingerprint"]
    with ThreadPoolExecutor(place.threads) as pool:
        receipts = pool.map(lambda shard: _trusted(place, shard, fingerprint, size), shards)
        return [shard for shard, receipt in zip(shards, receipts, strict=True) if receipt is None]


def _trusted(
    place: Place, shard: Shard, fingerprint: str, size: Callable[[str], int | None]
) -> ShardReceipt | None:
    try:
        receipt = unsealed(ShardReceipt, place.read(f"{RECEIPTS}/{shard.receipt_name}"))
    except (FileNotFoundError, DamagedReceiptError):
        return None
    belongs = (receipt.fingerprint, receipt.start, receipt.stop)
    if belongs != (fingerprint, shard.start, shard.stop):
        return None
    is_whole = all(size(stored.key) == stored.size for stored in receipt.objects)
    return receipt if is_whole else None


def receipt_keys(place: Place) -> list[str]:
    """Return the keys of all shards' receipts in order."""
    return [key for key in place.keys(f"{RECEIPTS}/shard-") if key.endswith(".json")]


def read_receipts(place: Place) -> list[ShardReceipt]:
    """Return all receipts of a recording in the order of their shards, as they were written.

    Raises
    ------
    UserError
        If one cannot be read.
    """
    keys = receipt_keys(place)
    with ThreadPoolExecutor(place.threads) as pool:
        contents = list(pool.map(place.read, keys))
    receipts = []
    for key, content in zip(keys, contents, strict=True):
        try:
            receipts.append(unsealed(ShardReceipt, content))
        except DamagedReceiptError as error:
            raise UserError(
                f"{place}/{key}: {error}: record again with --repair, only its shard is repeated"
            ) from error
    return receipts


def read_store_receipt(place: Place) -> StoreReceipt:
    """Return the receipt of what a recording holds beside its shards.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    return _read_only_receipt(place, StoreReceipt, STORE_RECEIPT)


def read_final_receipt(place: Place) -> FinalReceipt:
    """Return the receipt of what a complete recording holds that follows from all its shards.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    return _read_only_receipt(place, FinalReceipt, FINAL_RECEIPT)


def _read_only_receipt(place: Place, kind: type[R], key: str) -> R:
    try:
        return unsealed(kind, place.read(key))
    except FileNotFoundError:
        problem = "is missing"
    except DamagedReceiptError as error:
        problem = f"is damaged ({error})"
    raise UserError(f"{place}/{key} {problem}: record again with --repair")


def read_attributes(place: Place) -> dict[str, Any]:
    """Return the recording's attributes.

    Raises
    ------
    UserError
        If there is no recording, its metadata cannot be read, or it is of another format.
    """
    try:
        attributes: dict[str, Any] = json.loads(place.read(ROOT))["attributes"]
        version = attributes["format_version"]
    except FileNotFoundError as error:
        sizes = place.sizes()
        if is_half_created(place, sizes):
            raise UserError(
                f"{place} is unfinished, its creation was stopped: run the same `activarium record` "
                "again"
            ) from error
        if sizes:
            raise UserError(f"{place}/{ROOT} is missing: record again with --repair") from error
        raise UserError(
            f"no recording at {place}: `activarium list` shows what there is"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{place}/{ROOT} cannot be read ({error}): record again with --repair"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{place} has format version {version!r}, this program reads {FORMAT_VERSION}: "
            "record again"
        )
    return attributes


def is_half_created(place: Place, sizes: Mapping[str, int]) -> bool:
    """Return whether a place of these objects is a recording whose creation was stopped.

    Its receipt is written first and its own metadata last, and shards come after.
    """
    if place.appears_whole or ROOT in sizes or STORE_RECEIPT not in sizes:
        return False
    return not any(key.startswith(f"{RECEIPTS}/") for key in sizes.keys() - {STORE_RECEIPT})


def finalise(place: Place) -> None:
    """Mark a recording complete, once all shards have their receipts.

    All that is written follows from the shards, so that several may do it at once. The status
    changes last and in one step: whoever is stopped before leaves a recording that is finalised
    again.
    """
    created = read_store_receipt(place)
    receipt = FinalReceipt(fingerprint=created.fingerprint, objects=_write_density(place))
    place.write(FINAL_RECEIPT, sealed(receipt))
    place.write(ROOT, root_metadata(created, "complete"))


def _write_density(place: Place) -> tuple[StoredObject, ...]:
    """Add up the shards' histograms, where they are kept."""
    group = zarr.open_group(place.zarr_store(read_only=True), mode="r")
    if "density" not in group:
        return ()
    shards = cast("zarr.Array[Any]", group["shard_density"])
    total = np.zeros(shards.shape[1:], dtype=np.int64)
    try:
        for shard in range(shards.shape[0]):
            total += np.asarray(shards[shard])
    except ValueError as error:
        raise UserError(
            f"{place}/shard_density cannot be read ({error}): record again with --repair"
        ) from error
    return write_rows(place, [Rows("density", 0, total)])


def is_final(place: Place) -> bool:
    """Return whether a recording is complete, with the receipts that belong to it."""
    complete = read_attributes(place)["status"] == "complete"
    return complete and all(place.size(key) is not None for key in (STORE_RECEIPT, FINAL_RECEIPT))


def reopen(place: Place) -> None:
    """Mark a complete recording as being recorded, in one step, before a shard is made again."""
    if read_attributes(place)["status"] == "complete":
        place.write(ROOT, root_metadata(read_store_receipt(place), "recording"))
