"""Reading columns of a recording for chosen images, shard by shard, never a second whole copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from activarium.tasks.stores.recording import Recording


def row_blocks(
    recording: Recording, array: str, columns: slice, row: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield the columns of chosen images, a stored row of chunks at a time.

    Parameters
    ----------
    recording
        A recording.
    array
        Name of an (image, column) array.
    columns
        The columns.
    row
        Rows of the images, shape (chosen,).

    Yields
    ------
    The places in `row` of some images, and their values (image, column).

    Raises
    ------
    UserError
        If an image that could be decoded has no values, or infinite ones.
    """
    images = recording.images
    place = np.full(images, -1, np.int64)
    place[row] = np.arange(len(row))
    step = recording.chunk_rows(array)
    for start in range(0, images, step):
        here = place[start : start + step]
        taken = here >= 0
        if not taken.any():
            continue
        values = recording.block(array, slice(start, start + step), columns)
        found = values if taken.all() else values[taken]
        _check_finite(recording, array, columns, found)
        yield here[taken], found


def read_columns(
    recording: Recording, array: str, columns: slice, row: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return columns of chosen images as (column, image), the images in the order of `row`."""
    found = np.empty((columns.stop - columns.start, len(row)), np.float32)
    for places, values in row_blocks(recording, array, columns, row):
        found[:, places] = values.T
    return found


def column_means(
    recording: Recording, array: str, columns: slice, row: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean of each column over chosen images, shape (column,)."""
    total = np.zeros(columns.stop - columns.start)
    for _, values in row_blocks(recording, array, columns, np.sort(row)):
        _add_rows(values, total)
    return total / max(len(row), 1)


@njit(nogil=True, cache=True)
def _add_rows(values: NDArray[np.float32], total: NDArray[np.float64]) -> None:
    """Add rows one by one, so that the sum does not depend on the shards."""
    for row in range(values.shape[0]):
        for column in range(total.size):
            total[column] += np.float64(values[row, column])


def _check_finite(
    recording: Recording, array: str, columns: slice, values: NDArray[np.float32]
) -> None:
    """Refuse infinite responses, and what a missing chunk reads as: Zarr fills it with NaN."""
    if np.isfinite(values).all():
        return
    infinite = np.isinf(values).any(axis=0)
    if infinite.any():
        names = recording.text("unit" if array.startswith("channel_") else "feature")
        raise UserError(
            f"{recording.place}/{array} holds an infinite response of "
            f"{names[columns.start + int(infinite.argmax())]}, which has no statistics: check the "
            "model's weights and preprocessing, then record again, without that layer or in float32"
        )
    raise UserError(
        f"{recording.place}/{array} lacks values of images that could be decoded: `activarium "
        "verify` names the damaged shard, `activarium record --repair` makes it again"
    )
