"""From a stored image to the model's input: colours, size, and normalisation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from activarium.schemas.errors import UserError
from activarium.tasks.images.conversions import conversions_of
from activarium.tasks.images.decoding import UndecodableImageError

if TYPE_CHECKING:
    from collections import Counter

    from numpy.typing import NDArray

    from activarium.schemas.config import Interpolation, PreprocessingConfig, Source
    from activarium.tasks.images.labelled_images import TestSet

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What torchvision's weights were trained with."""

STATISTICS: dict[Source, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.3058,), (0.3236,)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "stl10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
}
"""Mean and standard deviation over all pixels of the training images, where these have one size:
as commonly published for each set. Every other source has ImageNet's."""

DIGITS_SIDE = 32
"""Digits of 8 x 8 pixels are enlarged to this, so that two pooling layers leave a map."""

PART = 8
"""Images that a thread takes at a time: handing over single small ones costs time of its own."""

RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Preprocessing:
    """Everything that decides the model's input; part of the fingerprint."""

    resize: int | None
    """Length of the shorter side before the crop; None where images keep their size."""
    height: int
    width: int
    colours: int
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    is_fixed: bool = True
    """False where no size is configured: then every image must have the first one's size."""
    interpolation: Interpolation = "bilinear"
    squash: bool = False
    """Whether both sides are resized to the same length, and not the shorter one."""


def resolve_preprocessing(
    config: PreprocessingConfig, test_set: TestSet, *, source: Source, colours: int
) -> Preprocessing:
    """Return the preprocessing with everything that was left open filled in.

    Parameters
    ----------
    config
        What is configured.
    test_set
        The images; the first that can be decoded gives the size where none is configured.
    source
        Kind of test set, which gives mean and deviation where none are configured.
    colours
        Channels that the model takes.

    Raises
    ------
    UserError
        If mean or sd have neither one value nor one per colour.
    """
    size = config.size or config.resize or (DIGITS_SIDE if source == "digits" else None)
    if size is not None:
        height = width = size
    else:
        width, height = _first_size(test_set)
    default_mean, default_sd = STATISTICS.get(source, IMAGENET)
    return Preprocessing(
        resize=config.resize or size,
        height=height,
        width=width,
        colours=colours,
        mean=_per_colour("mean", default_mean if config.mean is None else config.mean, colours),
        sd=_per_colour("sd", default_sd if config.sd is None else config.sd, colours),
        is_fixed=size is not None,
        interpolation=config.interpolation or "bilinear",
        squash=bool(config.squash),
    )


def _first_size(test_set: TestSet) -> tuple[int, int]:
    for index in range(len(test_set)):
        try:
            return test_set.image(index).size
        except UndecodableImageError:
            continue
    raise UserError(f"test set {test_set.name}: none of its images can be decoded")


def _per_colour(name: str, values: tuple[float, ...], colours: int) -> tuple[float, ...]:
    if len(values) == colours:
        return values
    if len(values) == 1:
        return values * colours
    if colours == 1 and len(values) == 3:
        return (float(np.mean(values)),)
    raise UserError(
        f"preprocessing.{name}: expected 1 or {colours} values for {colours} colours, got {values}"
    )


