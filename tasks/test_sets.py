"""Test sets: labelled images with stable ids and an identity that tells one set from another."""

from __future__ import annotations

import hashlib
import pickle
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from activarium.schemas.errors import UserError
from activarium.tasks.idx_files import find_idx_pair, read_idx_pair
from activarium.tasks.image_folder import (
    FolderReader,
    UndecodableImageError,
    ZipReader,
    decode,
    identity_of,
    scan,
    select_split,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from activarium.schemas.config import TestSetConfig

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package dataset-fashion-mnist."""

COLOUR_SAMPLES = 64
"""Images of a folder at most that are looked at to tell colour from grey."""

GREY_MODES = {"1", "L", "LA", "F"}
"""Pillow's names of grey images of up to 8 bits or of floats; those of more bits begin with I."""

DIGITS_SEED = 0
DIGITS_TEST_SHARE = 0.3

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
DIGIT_CLASSES = tuple(str(digit) for digit in range(10))

__all__ = ["TestSet", "UndecodableImageError", "load_test_set"]


@dataclass(frozen=True)
class TestSet:
    """A labelled image set. Images lie in memory (`pixels`) or are decoded when asked for."""

    __test__ = False

    name: str
    split: str
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    """Stable id per image: its path in the folder or zip, or its split and index."""
    labels: NDArray[np.int32]
    """Class code per image; -1 where there is none."""
    identity: str
    """sha256 of the images' and labels' identity."""
    colours: int
    """1 for grey images, 3 for colour."""
    pixels: NDArray[np.uint8] | None = None
    """(image, row, column, colour) where all images lie in memory."""
    reader: FolderReader | ZipReader | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        """Return one image.

        Raises
        ------
        UndecodableImageError
            If its file cannot be read or decoded.
        """
        if self.pixels is not None:
            rows = self.pixels[index]
            return Image.fromarray(rows[:, :, 0] if self.colours == 1 else rows)
        name = self.ids[index]
        try:
            content = self.reader.read(name) if self.reader is not None else b""
        except (OSError, KeyError, ValueError) as error:
            raise UndecodableImageError(name, str(error)) from error
        except Exception as error:  # zipfile raises BadZipFile and zlib.error for damaged entries
            raise UndecodableImageError(name, f"{type(error).__name__}: {error}") from error
        return decode(name, content)


def load_test_set(config: TestSetConfig, *, datasets: Path) -> TestSet:
    """Return the configured test set.

    Parameters
    ----------
    config
        Source, path, split, limit.
    datasets
        Folder that downloads go to.

    Raises
    ------
    UserError
        If the files are missing or damaged, or there is no such split.
    """
    load = {
        "digits": _load_digits,
        "mnist": _load_mnist,
        "fashion-mnist": _load_fashion_mnist,
        "cifar10": _load_cifar10,
        "imagefolder": _load_folder,
    }[config.source]
    if config.source != "imagefolder" and config.split not in ("train", "test"):
        raise UserError(f"test_set.split: {config.source} has train and test, got {config.split!r}")
    return _limited(load(config, datasets), config.limit)


def _limited(test_set: TestSet, limit: int | None) -> TestSet:
    if limit is None or limit >= len(test_set):
        return test_set
    chosen = np.linspace(0, len(test_set) - 1, limit).round().astype(np.int64)
    parts = f"{test_set.identity}:{','.join(map(str, chosen))}"
    return replace(
        test_set,
        ids=tuple(test_set.ids[index] for index in chosen),
        labels=test_set.labels[chosen],
        pixels=None if test_set.pixels is None else test_set.pixels[chosen],
        identity=hashlib.sha256(parts.encode()).hexdigest(),
    )


def _in_memory(
    config: TestSetConfig,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int32],
    class_names: tuple[str, ...],
) -> TestSet:
    if not len(labels):
        raise UserError(f"test_set: {config.source} {config.split} holds no images")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise UserError(
            f"test_set: {config.source} {config.split} has labels from {labels.min()} to "
            f"{labels.max()}, expected 0 to {len(class_names) - 1}: are these its own files?"
        )
    digest = hashlib.sha256(f"{pixels.shape}{class_names}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    digest.update(np.ascontiguousarray(labels).data)
    return TestSet(
        name=config.name or config.source,
        split=config.split,
        class_names=class_names,
        ids=tuple(f"{config.split}/{index:05d}" for index in range(len(labels))),
        labels=labels,
        identity=digest.hexdigest(),
        colours=pixels.shape[3],
        pixels=pixels,
    )


def _load_digits(config: TestSetConfig, datasets: Path) -> TestSet:
    del datasets
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, test = train_test_split(
        np.arange(len(digits.target)),
        test_size=DIGITS_TEST_SHARE,
        random_state=DIGITS_SEED,
        stratify=digits.target,
    )
    rows = np.sort(train if config.split == "train" else test)
    pixels = np.round(digits.images[rows] * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target[rows].astype(np.int32)
    found = _in_memory(config, pixels, labels, DIGIT_CLASSES)
    return replace(found, ids=tuple(f"digits/{row:04d}" for row in rows))


def _load_mnist(config: TestSetConfig, datasets: Path) -> TestSet:
    return _load_idx(config, datasets, DIGIT_CLASSES, "MNIST", [])


def _load_fashion_mnist(config: TestSetConfig, datasets: Path) -> TestSet:
    known = [DEBIAN_FASHION_MNIST]
    return _load_idx(config, datasets, FASHION_CLASSES, "FashionMNIST", known)


def _load_idx(
    config: TestSetConfig, datasets: Path, names: tuple[str, ...], own: str, known: list[Path]
) -> TestSet:
    home = datasets / config.source
    roots = [config.path] if config.path is not None else [*known, home]
    folders = [each for root in roots for each in (root, root / own / "raw")]
    pair = find_idx_pair(folders, config.split)
    if pair is None:
        _download(own, config, home, folders)
        pair = find_idx_pair([home / own / "raw"], config.split)
    if pair is None:
        raise UserError(f"test_set: the download of {config.source} brought no IDX files")
    images, labels = read_idx_pair(*pair)
    return _in_memory(config, images[..., None], labels, names)


def _download(own: str, config: TestSetConfig, home: Path, looked: list[Path]) -> None:
    import torchvision

    places = ", ".join(str(folder) for folder in looked)
    advice = f"looked in {places}; set test_set.path to the folder that holds its files"
    if not config.download or config.path is not None:
        raise UserError(f"test_set: no files of {config.source}: {advice}")
    try:
        load: Callable[..., Any] = getattr(torchvision.datasets, own)
        load(home, train=config.split == "train", download=True)
    except (RuntimeError, OSError, EOFError, HTTPException) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"test_set: the download of {config.source} failed ({reason}); {advice}"
        ) from error


def _load_cifar10(config: TestSetConfig, datasets: Path) -> TestSet:
    home = datasets / config.source
    root = config.path or home
    folders = [root, root / "cifar-10-batches-py"]
    wanted = ["test_batch"] if config.split == "test" else [f"data_batch_{n}" for n in range(1, 6)]
    folder = next((each for each in folders if (each / wanted[0]).is_file()), None)
    if folder is None:
        _download("CIFAR10", config, home, folders)
        folder = home / "cifar-10-batches-py"
    batches = [_read_cifar_batch(folder / name) for name in wanted]
    pixels = np.concatenate([batch[0] for batch in batches])
    labels = np.concatenate([batch[1] for batch in batches])
    return _in_memory(config, pixels, labels, CIFAR10_CLASSES)


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


def _read_cifar_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    try:
        with path.open("rb") as stream:
            batch = _ArraysOnly(stream, encoding="bytes").load()
        # Python 2 wrote the keys as bytes, a copy made with Python 3 has text.
        fields = {key if isinstance(key, str) else key.decode(): batch[key] for key in batch}
        pixels = np.asarray(fields["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = np.asarray(fields["labels"], np.int32)
    except Exception as error:  # a damaged pickle raises nearly anything, MemoryError too
        raise UserError(f"cannot read {path} as a CIFAR-10 batch: {error}") from error
    if len(pixels) != len(labels):
        raise UserError(f"{path}: {len(pixels)} images but {len(labels)} labels")
    return np.ascontiguousarray(pixels), labels


def _load_folder(config: TestSetConfig, datasets: Path) -> TestSet:
    del datasets
    if config.path is None:
        raise UserError("test_set.path: imagefolder needs the folder or zip of the images")
    entries, class_names = select_split(config.path, scan(config.path), config.split)
    is_folder = config.path.is_dir()
    reader = FolderReader(config.path) if is_folder else ZipReader(config.path)
    codes = {name: code for code, name in enumerate(class_names)}
    test_set = TestSet(
        name=config.name or (config.path.name if is_folder else config.path.stem),
        split="all" if config.split == "." else config.split,
        class_names=class_names,
        ids=tuple(entry.name for entry in entries),
        labels=np.array([codes[entry.label] for entry in entries], np.int32),
        identity=identity_of(entries, reader, hash_content=config.hash_content),
        colours=3,
        reader=reader,
    )
    return replace(test_set, colours=_colours(test_set))


def _colours(test_set: TestSet) -> int:
    """Return 3 where one of some images spread over the set is in colour, 1 where all are grey.

    Sets of photographs hold a few grey ones, and one of them may be the first.
    """
    spread = range(0, len(test_set), -(-len(test_set) // COLOUR_SAMPLES))
    modes = _modes(test_set, spread) or _modes(test_set, range(len(test_set)))
    if not modes:
        raise UserError(f"test_set: none of the {len(test_set)} images can be decoded")
    return 1 if all(mode in GREY_MODES or mode.startswith("I") for mode in modes) else 3


def _modes(test_set: TestSet, indices: Iterable[int]) -> set[str]:
    found = set()
    for index in indices:
        with suppress(UndecodableImageError):
            found.add(test_set.image(index).mode)
    return found
