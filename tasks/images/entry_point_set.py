"""Test sets from a Python function that returns a torch dataset of (image, label)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from activarium.schemas.errors import UserError
from activarium.tasks.entry_points import FOREIGN, load_entry_point, one_line
from activarium.tasks.images.array_images import as_image
from activarium.tasks.images.class_labels import class_codes_of, class_names_of
from activarium.tasks.images.labelled_images import TestSet, sampled_colours

if TYPE_CHECKING:
    from activarium.schemas.config import TestSetConfig

HASHED_AT_MOST = 50_000
"""Images at most that are read at the start to hash them; larger sets need a version."""

READ_TWICE = 16
"""Images that are compared with themselves where none are hashed."""

UNDECODABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)
"""What a dataset raises for an image that cannot be decoded; anything else ends the run."""


@dataclass
class EntryPointReader:
    """Calls the function once in each process, and reads one image at a time.

    A dataset that can be read by several threads says so with an attribute `thread_safe = True`.
    """

    reference: str
    folder: Path
    arguments: dict[str, Any]
    digests: tuple[bytes, ...] = ()
    """Of each image as the fingerprint has it; none where images were not hashed."""
    _dataset: Any = None
    _lock: Lock = field(default_factory=Lock)

    @property
    def dataset(self) -> Any:
        """The dataset, made on first use."""
        with self._lock:
            if self._dataset is None:
                self._dataset = self._call()
        return self._dataset

    def _call(self) -> Any:
        setting = "test_set.entry_point"
        function = load_entry_point(self.reference, folder=self.folder, setting=setting)
        try:
            dataset = function(**self.arguments)
        except UserError:
            raise
        except FOREIGN as error:  # the user's own code
            raise UserError(f"{setting}: {self.reference} failed: {one_line(error)}") from error
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise UserError(
                f"{setting}: {self.reference} returned a {type(dataset).__name__}; expected a "
                "dataset with a length and items (image, label)"
            )
        return dataset

    def item(self, row: int) -> tuple[Any, Any]:
        """Return one item, image and label, as the dataset gives it.

        Raises
        ------
        UserError
            If it raises what damaged images do not raise, or gives something else than a pair.
        """
        dataset = self.dataset
        is_safe = bool(getattr(dataset, "thread_safe", False))
        try:
            with nullcontext() if is_safe else self._lock:
                item = dataset[row]
        except UNDECODABLE:
            raise
        except FOREIGN as error:  # the user's own code
            raise UserError(f"{self.reference}: item {row} failed: {one_line(error)}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UserError(
                f"{self.reference}: item {row} is a {type(item).__name__}, expected (image, label)"
            )
        return item[0], item[1]

    def read(self, key: int) -> Image.Image:
        """Return one image.

        Raises
        ------
        UserError
            If it is another one than at the start.
        """
        image = as_image(self.item(key)[0], f"{self.reference}: item {key}")
        if self.digests and _digest(image) != self.digests[key]:
            raise _unsteady(self.reference, key)
        return image

    def __getstate__(self) -> tuple[str, Path, dict[str, Any], tuple[bytes, ...]]:
        return self.reference, self.folder, self.arguments, self.digests

    def __setstate__(self, state: tuple[str, Path, dict[str, Any], tuple[bytes, ...]]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def load_entry_point_set(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return the images of the dataset that a Python function returns.

    Raises
    ------
    UserError
        If the function cannot be called, or returns something else than labelled images.
    """
    del datasets
    try:
        return _load(config)
    except UserError:
        raise
    except FOREIGN as error:  # the user's own code, in whatever the dataset is asked for
        raise UserError(
            f"test_set.entry_point: {config.entry_point} failed: {one_line(error)}"
        ) from error


def _load(config: TestSetConfig) -> TestSet:
    reference = str(config.entry_point)
    # The current folder may be another one in the processes that open the dataset again.
    folder = (config.path or Path.cwd()).resolve()
    reader = EntryPointReader(reference, folder, _arguments(config, folder))
    images = len(reader.dataset)
    if not images:
        raise UserError(f"{reference} returned a dataset without images")
    if config.version is None and images > HASHED_AT_MOST:
        raise UserError(
            f"{reference} has {images:,} images; up to {HASHED_AT_MOST:,} are read at the start to "
            "hash them: set test_set.version to a text that changes when the images change"
        )
    labels, content = _read_labels(reader, images, hashed=config.version is None)
    if config.version is not None:
        _check_steady(reader, images)
    named = _names(getattr(reader.dataset, "classes", None), reference)
    class_names = named or class_names_of(labels, reference, order=config.class_order)
    codes = class_codes_of(labels, class_names, reference)
    parts = [class_names, images, content, hashlib.sha256(codes.data).hexdigest()]
    if config.version is not None:
        parts += [reference, sorted(reader.arguments.items()), config.version]
    test_set = TestSet(
        name=config.name or reference.partition(":")[2],
        split=config.split,
        class_names=class_names,
        ids=tuple(f"{config.split}/{row:06d}" for row in range(images)),
        labels=codes,
        identity=hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest(),
        colours=3,
        reader=reader,
        keys=np.arange(images),
    )
    return replace(test_set, colours=sampled_colours(test_set))


