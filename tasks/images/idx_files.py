"""IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MOST_BYTES = 4 * 2**30
"""Of one array, which lies in memory."""
UNSIGNED_BYTE = 0x08
PREFIXES = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an IDX file of bytes.

    Raises
    ------
    UserError
        If the file is not IDX, is cut short, or holds more than its header says.

    References
    ----------
    LeCun, Cortes and Burges, The MNIST database, "File formats".
    """
    try:
        with _opened(path) as file:
            header = file.read(4)
            if len(header) < 4 or header[:2] != b"\0\0" or header[2] != UNSIGNED_BYTE:
                raise UserError(f"{path} is no IDX file of bytes: it begins with {header!r}")
            sizes = file.read(4 * header[3])
            if len(sizes) < 4 * header[3]:
                raise UserError(
                    f"{path} is damaged: its header of {4 + 4 * header[3]} bytes is cut after "
                    f"{4 + len(sizes)}"
                )
            shape = tuple(np.frombuffer(sizes, ">u4").astype(int).tolist())
            expected = math.prod(shape)
            if expected > MOST_BYTES:
                raise UserError(f"{path} says that it holds {expected:,} bytes: more than is read")
            # No more than the header says is unpacked, whatever the file unfolds to.
            content = file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if len(content) != expected:
        found = f"{len(content)}" if len(content) < expected else "more"
        raise UserError(
            f"{path} is damaged: expected {expected} bytes for shape {shape}, found {found}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _opened(path: Path) -> BinaryIO:
    packed = path.suffix == ".gz"
    return cast("BinaryIO", gzip.open(path, "rb")) if packed else path.open("rb")


def find_idx_pair(folders: Sequence[Path], split: str) -> tuple[Path, Path] | None:
    """Return the files of images and labels of a split in the first folder that has both."""
    for folder in folders:
        names = (f"{PREFIXES[split]}-images-idx3-ubyte", f"{PREFIXES[split]}-labels-idx1-ubyte")
        found = [
            next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
            for name in names
        ]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return None


def read_idx_pair(
    images_path: Path, labels_path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return images (image, row, column) and labels (image,).

    Raises
    ------
    UserError
        If their numbers differ, or one is damaged.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(
            f"{images_path} and {labels_path} do not belong together: shapes {images.shape} and "
            f"{labels.shape}"
        )
    return images, labels.astype(np.int32)
