"""Effects of units under permuted labels: one set of permutations, shared by all units.

The labels are permuted, not the responses, and every unit meets the same permutations, so that
units stay as dependent as they are. Most of the time goes into adding responses to the sums of their
permuted classes. They are laid out image by image, so that one instruction adds many units; a tile
of images stays in the cache while all permutations of a batch pass over it. The sums are of whole
numbers: as fast as float32, but without loss, so that equal responses stay equal in every sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.class_order import class_codes
from activarium.tasks.statistics.testing.label_permutations import checked_seed, permuted_labels

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_WIDTH = 128
_LEAST_TILE, _LARGEST_TILE = 512, 8192
_LABEL_BYTES = 64_000_000
_TOTAL_BYTES = 32_000_000
_STRIP = 64
_CACHE_LINE_BYTES = 64
_LARGEST_SUM = (1 << 31) - 1


class Effects(NamedTuple):
    """Share of each unit's variance that the classes explain, eta squared, in [0, 1]."""

    observed: NDArray[np.float64]
    """With the true labels, shape (unit,)."""
    permuted: NDArray[np.float32]
    """With each permutation of the labels, shape (unit, permutation)."""


@njit(nogil=True, cache=True)
def _number_by_appearance(
    code: NDArray[np.int64], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return classes renumbered by their first image, and their counts, without empty ones.

    Sums over classes then run in an order that names of classes do not change.
    """
    number = np.full(n_classes, -1, np.int64)
    count = np.zeros(n_classes, np.int64)
    label = np.empty(code.size, np.int64)
    found = 0
    for i in range(code.size):
        if number[code[i]] < 0:
            number[code[i]] = found
            found += 1
        label[i] = number[code[i]]
        count[label[i]] += 1
    return label, count[:found]


@njit(nogil=True, cache=True)
def _between(sums: NDArray[np.float64], count: NDArray[np.int64]) -> float:
    """Return the sum of squares between classes from the classes' sums about any one value."""
    mean = sums.sum() / count.sum()
    between = 0.0
    for c in range(count.size):
        deviation = sums[c] - count[c] * mean
        between += deviation * deviation / count[c]
    return between


@njit(nogil=True, cache=True)
def _observe(
    responses: NDArray[np.float32],
    label: NDArray[np.int64],
    count: NDArray[np.int64],
    step: int,
    grid: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return eta squared; fill grid (3, unit): mean, steps per response, sum of squares in steps.

    The steps are so fine that the deviations of a tile of `step` images just add up to an int32.
    A constant unit has 0 steps.
    """
    units, images = responses.shape
    observed = np.zeros(units)
    sums = np.empty(count.size)
    for unit in range(units):
        low, high, mean = np.inf, -np.inf, 0.0
        for i in range(images):
            x = np.float64(responses[unit, i])
            low, high, mean = min(low, x), max(high, x), mean + x
        mean /= images
        squares, residue, largest = 0.0, 0.0, 0.0
        sums[:] = 0.0
        for start in range(0, images, step):
            size = 0.0
            for i in range(start, min(start + step, images)):
                deviation = np.float64(responses[unit, i]) - mean
                squares += deviation * deviation
                residue += deviation
                size += abs(deviation)
                sums[label[i]] += deviation
            largest = max(largest, size)
        squares -= residue * residue / images
        if low < high:
            steps = (_LARGEST_SUM - step) / largest
            grid[0, unit], grid[1, unit], grid[2, unit] = mean, steps, squares * steps * steps
            observed[unit] = min(_between(sums, count) / squares, 1.0)
    return observed


@njit(nogil=True, cache=True)
def _fill_tile(
    responses: NDArray[np.float32],
    start: int,
    grid: NDArray[np.float64],
    tile: NDArray[np.int32],
) -> None:
    """Fill tile (image, unit) with deviations from the mean in steps, for images from `start`."""
    strip = np.empty(_STRIP, np.int32)
    for first in range(0, tile.shape[0], _STRIP):
        # Read along images, write along units: a strip of both stays in the first cache.
        stop = min(first + _STRIP, tile.shape[0])
        for unit in range(responses.shape[0]):
            mean, steps = grid[0, unit], grid[1, unit]
            for i in range(stop - first):
                x = np.float64(responses[unit, start + first + i])
                strip[i] = np.int32(np.rint((x - mean) * steps))
            for i in range(stop - first):
                tile[first + i, unit] = strip[i]


@njit(nogil=True, cache=True)
def _add_tile(
    tile: NDArray[np.int32],
    label: NDArray[np.unsignedinteger[Any]],
    sums: NDArray[np.int32],
    total: NDArray[np.float64],
) -> None:
    """Add the tile's sums by class to total (permutation, class, unit); `sums` is scratch.

    All are whole numbers, those of float64 too, so that no order of adding changes a sum.
    """
    for p in range(label.shape[0]):
        sums[:] = 0
        for i in range(tile.shape[0]):
            c = label[p, i]
            # A constant number of turns, which the compiler turns into vectors.
            for unit in range(_WIDTH):
                sums[c, unit] += tile[i, unit]
        for c in range(sums.shape[0]):
            for unit in range(_WIDTH):
                total[p, c, unit] += sums[c, unit]


@njit(nogil=True, cache=True)
def _fill_effects(
    total: NDArray[np.float64],
    count: NDArray[np.int64],
    squares: NDArray[np.float64],
    permuted: NDArray[np.float32],
) -> None:
    """Fill permuted (unit, permutation) from sums by class and each unit's sum of squares."""
    images = np.float64(count.sum())
    mean = np.empty(_WIDTH)
    between = np.empty(_WIDTH)
    for p in range(permuted.shape[1]):
        mean[:] = 0.0
        between[:] = 0.0
        for c in range(count.size):
            for unit in range(_WIDTH):
                mean[unit] += total[p, c, unit]
        # Deviations rounded to steps add up to nearly 0 only: what is left belongs to no class.
        mean /= images
        for c in range(count.size):
            size, share = np.float64(count[c]), 1.0 / count[c]
            for unit in range(_WIDTH):
                deviation = total[p, c, unit] - size * mean[unit]
                between[unit] += share * (deviation * deviation)
        for unit in range(permuted.shape[0]):
            if squares[unit] > 0:
                permuted[unit, p] = np.float32(min(between[unit] / squares[unit], 1.0))


class _Shared(NamedTuple):
    """What all batches share, sums as scratch memory; `_WIDTH` units go through at a time."""

    class_size: NDArray[np.int64]
    """Images per class."""
    grid: NDArray[np.float64]
    """As `_observe` fills it."""
    tile: NDArray[np.int32]
    """(image, unit of a pass)."""
    sums: NDArray[np.int32]
    """(class, unit of a pass)."""
    total: NDArray[np.float64]
    """(permutation, class, unit of a pass)."""


def _aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros that begin at a cache line: vectors across two lines cost half the speed."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


def _batch_size(images: int, classes: int, label_bytes: int) -> int:
    """Return the permutations whose labels and sums fit into the memory set aside."""
    by_label = _LABEL_BYTES // (images * label_bytes)
    by_total = _TOTAL_BYTES // (classes * _WIDTH * 8)
    return max(min(by_label, by_total), 1)


def _tile_images(images: int, classes: int) -> int:
    """Return the images per tile; more for many classes, as each tile adds all their sums up."""
    return min(max(_LEAST_TILE, 16 * classes), _LARGEST_TILE, images)


def _share(
    count: NDArray[np.int64], grid: NDArray[np.float64], images: int, permutations: int
) -> _Shared:
    return _Shared(
        count,
        grid,
        _aligned((_tile_images(images, count.size), _WIDTH), np.int32),
        _aligned((count.size, _WIDTH), np.int32),
        _aligned((permutations, count.size, _WIDTH), np.float64),
    )


def _permute_batch(
    responses: NDArray[np.float32],
    label: NDArray[np.unsignedinteger[Any]],
    shared: _Shared,
    permuted: NDArray[np.float32],
) -> None:
    """Fill permuted (unit, permutation) for labels (permutation, image)."""
    count, grid, tile, sums, total = shared
    images, step = responses.shape[1], len(tile)
    total = total[: len(label)]
    for first in range(0, responses.shape[0], _WIDTH):
        units = slice(first, first + _WIDTH)
        tile[:] = 0
        total[:] = 0.0
        for start in range(0, images, step):
            part = tile[: min(step, images - start)]
            _fill_tile(responses[units], start, grid[:, units], part)
            _add_tile(part, label[:, start : start + step], sums, total)
        _fill_effects(total, count, grid[2, units], permuted[units])


def permuted_effects(  # noqa: PLR0913 - one argument for each thing that a permutation depends on
    responses: NDArray[np.float32],
    code: NDArray[np.integer],
    n_classes: int,
    *,
    permutations: int,
    seed: int,
    place: NDArray[np.int64] | None = None,
) -> Effects:
    """Return how much variance the classes explain, as labelled and under permuted labels.

    Eta squared, the sum of squares between classes over the total one; for one number of images
    and classes it orders like the F of an analysis of variance. 0, with true and permuted labels,
    for constant units, for fewer than two classes with images, and for no more images than classes
    with images.

    A permutation depends on `seed`, its number and the number of images only: it is the same for
    all units, however they are split into blocks, if `place` gives the images one order. The true labels'
    effect is computed in float64. For permuted labels the responses are rounded to steps of 2^-31 of
    the deviations of at most 8,192 images added up, which keeps the relative error near 1e-7. The
    kernels hold no lock, so threads run blocks side by side. Beside the result, memory is needed
    for the permuted labels of a batch of permutations and sums, together at most about 100 MB.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32.
    code
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    permutations
        Number of permutations.
    seed
        Seed of the permutations, from 0 to 2^64 - 1.
    place
        Place of each image among those that are permuted, shape (image,); by default as they are.

    Returns
    -------
    Effects with the true labels (unit,) and the permuted ones (unit, permutation).

    Raises
    ------
    ValueError
        Where a class code is out of range, shapes or types do not fit, or `permutations` or `seed`
        is out of range.

    References
    ----------
    Pitman (1938), Significance tests which may be applied to samples from any populations: III. The
    analysis of variance test.
    """
    if permutations < 0:
        raise ValueError(f"permutations must be 0 or more, got {permutations}")
    checked_seed(seed)
    codes = class_codes(code, responses, n_classes)
    units, images = responses.shape
    order = np.arange(images) if place is None else place
    in_place = np.empty_like(codes)
    in_place[order] = codes
    label, count = _number_by_appearance(in_place, n_classes)
    permuted = np.zeros((units, permutations), np.float32)
    if count.size < 2 or images <= count.size:
        return Effects(np.zeros(units), permuted)
    grid = np.zeros((3, units))
    observed = _observe(responses, label[order], count, _tile_images(images, count.size), grid)
    narrow: NDArray[np.unsignedinteger[Any]]
    narrow = label.astype(np.min_scalar_type(count.size - 1))
    step = min(_batch_size(images, count.size, narrow.itemsize), max(permutations, 1))
    shared = _share(count, grid, images, step)
    for first in range(0, permutations, step):
        size = min(step, permutations - first)
        labels = permuted_labels(narrow, seed=seed, first=first, size=size)
        labels = labels if place is None else np.take(labels, place, axis=1)
        _permute_batch(responses, labels, shared, permuted[:, first : first + size])
    return Effects(observed, permuted)
