"""Reductions of maps and what lies between them, in one reading, compiled by numba for the CPU.

Each reduction by torch would read the map from memory again, and some need a second map to write
to; so would each batch norm, addition and ReLU between two layers. Here a block of a map goes
through all of it while it lies in the cache.

Several positions lie side by side in a row of lanes, so that maps of few channels fill the vector
registers too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.layout import Reduction

    State = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32], NDArray[np.int32]]
    """Sums of a block (4, lane), totals (stage, 3, lane): sums, centred sums and squares; largest
    values and counts (stage, lane)."""

    Work = tuple[int, NDArray[np.float32], NDArray[np.int64]]
    """Operations, their numbers by lane, what is wanted; see `transform_images`."""

ORDER: tuple[Reduction, ...] = ("mean", "max", "sd", "active")
"""Order of the kernel's results."""

MAX, SD, ACTIVE = 1, 2, 4
"""What is wanted beside the mean, as bits."""

SCALE, ADD, RECTIFY = 1, 2, 4
"""Operations on a map in their order, as bits; after each comes a stage of results."""

STAGES = 4
"""The map itself, scaled, added to, rectified."""

BLOCK_VALUES = 8_192
"""Values of a block: they and the sums of their lanes stay in the first cache."""


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _sum_row(row: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
    for lane in range(row.size):
        sums[lane] += row[lane]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _count_row(
    row: NDArray[np.float32], sums: NDArray[np.float32], above: NDArray[np.int32]
) -> None:
    """Counts are integers: counting in float32 gives no vector instructions."""
    for lane in range(row.size):
        value = row[lane]
        sums[lane] += value
        above[lane] += np.int32(value > 0)


@njit(nogil=True, cache=True)
def _raise_to_row(row: NDArray[np.float32], largest: NDArray[np.float32]) -> None:
    """Take the larger values; `max` minds NaN and gives no vector instructions."""
    for lane in range(row.size):
        value = row[lane]
        largest[lane] = value if value > largest[lane] else largest[lane]  # noqa: FURB136


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _square_row(row: NDArray[np.float32], partial: NDArray[np.float32]) -> None:
    """Add differences to the middle, partial[3], and their squares to partial[1] and [2]."""
    middle, differences, squares = partial[3], partial[1], partial[2]
    for lane in range(row.size):
        difference = row[lane] - middle[lane]
        differences[lane] += difference
        squares[lane] += difference * difference


@njit(nogil=True, cache=True)
def _merge(count: int, mean: float, spread: float, counted: int, total: float) -> float:
    """Return what the squared deviations grow by when values join others (Chan et al. 1979)."""
    if counted == 0:
        return spread
    delta = mean - total / counted
    return spread + delta * delta * counted * count / (counted + count)


@njit(nogil=True, cache=True)
def _spread_block(
    rows: NDArray[np.float32],
    counted: int,
    partial: NDArray[np.float32],
    totals: NDArray[np.float64],
) -> None:
    """Add the squared deviations of a block, whose sums are in partial[0], to totals[2].

    Deviations are from the middle of the block and corrected by their own mean, so that maps far
    from zero lose nothing.
    """
    count, lanes = rows.shape
    for lane in range(lanes):
        partial[3, lane] = partial[0, lane] / np.float32(count)
    partial[1:3, :lanes] = 0
    for row in range(count):
        _square_row(rows[row], partial)
    for lane in range(lanes):
        shift = np.float64(partial[1, lane]) / count
        mean = np.float64(partial[3, lane]) + shift
        spread = max(0.0, np.float64(partial[2, lane]) - count * shift * shift)
        totals[2, lane] += _merge(count, mean, spread, counted, totals[1, lane])
        totals[1, lane] += mean * count


@njit(nogil=True, cache=True)
def _reduce_block(
    rows: NDArray[np.float32], counted: int, wanted: int, stage: int, state: State
) -> None:
    """Add a block (row, lane) to the state of its stage; `counted` rows came before."""
    partial, totals, largest, above = state[0], state[1][stage], state[2][stage], state[3][stage]
    count, lanes = rows.shape
    if counted == 0:
        largest[:lanes] = rows[0]
    partial[0, :lanes] = 0
    for row in range(count):
        if wanted & ACTIVE:
            _count_row(rows[row], partial[0], above)
        else:
            _sum_row(rows[row], partial[0])
        if wanted & MAX:
            _raise_to_row(rows[row], largest)
    if wanted & SD:
        _spread_block(rows, counted, partial, totals)
    for lane in range(lanes):
        totals[0, lane] += partial[0, lane]


@njit(nogil=True, cache=True, error_model="numpy")
def _finish(positions: int, stage: int, state: State, result: NDArray[np.float32]) -> None:
    """Fill (reduction, channel), ordered as `ORDER`, from the lanes of one image."""
    totals, largest, above = state[1][stage], state[2][stage], state[3][stage]
    channels, lanes = result.shape[1], largest.size
    for channel in range(channels):
        total, centred, spread, active, counted = 0.0, 0.0, 0.0, 0, 0
        high = largest[channel]
        for lane in range(channel, lanes, channels):
            count = (positions * channels - lane - 1) // lanes + 1
            mean = totals[1, lane] / count
            spread += _merge(count, mean, totals[2, lane], counted, centred)
            total += totals[0, lane]
            centred += totals[1, lane]
            active += above[lane]
            high = largest[lane] if largest[lane] > high else high  # noqa: FURB136
            counted += count
        result[0, channel] = total / positions
        result[1, channel] = high
        result[2, channel] = np.sqrt(spread / positions)
        result[3, channel] = active / positions


@njit(nogil=True, cache=True, fastmath={"contract"})
def _scale_row(
    row: NDArray[np.float32], scale: NDArray[np.float32], shift: NDArray[np.float32]
) -> None:
    """Multiply and add in one rounding where the processor can, as torch does."""
    for lane in range(row.size):
        row[lane] = row[lane] * scale[lane] + shift[lane]


@njit(nogil=True, cache=True)
def _add_row(row: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    for lane in range(row.size):
        row[lane] += other[lane]


@njit(nogil=True, cache=True)
def _rectify_row(row: NDArray[np.float32], upper: NDArray[np.float32]) -> None:
    """Hold values between 0 and upper; NaN stays."""
    for lane in range(row.size):
        value = row[lane]
        value = np.float32(0) if value < 0 else value
        row[lane] = upper[lane] if value > upper[lane] else value  # noqa: FURB136 - NaN stays


@njit(nogil=True, cache=True)
def _transform_block(
    rows: NDArray[np.float32],
    other: NDArray[np.float32],
    counted: int,
    work: Work,
    state: State,
) -> None:
    """Take a block (row, lane) through the operations, in place, and reduce it at every stage."""
    operations, numbers, wanted = work
    for stage in range(STAGES):
        operation = 1 << (stage - 1) if stage else 0
        if stage and not operations & operation:
            continue
        if operation:
            for row in range(rows.shape[0]):
                if operation == SCALE:
                    _scale_row(rows[row], numbers[0], numbers[1])
                elif operation == ADD:
                    _add_row(rows[row], other[row])
                else:
                    _rectify_row(rows[row], numbers[2])
        if wanted[stage] >= 0:
            _reduce_block(rows, counted, wanted[stage], stage, state)


@njit(nogil=True, cache=True)
def transform_images(
    source: NDArray[np.float32],
    result: NDArray[np.float32],
    other: NDArray[np.float32],
    work: Work,
    reduced: NDArray[np.float32],
) -> None:
    """Take maps through operations and reduce them.

    Parameters
    ----------
    source, result, other
        (image, value), positions after one another with their channels side by side; `result` may
        be `source`. `other` is added.
    work
        Operations as bits; (3, lane): scale, shift and the largest value that rectifying leaves,
        those of the channels repeated for every position of a row; for each stage what is wanted
        as bits, negative where not even the mean is.
    reduced
        Filled, (stage, reduction, image, channel).
    """
    images, values = source.shape
    lanes, wanted = work[1].shape[1], work[2]
    copied = work[0] != 0 and source.ctypes.data != result.ctypes.data
    state = (
        np.empty((4, lanes), np.float32),
        np.empty((STAGES, 3, lanes), np.float64),
        np.empty((STAGES, lanes), np.float32),
        np.empty((STAGES, lanes), np.int32),
    )
    step = lanes * max(1, BLOCK_VALUES // lanes)
    whole = values // lanes * lanes
    for image in range(images):
        state[1][:] = 0
        state[3][:] = 0
        start = 0
        while start < values:
            stop = min(start + step, whole) if start < whole else values
            shape = ((stop - start) // lanes, lanes) if start < whole else (1, values - whole)
            block = result[image, start:stop]
            if copied:
                block[:] = source[image, start:stop]
            added = other[image, start:stop].reshape(shape)
            _transform_block(block.reshape(shape), added, start // lanes, work, state)
            start = stop
        for stage in range(STAGES):
            if wanted[stage] >= 0:
                _finish(values // reduced.shape[3], stage, state, reduced[stage, :, image])
