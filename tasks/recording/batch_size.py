"""How many images go through the model at once: by rule, by trial, or fewer when memory ends."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.device_errors import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import nn

SMALL_SIDE = 64
"""Images of up to SMALL_SIDE x SMALL_SIDE pixels are small."""

SMALL_BATCH = 256
"""Small images per forward pass on the CPU."""

LEAST_BATCH = 4
"""Images per forward pass at least, by rule; memory may ask for fewer."""

CUDA_FACTOR = 8
"""A GPU is given this many times the images of a CPU."""

LARGE_PIXELS = 1_000_000
"""Images of more pixels are looked at before they are run through the model."""

LARGEST_TRIED = 8_192
RISE = 1.05
"""A larger batch has to be faster by this factor to be taken."""

TIMED_RUNS = 2


def default_batch_size(height: int, width: int, device_type: str) -> int:
    """Return the images per forward pass that follow from the size of the input.

    A power of two, such that the pixels of a batch stay about the same; the same on every machine,
    because it decides the last bits of the numbers.

    >>> default_batch_size(32, 32, "cpu"), default_batch_size(224, 224, "cpu")
    (256, 32)
    """
    pixels = height * width
    batch = SMALL_BATCH
    while batch > LEAST_BATCH and batch * pixels >= 2 * SMALL_BATCH * SMALL_SIDE**2:
        batch //= 2
    return batch * CUDA_FACTOR if device_type == "cuda" else batch


def check_one_image(model: nn.Module, inputs: torch.Tensor, free: int | None) -> None:
    """Refuse images so large that what the layers return of one does not fit into memory.

    The system would end this process, and others beside it, without a word. Usual images are let
    through; of others the sizes are told by a pass without values.

    Parameters
    ----------
    model
        The model, on the CPU.
    inputs
        One image as input (image, colour, row, column).
    free
        Bytes of memory that are free; None where that is not known.

    Raises
    ------
    UserError
        If it does not fit.
    """
    if free is None or inputs.shape[2] * inputs.shape[3] <= LARGE_PIXELS:
        return
    needed = 0

    def count(module: nn.Module, given: Any, returned: Any) -> None:
        nonlocal needed
        del module, given
        if isinstance(returned, torch.Tensor):
            needed += returned.numel() * returned.element_size()

    try:
        empty = deepcopy(model).to("meta")
        for module in empty.modules():
            if not any(True for _ in module.children()):
                module.register_forward_hook(count)
        with torch.inference_mode():
            empty(torch.empty(inputs.shape, device="meta"))
    except Exception:  # noqa: BLE001 - what needs values tells nothing without them
        return
    if needed > free:
        raise UserError(
            f"preprocessing.size: what the layers return of one image of {inputs.shape[3]:,}x"
            f"{inputs.shape[2]:,} pixels takes {math.ceil(needed / 2**30):,} GiB of memory, "
            f"{math.floor(free / 2**30):,} GiB are free: use a smaller one"
        )


def even_batch_size(size: int, shard_images: int) -> int:
    """Return the batch size that takes a shard in as many passes, all about equally large.

    A compiled graph runs a smaller last batch at the cost of a full one.

    >>> even_batch_size(256, 834)
    209
    """
    passes = -(-shard_images // size)
    return -(-shard_images // passes)


def find_batch_size(
    opened: Callable[[int], AbstractContextManager[Callable[[], None]]],
    *,
    first: int,
    most: int,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Return the fastest number of images per forward pass that fits the memory.

    It is doubled while the images per second rise by at least RISE.

    Parameters
    ----------
    opened
        Opens what runs one batch of so many images to its end; once per size, since a compiled
        graph is compiled for each.
    first
        The smallest that is tried, halved only where even that does not fit.
    most
        There are no more images than this in a shard.
    clock
        Seconds since some moment.

    Raises
    ------
    UserError
        If not even one image fits.
    """
    size, best, best_rate = max(1, min(first, most)), 0, 0.0
    while True:
        rate = _rate(opened, size, clock)
        if rate is None:
            if best:
                return best
            size = halved(size)
            continue
        if best and rate < best_rate * RISE:
            return best
        best, best_rate = size, rate
        if size * 2 > min(most, LARGEST_TRIED):
            return best
        size *= 2


def _rate(
    opened: Callable[[int], AbstractContextManager[Callable[[], None]]],
    size: int,
    clock: Callable[[], float],
) -> float | None:
    """Return images per second; None where the batch does not fit."""
    try:
        with opened(size) as run:
            run()  # compiles and fills caches
            times = []
            for _ in range(TIMED_RUNS):
                began = clock()
                run()
                times.append(clock() - began)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        return size / max(min(times), 1e-9)
    release_memory()
    return None


def halved(size: int) -> int:
    """Return half of a batch that did not fit.

    Raises
    ------
    UserError
        If it was one image.
    """
    if size == 1:
        raise UserError(
            "out of memory with a batch of one image: use a smaller preprocessing.size, fewer "
            "record.layers, or another device"
        )
    return size // 2


def release_memory() -> None:
    """Give memory that torch keeps for later back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
