"""Recordings on disk: create the store whole, fill shards, read receipts, finalise, open.

`create -> write_shard(i) -> finalise`: each shard is safe to repeat, and only receipts count as
progress, because missing chunks read as fill values without a word.
"""

from __future__ import annotations

import json
import shutil
import uuid
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.codecs import Crc32cCodec, ZstdCodec

from activarium.schemas.errors import UserError
from activarium.schemas.layout import FORMAT_VERSION, RECEIPTS, PlacedArray, RecordingLayout, Shard
from activarium.schemas.receipts import ShardReceipt, StoredObject
from activarium.tasks.files import sha256_file, sync_file, write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FILLS: dict[str, Any] = {"float32": np.nan, "int32": -1, "int64": -1, "uint8": 0, "bool": False}


def create_store(
    path: Path,
    layout: RecordingLayout,
    *,
    attributes: Mapping[str, Any],
    coordinates: Mapping[str, NDArray[Any]],
    compression: str = "none",
) -> None:
    """Create a recording with every array in place and every coordinate written.

    It is built aside and renamed, so that a store that exists is whole.

    Parameters
    ----------
    path
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
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    fixed = {"format_version": FORMAT_VERSION, "status": "recording"}
    try:
        group = zarr.open_group(aside, mode="w-", attributes={**fixed, **attributes})
        with zarr.config.set({"array.write_empty_chunks": True}):
            for array in layout.arrays():
                _create_array(group, array, coordinates, compression)
        (aside / RECEIPTS).mkdir()
        aside.rename(path)
    except OSError as error:
        raise UserError(f"cannot create {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _create_array(
    group: zarr.Group,
    array: PlacedArray,
    coordinates: Mapping[str, NDArray[Any]],
    compression: str,
) -> None:
    spec = array.spec
    codecs: list[Any] = [Crc32cCodec()]
    if compression == "zstd" and spec.dtype == "float32":
        codecs.insert(0, ZstdCodec(level=1))
    attributes = {"description": spec.description}
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


def write_shard(
    path: Path, layout: RecordingLayout, shard: Shard, values: Mapping[str, NDArray[Any]]
) -> tuple[StoredObject, ...]:
    """Write one shard's rows of every array, each chunk once, and return what is now on disk.

    Parameters
    ----------
    path
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
    stored: list[StoredObject] = []
    try:
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        for array in layout.shard_arrays():
            rows = values[array.spec.name]
            expected = (shard.images, *array.shape[1:])
            if rows.shape != expected:
                raise UserError(
                    f"{path.name}, shard {shard.index}: expected {array.spec.name} of shape "
                    f"{expected}, got {rows.shape}"
                )
            with zarr.config.set({"array.write_empty_chunks": True}):
                group[array.spec.name][shard.start : shard.stop] = rows
            keys = array.chunk_keys(shard, layout.shard_images)
            stored.extend(_stored_object(path, key) for key in keys)
    except OSError as error:
        raise UserError(
            f"cannot write shard {shard.index} of {path}: {error.strerror or error}; run the same "
            "command again to go on from the last receipt"
        ) from error
    return tuple(stored)


def _stored_object(path: Path, key: str) -> StoredObject:
    file = path / key
    sync_file(file)
    return StoredObject(key=key, size=file.stat().st_size, sha256=sha256_file(file))


def write_receipt(path: Path, shard: Shard, receipt: ShardReceipt) -> None:
    """Write the receipt of a shard that is safely stored."""
    content = receipt.model_dump_json(indent=1) + "\n"
    write_bytes(path / RECEIPTS / shard.receipt_name, content.encode())


def read_receipt(path: Path, shard: Shard) -> ShardReceipt | None:
    """Return the receipt of a shard, or None where there is none that can be trusted.

    A receipt counts when it can be read, belongs to this recording, and all its objects have the
    size that it notes.
    """
    file = path / RECEIPTS / shard.receipt_name
    try:
        receipt = ShardReceipt.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    if (receipt.start, receipt.stop) != (shard.start, shard.stop):
        return None
    if receipt.fingerprint != read_attributes(path)["fingerprint"]:
        return None
    for stored in receipt.objects:
        file = path / stored.key
        if not file.is_file() or file.stat().st_size != stored.size:
            return None
    return receipt


def read_receipts(path: Path) -> list[ShardReceipt]:
    """Return all receipts of a recording in the order of their shards, as they were written."""
    files = sorted((path / RECEIPTS).glob("shard-*.json"))
    return [ShardReceipt.model_validate_json(file.read_bytes()) for file in files]


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the recording's attributes.

    Raises
    ------
    UserError
        If there is no recording, its metadata cannot be read, or it is of another format.
    """
    file = path / "zarr.json"
    try:
        attributes: dict[str, Any] = json.loads(file.read_bytes())["attributes"]
    except FileNotFoundError as error:
        raise UserError(f"no recording at {path}: `activarium list` shows what there is") from error
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{file} cannot be read ({error}): delete {path} and record again"
        ) from error
    version = attributes.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version!r}, this program reads {FORMAT_VERSION}: "
            "record again"
        )
    return attributes


def sweep_partial_files(path: Path) -> int:
    """Delete the temporary files that a killed writer left in a store, and return how many."""
    leftovers = [*path.rglob("*.partial"), *path.rglob(".*.partial")]
    for leftover in set(leftovers):
        leftover.unlink(missing_ok=True)
    return len(set(leftovers))


def finalise(path: Path) -> None:
    """Mark a recording complete and consolidate its metadata, once all receipts are there."""
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    group.attrs["status"] = "complete"
    with warnings.catch_warnings():
        # Consolidated metadata is an extension that every zarr 3 reader understands.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        # The receipts are plain files, which Zarr steps over.
        warnings.filterwarnings("ignore", message=f"Object at {RECEIPTS}")
        zarr.consolidate_metadata(path)
    sync_file(path / "zarr.json")