def fit_image(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the image as (height, width, colour): colours, shorter side, centre crop.

    Sizes and offsets are rounded as torchvision's `resize` and `center_crop` round them.
    """
    fitted = _with_colours(image, preprocessing.colours)
    height, width = preprocessing.height, preprocessing.width
    wanted = _resized(fitted.size, preprocessing)
    if fitted.size != wanted:
        fitted = fitted.resize(wanted, RESAMPLING[preprocessing.interpolation])
    if fitted.size != (width, height):
        left, top = round((fitted.width - width) / 2), round((fitted.height - height) / 2)
        fitted = fitted.crop((left, top, left + width, top + height))
    return np.asarray(fitted, np.uint8).reshape(height, width, preprocessing.colours)


def _resized(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height of an image of this width and height before the crop."""
    side = preprocessing.resize
    if side is None:
        return size
    if preprocessing.squash:
        return side, side
    (width, height), (shorter, longer) = size, sorted(size)
    resized = side, int(side * longer / shorter)
    return resized if width <= height else resized[::-1]


def _with_colours(image: Image.Image, colours: int) -> Image.Image:
    mode = "L" if colours == 1 else "RGB"
    if image.mode == mode:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        # By mode alone: a scale chosen from the values would brighten dark images only.
        top = 255.0 if image.mode == "F" else 65_535.0
        scaled = np.clip(np.asarray(image, np.float64) / top * 255, 0, 255).round()
        image = Image.fromarray(scaled.astype(np.uint8))
    try:
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        return image.convert(mode)
    except ValueError as error:  # some pairs of modes have no way in Pillow
        raise UndecodableImageError(image.mode, str(error)) from error


def read_images(  # noqa: PLR0913 - what to read, how, and what to count
    test_set: TestSet,
    preprocessing: Preprocessing,
    start: int,
    stop: int,
    *,
    threads: int,
    conversions: Counter[str] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the images from start to stop, and which of them could be decoded.

    Parameters
    ----------
    test_set
        The images.
    preprocessing
        What they are fitted to.
    start, stop
        Range of images.
    threads
        Threads that decode.
    conversions
        Counts, by the kinds of `tasks/images/conversions`, what was done to images; grows here.

    Returns
    -------
    Images (image, height, width, colour), zero where they cannot be decoded, and valid (image,).

    Raises
    ------
    UserError
        If no size is configured and an image's own size differs from the first one's.
    """
    height, width = preprocessing.height, preprocessing.width
    shape = (height, width, preprocessing.colours)
    if test_set.pixels is not None and test_set.pixels.shape[1:] == shape:
        # A copy: torch warns of read-only arrays, and no caller may change the set itself.
        return test_set.pixels[start:stop].copy(), np.ones(stop - start, bool)
    images = np.zeros((stop - start, *shape), np.uint8)
    valid = np.zeros(stop - start, bool)

    def place(indices: range) -> list[str]:
        met: list[str] = []
        for index in indices:
            with suppress(UndecodableImageError):
                image = test_set.image(index)
                _check_size(test_set, index, image, preprocessing)
                images[index - start] = fit_image(image, preprocessing)
                valid[index - start] = True
                met += conversions_of(image, preprocessing.colours)
        return met

    parts = [range(first, min(first + PART, stop)) for first in range(start, stop, PART)]
    if threads == 1:
        met = [place(part) for part in parts]
    else:
        with ThreadPoolExecutor(threads) as pool:
            met = list(pool.map(place, parts))
    if conversions is not None:
        conversions.update(kind for part in met for kind in part)
    return images, valid


def _check_size(
    test_set: TestSet, index: int, image: Image.Image, preprocessing: Preprocessing
) -> None:
    height, width = preprocessing.height, preprocessing.width
    if not preprocessing.is_fixed and image.size != (width, height):
        raise UserError(
            f"image {test_set.ids[index]!r} is {image.width}x{image.height} pixels, the first "
            f"is {width}x{height}: set preprocessing.size (and resize) to bring them to one"
        )


def thumbnail_shape(height: int, width: int, colours: int, side: int) -> tuple[int, int, int]:
    """Return the shape of a thumbnail: at most side x side, aspect kept, never enlarged."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale)), colours


def thumbnails(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return images (image, height, width, colour) reduced to thumbnails by area averages."""
    _, height, width, colours = images.shape
    small = thumbnail_shape(height, width, colours, side)
    if small == (height, width, colours):
        return images
    rows = torch.from_numpy(np.require(images, requirements="W")).permute(0, 3, 1, 2).float()
    reduced = torch.nn.functional.interpolate(rows, size=small[:2], mode="area")
    return reduced.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
