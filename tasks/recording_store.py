"""Recordings on disk: create the store whole, fill shards, read receipts, finalise, open.

`create -> write_shard(i) -> finalise`: each shard is safe to repeat, and only receipts count as
progress, because missing chunks read as fill values without a word.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.codecs import Crc32cCodec, ZstdCodec

from activarium.schemas.errors import UserError
from activarium.schemas.layout import (
    FORMAT_VERSION,
    RECEIPTS,
    STORE_RECEIPT,
    PlacedArray,
    RecordingLayout,
    Shard,
)
from activarium.schemas.receipts import ShardReceipt, StoredObject, StoreReceipt
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
    fixed: dict[str, Any] = {"format_version": FORMAT_VERSION, "status": "recording"}
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
                stored_array = cast("zarr.Array[Any]", group[array.spec.name])
                stored_array[shard.start : shard.stop] = rows
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
    """Return all receipts of a recording in the order of their shards, as they were written.

    Raises
    ------
    UserError
        If one cannot be read.
    """
    receipts = []
    for file in sorted((path / RECEIPTS).glob("shard-*.json")):
        try:
            receipts.append(ShardReceipt.model_validate_json(file.read_bytes()))
        except ValidationError as error:
            raise UserError(
                f"{file} cannot be read: delete it and record again, only its shard is repeated"
            ) from error
    return receipts


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
    except (ValueError, KeyError, TypeError) as error:
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
    """Mark a recording complete, once all shards have their receipts.

    The metadata is consolidated, and what the shards' receipts do not list gets a receipt of its
    own. The status changes last and in one step: whoever is stopped before leaves a recording
    that is finalised again.
    """
    _consolidate(path)
    content = _with_status(path, "complete")
    listed = [_stored_object(path, key) for key in _keys_beside_chunks(path)]
    digest = hashlib.sha256(content).hexdigest()
    listed.append(StoredObject(key="zarr.json", size=len(content), sha256=digest))
    fingerprint = read_attributes(path)["fingerprint"]
    receipt = StoreReceipt(fingerprint=fingerprint, objects=tuple(listed))
    write_bytes(path / STORE_RECEIPT, (receipt.model_dump_json(indent=1) + "\n").encode())
    write_bytes(path / "zarr.json", content)


def is_final(path: Path) -> bool:
    """Return whether a recording is complete, with the receipt that `finalise` writes."""
    complete = read_attributes(path)["status"] == "complete"
    return complete and (path / STORE_RECEIPT).is_file()


def reopen(path: Path) -> None:
    """Mark a complete recording as being recorded, in one step, before a shard is made again."""
    if read_attributes(path)["status"] == "complete":
        write_bytes(path / "zarr.json", _with_status(path, "recording"))


def _with_status(path: Path, status: Literal["recording", "complete"]) -> bytes:
    root = json.loads((path / "zarr.json").read_bytes())
    root["attributes"]["status"] = status
    return (json.dumps(root, indent=2) + "\n").encode()


def _consolidate(path: Path) -> None:
    with warnings.catch_warnings():
        # Consolidated metadata is an extension that every zarr 3 reader understands.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        # The receipts are plain files, which Zarr steps over.
        warnings.filterwarnings("ignore", message=f"Object at {RECEIPTS}")
        zarr.consolidate_metadata(path)


def _keys_beside_chunks(path: Path) -> list[str]:
    """Return the keys of arrays' metadata, coordinates' chunks and shard receipts."""
    chunks = {stored.key for receipt in read_receipts(path) for stored in receipt.objects}
    files = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    keys = {file.relative_to(path).as_posix() for file in files}
    return sorted(keys - chunks - {STORE_RECEIPT, "zarr.json"})
