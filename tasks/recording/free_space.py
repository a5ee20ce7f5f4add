"""Free space: how much a recording needs, asked before it starts and before each shard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.progress import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from activarium.schemas.layout import RecordingLayout, Shard
    from activarium.tasks.progress import Progress
    from activarium.tasks.recording.shard_writer import ShardWriter
    from activarium.tasks.stores.places import Place

MEBIBYTE = 2**20

MUCH_BYTES = 1e9
"""From here on a recording says how large it is before it begins."""

RESERVED_BYTES = MEBIBYTE // 4
"""Left for receipts and metadata, without which nothing of a recording counts."""

BLOCK_BYTES = 4_096
"""A file system gives room to a file in blocks of this size."""


def shard_bytes(layout: RecordingLayout) -> int:
    """Return the bytes that one shard takes at most: its chunks are stored in full."""
    blocks = 0
    for array in layout.shard_arrays():
        sizes = zip(array.shape[1:], array.chunks[1:], strict=True)
        files = [-(-size // length) for size, length in sizes]
        folders = sum(math.prod(files[:depth]) for depth in range(len(files)))
        chunk = math.prod(array.chunks) * np.dtype(array.spec.dtype).itemsize
        blocks += folders + math.prod(files) * (chunk // BLOCK_BYTES + 1)
    return blocks * BLOCK_BYTES


def check_room(place: Place, layout: RecordingLayout, shards: int) -> None:
    """Refuse to begin what does not fit.

    Parameters
    ----------
    place
        The recording's store.
    layout
        Its sizes.
    shards
        How many shards are still to be stored.

    Raises
    ------
    UserError
        If less is free than they take.
    """
    free = place.free_bytes()
    needed = shards * shard_bytes(layout) + RESERVED_BYTES
    if free is not None and free < needed:
        raise UserError(
            f"recording {place.name.removesuffix('.zarr')} needs {_mebibytes(needed, math.ceil)}, "
            f"{_mebibytes(free, math.floor)} are free at {place}: free some or use another --root"
        )


def tell_size(place: Place, layout: RecordingLayout, shards: int, progress: Progress) -> None:
    """Say how much is stored before it begins, where that is much.

    Parameters
    ----------
    place
        The recording's store.
    layout
        Its sizes.
    shards
        How many shards are still to be stored.
    progress
        Where it is said.
    """
    needed = shards * shard_bytes(layout)
    if needed >= MUCH_BYTES:
        parts = f"{shards:,} shards" if shards > 1 else "1 shard"
        tell(
            progress,
            f"{place.name.removesuffix('.zarr')}: {layout.images:,} images x {layout.units:,} units, "
            f"up to {needed / 1e9:.1f} GB in {parts} to store",
        )


def check_shard_fits(
    place: Place, layout: RecordingLayout, shard: Shard, writer: ShardWriter
) -> None:
    """Stop before a shard that does not fit, while the writer stores the one before.

    Raises
    ------
    UserError
        If too little is left.
    """
    free, needed = place.free_bytes(), shard_bytes(layout) + RESERVED_BYTES
    if free is None or free >= needed + shard_bytes(layout):
        return
    writer.finish()
    free = place.free_bytes()
    if free is not None and free < needed:
        raise UserError(
            f"stopped before shard {shard.index} of {place}: it needs "
            f"{_mebibytes(needed, math.ceil)}, {_mebibytes(free, math.floor)} are free; free some, then run the same command again to go on "
            "from the last receipt"
        )


def check_memory(layout: RecordingLayout, free: int | None) -> None:
    """Refuse shards that the memory does not hold; each is filled there before it is stored.

    Parameters
    ----------
    layout
        The recording's sizes.
    free
        Bytes of memory that are free; None where that is not known.

    Raises
    ------
    UserError
        If a shard takes more than is free.
    """
    needed = shard_bytes(layout)
    if free is not None and needed > free:
        fewer = max(1, int(layout.shard_images * free / needed / 2))
        raise UserError(
            f"record.shard_images: a shard of {layout.shard_images:,} images x {layout.units:,} "
            f"units takes {_mebibytes(needed, math.ceil)} of memory, "
            f"{_mebibytes(free, math.floor)} are free: record it in shards of {fewer:,} or less"
        )


def _mebibytes(size: int, rounded: Callable[[float], int]) -> str:
    """Return a size; what is needed is rounded up and what is free down, so that they differ."""
    return f"{rounded(10 * size / MEBIBYTE) / 10:,.1f} MiB"
