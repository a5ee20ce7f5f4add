"""CIFAR-10 and CIFAR-100 from their pickled files, which are read without running code."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.images.labelled_images import in_memory
from activarium.tasks.images.published_files import (
    find_or_download,
    folder_with,
    require_split,
    torchvision_download,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import TestSetConfig
    from activarium.tasks.images.labelled_images import TestSet

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def load_cifar10(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return CIFAR-10: `test_batch`, or `data_batch_1` to `data_batch_5`."""
    require_split(config, ("train", "test"))
    wanted = ["test_batch"] if config.split == "test" else [f"data_batch_{n}" for n in range(1, 6)]
    folder = find_or_download(
        config,
        datasets,
        folder_with(wanted[:1]),
        base="cifar-10-batches-py",
        wanted=wanted[0],
        download=torchvision_download("CIFAR10", train=config.split == "train"),
    )
    batches = [_read_batch(folder / name, "labels", "CIFAR-10") for name in wanted]
    pixels = np.concatenate([batch[0] for batch in batches])
    labels = np.concatenate([batch[1] for batch in batches])
    return in_memory(config, pixels, labels, CIFAR10_CLASSES)


def load_cifar100(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return CIFAR-100 with its 100 fine labels, or the 20 coarse ones: `train` or `test`, `meta`.

    The names of the classes are those of `meta`.
    """
    require_split(config, ("train", "test"))
    labels_field = config.label_column or "fine_labels"
    folder = find_or_download(
        config,
        datasets,
        folder_with([config.split, "meta"]),
        base="cifar-100-python",
        wanted=f"{config.split} and meta",
        download=torchvision_download("CIFAR100", train=config.split == "train"),
    )
    pixels, labels = _read_batch(folder / config.split, labels_field, "CIFAR-100")
    names_field = labels_field.removesuffix("s") + "_names"
    names = _read_fields(folder / "meta", "the names of CIFAR-100").get(names_field)
    if not isinstance(names, list):
        raise UserError(f"{folder / 'meta'} has no {names_field!r}: is it CIFAR-100's own file?")
    classes = tuple(each if isinstance(each, str) else each.decode() for each in names)
    return in_memory(config, pixels, labels, classes)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles what CIFAR's files hold, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong into a CIFAR file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_fields(path: Path, what: str) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = _ArraysOnly(stream, encoding="bytes").load()
        # Python 2 wrote the keys as bytes, a copy made with Python 3 has text.
        return {key if isinstance(key, str) else key.decode(): content[key] for key in content}
    except Exception as error:  # a damaged pickle raises nearly anything, MemoryError too
        raise UserError(f"cannot read {path} as {what}: {error}") from error


def _read_batch(
    path: Path, labels_field: str, what: str
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    fields = _read_fields(path, f"a {what} batch")
    try:
        pixels = np.asarray(fields["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = np.asarray(fields[labels_field], np.int32)
    except Exception as error:
        raise UserError(f"cannot read {path} as a {what} batch: {error}") from error
    if len(pixels) != len(labels):
        raise UserError(f"{path}: {len(pixels)} images but {len(labels)} labels")
    return np.ascontiguousarray(pixels), labels
