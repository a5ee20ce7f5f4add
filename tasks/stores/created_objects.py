"""What a recording holds before its first shard: metadata, coordinates and their receipt.

All of it follows from the plan, byte for byte, so that it can be compared and written again.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

from activarium.schemas.layout import FORMAT_VERSION, ROOT, STORE_RECEIPT
from activarium.schemas.receipts import StoreReceipt
from activarium.tasks.stores.checksums import stored_object
from activarium.tasks.stores.receipt_files import sealed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

    from activarium.schemas.layout import PlacedArray, RecordingLayout

Status = Literal["recording", "complete"]

FILLS: dict[str, Any] = {
    "float32": np.nan,
    "float64": np.nan,
    "int32": -1,
    "int64": -1,
    "uint8": 0,
    "bool": False,
}


def created_objects(
    layout: RecordingLayout,
    attributes: Mapping[str, Any],
    coordinates: Mapping[str, NDArray[Any]],
) -> dict[str, bytes]:
    """Return every object of a new recording by its key.

    Parameters
    ----------
    layout
        The recording's sizes.
    attributes
        The recording's fingerprint, provenance and settings, among them `compression`.
    coordinates
        One value array per array that is written at creation.
    """
    built: dict[str, Buffer] = {}
    store = MemoryStore(built)
    begun = {"format_version": FORMAT_VERSION, **attributes} | {"status": "recording"}
    group = zarr.open_group(store, mode="w-", attributes=begun, zarr_format=3)
    with zarr.config.set({"array.write_empty_chunks": True}):
        for array in layout.arrays():
            _create_array(group, array, coordinates, attributes["compression"])
    with warnings.catch_warnings():
        # Consolidated metadata is an extension that every zarr 3 reader understands.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(store)
    objects = {key: built[key].to_bytes() for key in sorted(built)}
    receipt = StoreReceipt(
        fingerprint=attributes["fingerprint"],
        shards=len(layout.shards()),
        metadata=json.loads(objects.pop(ROOT)),
        objects=tuple(stored_object(key, content) for key, content in objects.items()),
    )
    return {STORE_RECEIPT: sealed(receipt), **objects, ROOT: root_metadata(receipt, "recording")}


def root_metadata(receipt: StoreReceipt, status: Status) -> bytes:
    """Return the content of the recording's own zarr.json."""
    attributes = {**receipt.metadata["attributes"], "status": status}
    root = {**receipt.metadata, "attributes": attributes}
    return (json.dumps(root, indent=2) + "\n").encode()


def _create_array(
    group: zarr.Group,
    array: PlacedArray,
    coordinates: Mapping[str, NDArray[Any]],
    compression: str,
) -> None:
    spec = array.spec
    codecs: list[Any] = [Crc32cCodec()]
    if spec.is_sparse or (compression == "zstd" and spec.dtype == "float32"):
        codecs.insert(0, ZstdCodec(level=1))
    attributes: dict[str, Any] = {"description": spec.description}
    if spec.coordinates:
        attributes["coordinates"] = spec.coordinates
    created = group.create_array(
        spec.name,
        shape=array.shape,
        chunks=array.chunks,
        dtype=str if spec.is_text else spec.dtype,
        compressors=codecs,
        fill_value="" if spec.is_text else FILLS[spec.dtype],
        dimension_names=list(array.dimensions),
        attributes=attributes,
    )
    if spec.phase == "create":
        created[...] = coordinates[spec.name]
