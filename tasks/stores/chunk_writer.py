"""Chunks: encoded and written several at once, with their checksums taken in memory."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import zarr
from zarr.storage import WrapperStore

from activarium.tasks.stores.checksums import stored_object
from activarium.tasks.stores.plain_chunks import PlainEncoder, is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from zarr import AsyncArray
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

    from activarium.schemas.stored_object import StoredObject
    from activarium.tasks.stores.places import Place


class NotingStore(WrapperStore["Store"]):
    """A store whose chunks go to a place as they are set, each with a note for the receipt.

    A chunk is never read: what was there before, damaged or not, is replaced whole.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place.zarr_store())
        self.place = place
        self.notes: list[StoredObject] = []
        self.encoder = PlainEncoder()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return metadata only."""
        if not key.endswith("zarr.json"):
            return None
        return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        """Note and write a chunk; it blocks, as each thread encodes one chunk after the other."""
        self.write(key, value.as_numpy_array().data)

    def write(self, key: str, content: memoryview) -> None:
        """Note and write the bytes of a chunk."""
        self.notes.append(stored_object(key, content))
        self.place.write(key, content, settle=False)


@dataclass(frozen=True)
class Rows:
    """Rows of an array that fill one row of its chunks."""

    array: str
    first: int
    """Where they begin in the array."""
    values: NDArray[Any]


def write_rows(place: Place, everything: Sequence[Rows]) -> tuple[StoredObject, ...]:
    """Write rows of several arrays, each chunk once, and return what is stored now, by key.

    Parameters
    ----------
    place
        A recording's store.
    everything
        Rows of each array, which begin and end where chunks do.
    """
    store = NotingStore(place)
    with ThreadPoolExecutor(place.threads) as pool:
        with zarr.config.set({"array.write_empty_chunks": True}):
            # Not in this thread: a notebook's already runs an event loop.
            opening = pool.submit(_open_arrays, store, [rows.array for rows in everything])
            arrays = opening.result()
        pending = [
            pool.submit(_write_chunk, store, arrays[rows.array], selection, values)
            for rows in everything
            for selection, values in _chunks(arrays[rows.array], rows)
        ]
        try:
            for each in pending:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    notes = sorted(store.notes, key=lambda note: note.key)
    place.settle(note.key for note in notes)
    return tuple(notes)


def _open_arrays(store: Store, names: Sequence[str]) -> dict[str, AsyncArray[Any]]:
    async def opened() -> dict[str, AsyncArray[Any]]:
        group = await zarr.api.asynchronous.open_group(store, mode="r+")
        return {name: cast("AsyncArray[Any]", await group.getitem(name)) for name in names}

    return asyncio.run(opened())


def _chunks(array: AsyncArray[Any], rows: Rows) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    """Yield the selection and the values of each chunk."""
    steps = zip(array.shape[1:], array.chunks[1:], strict=True)
    columns = [
        [slice(at, min(at + step, size)) for at in range(0, size, step)] for size, step in steps
    ]
    own = slice(rows.first, rows.first + len(rows.values))
    for place in product(*columns):
        yield (own, *place), rows.values[(slice(None), *place)]


def _write_chunk(
    store: NotingStore,
    array: AsyncArray[Any],
    selection: tuple[slice, ...],
    values: NDArray[Any],
) -> None:
    if is_plain(array) and values.dtype == array.dtype:
        steps = zip(selection, array.chunks, strict=True)
        place = tuple(part.start // step for part, step in steps)
        key = f"{array.path}/{array.metadata.encode_chunk_key(place)}"
        store.write(key, store.encoder.encode(array, values))
    else:
        asyncio.run(array.setitem(selection, values))
