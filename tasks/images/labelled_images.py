"""The test set: labelled images with stable ids and an identity that tells one set from another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from activarium.schemas.errors import UserError
from activarium.tasks.images.conversions import is_grey
from activarium.tasks.images.decoding import UndecodableImageError, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from activarium.schemas.config import TestSetConfig

COLOUR_SAMPLES = 64
"""Images at most that are looked at to tell colour from grey."""

HASHED_IMAGES = 4096
"""Images that are hashed at a time, so that those on disk need not lie in memory at once."""


class ImageReader(Protocol):
    """Reads single images of a source. Several threads may use one; it can be pickled."""

    def read(self, key: Any) -> bytes | Image.Image:
        """Return the file's content, or the image, that the source knows by this key."""
        ...


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
    reader: ImageReader | None = None
    keys: NDArray[np.int64] | None = None
    """What the reader knows each image by, where that is not its id."""
    notes: tuple[str, ...] = ()
    """What there is to say about the set, a line each."""

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
            key = name if self.keys is None else int(self.keys[index])
            content = self.reader.read(key) if self.reader is not None else b""
        except (UserError, UndecodableImageError):
            raise
        except (OSError, KeyError, ValueError) as error:
            raise UndecodableImageError(name, str(error)) from error
        except Exception as error:  # zipfile raises BadZipFile and zlib.error for damaged entries
            raise UndecodableImageError(name, f"{type(error).__name__}: {error}") from error
        return content if isinstance(content, Image.Image) else decode(name, content)


def limited(test_set: TestSet, limit: int | None) -> TestSet:
    """Return a set of this many images, spread evenly over the whole one."""
    if limit is None or limit >= len(test_set):
        return test_set
    chosen = np.linspace(0, len(test_set) - 1, limit).round().astype(np.int64)
    parts = f"{test_set.identity}:{','.join(map(str, chosen))}"
    return replace(
        test_set,
        ids=tuple(test_set.ids[index] for index in chosen),
        labels=test_set.labels[chosen],
        pixels=None if test_set.pixels is None else test_set.pixels[chosen],
        keys=None if test_set.keys is None else test_set.keys[chosen],
        identity=hashlib.sha256(parts.encode()).hexdigest(),
    )


def in_memory(
    config: TestSetConfig,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int32],
    class_names: tuple[str, ...],
) -> TestSet:
    """Return the set of pixels (image, row, column, colour) and labels (image,).

    Raises
    ------
    UserError
        If there are no images, their numbers differ, or a label is no class.
    """
    if len(pixels) != len(labels):
        raise UserError(
            f"test_set: {config.source} {config.split} has {len(pixels):,} images but "
            f"{len(labels):,} labels: are these files of one download?"
        )
    if not len(labels):
        raise UserError(f"test_set: {config.source} {config.split} holds no images")
    check_labels(config, labels, class_names)
    digest = hashlib.sha256(f"{pixels.shape}{class_names}".encode())
    for start in range(0, len(pixels), HASHED_IMAGES):
        digest.update(np.ascontiguousarray(pixels[start : start + HASHED_IMAGES]).data)
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


def check_labels(
    config: TestSetConfig, labels: NDArray[np.int32], class_names: Sequence[str], lowest: int = 0
) -> None:
    """Check that labels are class codes.

    Raises
    ------
    UserError
        If one is below `lowest` or there is no class of its code.
    """
    if labels.min() < lowest or labels.max() >= len(class_names):
        raise UserError(
            f"test_set: {config.source} {config.split} has labels from {labels.min()} to "
            f"{labels.max()}, expected {lowest} to {len(class_names) - 1}: are these its own files?"
        )


def sampled_colours(test_set: TestSet, sample: Iterable[int] | None = None) -> int:
    """Return 3 where one of some images spread over the set is in colour, 1 where all are grey.

    Sets of photographs hold a few grey ones, and one of them may be the first.

    Raises
    ------
    UserError
        If not one image can be decoded.
    """
    if sample is None:
        sample = range(0, len(test_set), -(-len(test_set) // COLOUR_SAMPLES))
    faults: list[str] = []
    modes = _modes(test_set, sample, faults) or _modes(test_set, range(len(test_set)), faults)
    if not modes:
        raise UserError(f"test_set: none of the {len(test_set)} images can be decoded; {faults[0]}")
    return 1 if all(is_grey(mode) for mode in modes) else 3


def _modes(test_set: TestSet, indices: Iterable[int], faults: list[str]) -> set[str]:
    found = set()
    for index in indices:
        try:
            found.add(test_set.image(index).mode)
        except UndecodableImageError as error:
            faults.append(str(error))
    return found
