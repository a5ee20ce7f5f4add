"""Published sets whose files hold the pixels: digits, MNIST, Fashion-MNIST, SVHN, STL-10."""

from __future__ import annotations

import gzip
from base64 import b85decode
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.images.idx_files import find_idx_pair, read_idx_pair
from activarium.tasks.images.labelled_images import in_memory
from activarium.tasks.images.published_files import (
    find_or_download,
    folder_with,
    read_mat,
    require_split,
    torchvision_download,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.config import TestSetConfig
    from activarium.tasks.images.labelled_images import TestSet

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package dataset-fashion-mnist."""

DIGITS_TEST = (
    "03Za&wI(n?2o^yhlR^ayS^x+UA|wDP1}q*35eSwF0FW6n1Tg%d5`mQ9LMTewutXOm$wJ7YN+2+RU<BA9K#PDN09cL1"
    "01!Y9ppXCsO6UPF5C9^M%n1NeCWHWkxCJ~Trkn}_BmfV|R44?bn9TwbKw;$ofGl86oHuKMk`@6}$UsO!prjZIPyn_I"
    "g<<B26M#z+Y=FQb1qO~n0SWQ~!9lr*6UYe}00ESaAp(RDsP!N-C^;a>M99c!iU9(XB9a3MBBnqsCI%r0s9=GZ$e<Jw"
    "h7w8=g*>DcAO"
)
"""Which digits are tested, a bit each, in base 85: those of scikit-learn's train_test_split with
test_size 0.3, random_state 0, stratified by class."""

DIGIT_CLASSES = tuple(str(digit) for digit in range(10))
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
STL10_CLASSES = (
    "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
)  # fmt: skip
STL10_SHAPE = (3, 96, 96)
"""(colour, column, row), as the files hold them."""


def load_digits(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return scikit-learn's digits, 30 % of each class as the test split."""
    del datasets
    require_split(config, ("train", "test"))
    # Its file, without its code: importing scikit-learn takes longer than all of the rest here.
    package = find_spec("sklearn")
    folder = Path(package.origin).parent if package is not None and package.origin else Path()
    with gzip.open(folder / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    bits = np.frombuffer(b85decode(DIGITS_TEST), np.uint8)
    is_test = np.unpackbits(bits)[: len(table)].astype(bool)
    rows = np.flatnonzero(is_test == (config.split == "test"))
    pixels = np.round(table[rows, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    found = in_memory(config, pixels, table[rows, -1].astype(np.int32), DIGIT_CLASSES)
    return replace(found, ids=tuple(f"digits/{row:04d}" for row in rows))


def load_mnist(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return MNIST from its IDX files."""
    return _load_idx(config, datasets, DIGIT_CLASSES, "MNIST", [])


def load_fashion_mnist(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return Fashion-MNIST from its IDX files; Debian's package holds them."""
    known = [DEBIAN_FASHION_MNIST]
    return _load_idx(config, datasets, FASHION_CLASSES, "FashionMNIST", known)


def _load_idx(
    config: TestSetConfig,
    datasets: Path,
    names: tuple[str, ...],
    own: str,
    known: Sequence[Path],
) -> TestSet:
    require_split(config, ("train", "test"))
    pair = find_or_download(
        config,
        datasets,
        lambda folders: find_idx_pair(folders, config.split),
        base=f"{own}/raw",
        wanted="its IDX files",
        download=torchvision_download(own, train=config.split == "train"),
        known=known,
    )
    images, labels = read_idx_pair(*pair)
    return in_memory(config, images[..., None], labels, names)


def load_svhn(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return the cropped digits of SVHN from `<split>_32x32.mat`; its label 10 is the digit 0."""
    require_split(config, ("train", "test", "extra"))
    name = f"{config.split}_32x32.mat"
    folder = find_or_download(
        config,
        datasets,
        folder_with([name]),
        base="SVHN",
        wanted=name,
        download=torchvision_download("SVHN", split=config.split),
    )
    images, labels = read_mat(folder / name, ["X", "y"])
    if images.ndim != 4 or images.shape[2] != 3 or images.dtype != np.uint8:
        raise UserError(
            f"{folder / name}: expected bytes of (row, column, colour, image) in 'X', got "
            f"{images.dtype} {images.shape}"
        )
    codes = labels.reshape(-1).astype(np.int32)
    codes[codes == 10] = 0
    pixels = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
    return in_memory(config, pixels, codes, DIGIT_CLASSES)


def load_stl10(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return STL-10 from `<split>_X.bin` and `<split>_y.bin`, whose labels begin at 1."""
    require_split(config, ("train", "test"))
    names = [f"{config.split}_X.bin", f"{config.split}_y.bin"]
    folder = find_or_download(
        config,
        datasets,
        folder_with(names),
        base="stl10_binary",
        wanted=" and ".join(names),
        download=torchvision_download("STL10", split=config.split),
    )
    values, labels = (np.fromfile(folder / name, np.uint8) for name in names)
    if len(values) % np.prod(STL10_SHAPE):
        raise UserError(
            f"{folder / names[0]} is damaged: {len(values):,} bytes are no whole number of images "
            f"of {np.prod(STL10_SHAPE):,}"
        )
    pixels = np.ascontiguousarray(values.reshape(-1, *STL10_SHAPE).transpose(0, 3, 2, 1))
    return in_memory(config, pixels, labels.astype(np.int32) - 1, STL10_CLASSES)
