"""Storing a shard against `ndarray.tofile` of its chunks, each side flushing every file to disk.

python benchmarks/writing.py [--quick] [--repeats N] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr
from timings import Times, circumstances, table, take_turns
from zarr.codecs import Crc32cCodec

from activarium.schemas.layout import BLOCK_UNITS, RecordingLayout
from activarium.tasks.stores.chunk_writer import Rows, write_rows
from activarium.tasks.stores.files import sync_file
from activarium.tasks.stores.places import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

UNITS = 14_026
"""Units of a ResNet-18."""

OWN = "a shard through the store's writer"


def own_writer(rows: Matrix, folder: Path) -> Callable[[], None]:
    """Return the writing of one shard: crc32c in every chunk, checksums for the receipt."""

    def write() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        place = Folder(folder)
        group = zarr.open_group(place.zarr_store(), mode="w-", zarr_format=3)
        group.create_array(
            "channel_mean",
            shape=rows.shape,
            chunks=(len(rows), BLOCK_UNITS),
            dtype=rows.dtype,
            compressors=[Crc32cCodec()],
            fill_value=np.nan,
        )
        write_rows(place, [Rows("channel_mean", 0, rows)])

    return write


def raw_writer(chunks: Sequence[Matrix], folder: Path, *, threads: int) -> Callable[[], None]:
    """Return the writing of the same chunks as they are, one file each, flushed as ours are."""

    def write_chunk(numbered: tuple[int, Matrix]) -> None:
        number, chunk = numbered
        with (folder / f"{number}.raw").open("wb") as stream:
            np.ascontiguousarray(chunk).tofile(stream)
            stream.flush()
            os.fsync(stream.fileno())

    def write() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write_chunk, enumerate(chunks)))
        sync_file(folder)

    return write


def measure(rows: Matrix, folder: Path, *, repeats: int) -> list[list[str]]:
    """Return the rows of the table."""
    strided = [rows[:, at : at + BLOCK_UNITS] for at in range(0, rows.shape[1], BLOCK_UNITS)]
    ready = [np.ascontiguousarray(chunk) for chunk in strided]
    raw = partial(raw_writer, folder=folder / "raw")
    works = {
        OWN: own_writer(rows, folder / "own.zarr"),
        "tofile, one chunk after the other": raw(ready, threads=1),
        f"tofile, {Folder.threads} threads as ours": raw(ready, threads=Folder.threads),
        "tofile of columns of the same rows, one after the other": raw(strided, threads=1),
    }
    times = take_turns(works, repeats=repeats)
    return [_line(name, each, times[OWN], rows.nbytes) for name, each in times.items()]


def _line(name: str, each: Times, own: Times, size: int) -> list[str]:
    rate = size / 2**20 / each.median
    rates = [each.ratio(own), each.least_ratio(own)] if each is not own else []
    return [name, f"{rate:,.0f} MiB/s", *(f"{ratio:.2f}" for ratio in rates or [1, 1])]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a small shard, to try it")
    parser.add_argument("--folder", default=None, help="on the disk to be measured")
    arguments = parser.parse_args()
    units = 1_024 if arguments.quick else UNITS
    images = RecordingLayout.shard_images_for(4 * units)
    rows = np.random.default_rng(0).normal(size=(images, units)).astype(np.float32)
    print(circumstances("zarr", "numpy"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        lines = measure(rows, Path(folder), repeats=arguments.repeats)
    print(
        f"One shard of {images:,} images x {units:,} units, {rows.nbytes / 2**20:,.0f} MiB, in "
        f"chunks of {images:,} x {BLOCK_UNITS}. Every file and its folder are flushed (fsync) on "
        "both sides.\n"
    )
    headings = ("work", "rate, median", "our rate to it, median", "of the fastest")
    print(table(headings, lines))


if __name__ == "__main__":
    main()
