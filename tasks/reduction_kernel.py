"""Several reductions of a map in one reading of it, on the CPU, compiled by numba.

Each would read the map from memory again, and some need a second map to write to; here a row of
channels is reduced in every way while it lies in the cache.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.layout import Reduction

ORDER: tuple[Reduction, ...] = ("mean", "max", "sd", "active")
"""Order of the kernel's results."""

PARTIAL = 64
"""Positions added up in float32 before their sum goes into a float64."""

THREADED_VALUES = 2**18
"""Values of a map from which it is worth handing images to several threads."""


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _add_row(
    row: NDArray[np.float32], partial: NDArray[np.float32], above: NDArray[np.int32]
) -> None:
    """Add one position. Counts are integers: counting in float32 gives no vector instructions."""
    for channel in range(row.size):
        value = row[channel]
        partial[channel] += value
        above[channel] += np.int32(value > 0)


@njit(nogil=True, cache=True)
def _raise_to_row(row: NDArray[np.float32], largest: NDArray[np.float32]) -> None:
    """Take the larger values; `max` minds NaN and gives no vector instructions."""
    for channel in range(row.size):
        value = row[channel]
        largest[channel] = value if value > largest[channel] else largest[channel]  # noqa: FURB136


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _reduce_rows(
    maps: NDArray[np.float32], results: NDArray[np.float32], *, want_max: bool, want_sd: bool
) -> None:
    """Fill (reduction, image, channel), ordered as `ORDER`, from (image, position, channel)."""
    images, positions, channels = maps.shape
    partial, mean = np.empty(channels, np.float32), np.empty(channels, np.float32)
    total, above = np.empty(channels, np.float64), np.empty(channels, np.int32)
    for image in range(images):
        largest = results[1, image]
        largest[:] = maps[image, 0]
        total[:] = 0
        above[:] = 0
        for first in range(0, positions, PARTIAL):
            partial[:] = 0
            for position in range(first, min(positions, first + PARTIAL)):
                _add_row(maps[image, position], partial, above)
                if want_max:
                    _raise_to_row(maps[image, position], largest)
            for channel in range(channels):
                total[channel] += partial[channel]
        for channel in range(channels):
            mean[channel] = total[channel] / positions
            results[3, image, channel] = above[channel] / positions
        results[0, image] = mean
        if want_sd:
            _fill_sd(maps[image], mean, partial, total, results[2, image])


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _fill_sd(
    maps: NDArray[np.float32],
    mean: NDArray[np.float32],
    partial: NDArray[np.float32],
    total: NDArray[np.float64],
    result: NDArray[np.float32],
) -> None:
    """Fill the standard deviations of one image, whose map is still in the cache."""
    positions, channels = maps.shape
    total[:] = 0
    for first in range(0, positions, PARTIAL):
        partial[:] = 0
        for position in range(first, min(positions, first + PARTIAL)):
            row = maps[position]
            for channel in range(channels):
                difference = row[channel] - mean[channel]
                partial[channel] += difference * difference
        for channel in range(channels):
            total[channel] += partial[channel]
    for channel in range(channels):
        result[channel] = np.sqrt(total[channel] / positions)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "reduce")


def reduce_rows(maps: torch.Tensor, reductions: tuple[Reduction, ...]) -> list[torch.Tensor]:
    """Return several reductions of a map, each (image, channel).

    Parameters
    ----------
    maps
        (image, position, channel), float32, contiguous, on the CPU.
    reductions
        Which, in order.
    """
    rows = maps.numpy()
    images, _, channels = rows.shape
    results = np.empty((len(ORDER), images, channels), np.float32)

    want = {"want_max": "max" in reductions, "want_sd": "sd" in reductions}

    def part(bounds: tuple[int, int]) -> None:
        start, stop = bounds
        _reduce_rows(rows[start:stop], results[:, start:stop], **want)

    threads = min(torch.get_num_threads(), images)
    if threads == 1 or rows.size < THREADED_VALUES:
        part((0, images))
    else:
        edges = [images * thread // threads for thread in range(threads + 1)]
        list(_pool(threads).map(part, pairwise(edges)))
    return [torch.from_numpy(results[ORDER.index(reduction)]) for reduction in reductions]