def _names(classes: Any, reference: str) -> tuple[str, ...]:
    """Return a text per class; torchvision's ImageNet has several names for one.

    Parameters
    ----------
    classes
        A sequence of names of any kind: list, array, tensor, pandas' Index; or a dict of codes by
        name, or of names by code. None or empty: there are no names.
    reference
        The function that returned the dataset, for messages.
    """
    if classes is None:
        return ()
    if isinstance(classes, Mapping):
        return _names_by_code(classes, reference)
    is_text = isinstance(classes, str | bytes)
    if is_text or isinstance(classes, AbstractSet) or not hasattr(classes, "__iter__"):
        raise UserError(
            f"{reference}: the dataset's `classes` is a {type(classes).__name__}; expected a list, "
            "tuple or array of names in the order of the class numbers, or a dict of class numbers"
        )
    listed = classes.tolist() if hasattr(classes, "tolist") else list(classes)
    if not isinstance(listed, list):
        raise UserError(f"{reference}: the dataset's `classes` is one value, {listed!r}, no list")
    return tuple(_name(each) for each in listed)


def _name(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_name, value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _names_by_code(classes: Mapping[Any, Any], reference: str) -> tuple[str, ...]:
    """Return the names of a dict such as torchvision's `class_to_idx`, in the order of their codes."""
    pairs = [(_plain(key), _plain(value)) for key, value in classes.items()]
    if not all(isinstance(code, int) for _, code in pairs):
        pairs = [(name, code) for code, name in pairs]
    names = {code: _name(name) for name, code in pairs}
    if len(names) < len(pairs) or set(names) != set(range(len(names))):
        codes = ", ".join(str(code) for _, code in pairs[:8])
        raise UserError(
            f"{reference}: the dataset's `classes` is a dict with the class numbers {codes}; "
            f"expected 0 to {len(pairs) - 1}, one class each"
        )
    return tuple(names[code] for code in range(len(names)))


def _arguments(config: TestSetConfig, folder: Path) -> dict[str, Any]:
    """Return the keyword arguments: the options, and the split where the function takes one."""
    reference, setting = str(config.entry_point), "test_set.entry_point"
    function = load_entry_point(reference, folder=folder, setting=setting)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return dict(config.options)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    unknown = sorted(set(config.options) - set(parameters))
    if unknown and not takes_any:
        raise UserError(
            f"test_set.options: {reference} has no argument {unknown[0]!r}; it has "
            f"{', '.join(parameters) or 'none'}"
        )
    if "split" in config.options:
        return dict(config.options)
    if "split" in parameters:
        return {**config.options, "split": config.split}
    if config.split == "train":
        raise UserError(
            f"{setting}: {reference} has no argument `split`, so it cannot tell training images "
            "from others"
        )
    return dict(config.options)


def _read_labels(reader: EntryPointReader, images: int, *, hashed: bool) -> tuple[list[Any], str]:
    """Return the label of each image, and the sha256 of all images where it is asked for.

    Where images need not be hashed and the dataset has `targets`, no image is read.
    """
    targets = _targets(reader, images)
    if targets is not None and not hashed:
        return targets, ""
    labels, digest = [], hashlib.sha256()
    digests = [b""] * images
    for row in range(images):
        try:
            image, label = reader.item(row)
        except UNDECODABLE:
            labels.append(None if targets is None else targets[row])
            continue
        labels.append(_plain(label))
        if hashed:
            decoded = as_image(image, f"{reader.reference}: item {row}")
            digest.update(f"{row}\0{decoded.mode}\0{decoded.size}\0".encode())
            digest.update(decoded.tobytes())
            digests[row] = _digest(decoded)
    reader.digests = tuple(digests) if hashed else ()
    return labels, digest.hexdigest() if hashed else ""


def _digest(image: Image.Image) -> bytes:
    header = f"{image.mode}\0{image.size}\0".encode()
    return hashlib.blake2b(header + image.tobytes(), digest_size=16).digest()


def _check_steady(reader: EntryPointReader, images: int) -> None:
    """Read the first images twice, where no fingerprint of them tells whether they change."""
    for row in range(min(images, READ_TWICE)):
        try:
            first, second = (_digest(reader.read(row)) for _ in range(2))
        except UNDECODABLE:
            continue
        if first != second:
            raise _unsteady(reader.reference, row)


def _unsteady(reference: str, row: int) -> UserError:
    return UserError(
        f"test_set.entry_point: {reference}: item {row} has other pixels at another reading, as with "
        "a random transform of training; return the same image every time"
    )


def _targets(reader: EntryPointReader, images: int) -> list[Any] | None:
    """Return the dataset's list of labels, as torchvision's datasets have one."""
    targets = getattr(reader.dataset, "targets", None)
    if targets is None or getattr(reader.dataset, "target_transform", None) is not None:
        return None
    if len(targets) != images:
        raise UserError(f"{reader.reference} has {images:,} images but {len(targets):,} targets")
    return [_plain(label) for label in targets]


def _plain(label: Any) -> Any:
    """Return a label of one element as a Python number; others as they are."""
    if isinstance(label, np.ndarray | np.generic | torch.Tensor) and np.ndim(label) == 0:
        return label.item()
    return label
