"""Which layers hold the responses of an earlier one again, up to rounding.

A pooling over the whole map repeats the channel means of the layer before it, and so do identities
and dropout. Their units are no further evidence of anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.layout import BLOCK_UNITS
from activarium.tasks.stores.column_reading import row_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from activarium.schemas.layers import Layer
    from activarium.tasks.stores.recording import Recording

OF_RANGE = 1e-5
"""Two responses are equal where they differ by at most this share of their unit's range,"""
OF_SIZE = 4 * float(np.finfo(np.float32).eps)
"""and this share of its largest absolute response: the rounding of single precision."""


def duplicate_layers(
    recording: Recording, rows: NDArray[np.int64], units: Mapping[str, Any]
) -> list[str | None]:
    """Return for each layer the earliest layer whose every unit it copies; None for the others.

    Only layers whose units have the same least and largest responses are read. Copies have both
    within the tolerance, so that none is overlooked. The tolerance is each unit's own: one loud
    unit of a layer hides no difference in the others.

    Parameters
    ----------
    recording
        A recording of L layers.
    rows
        The analysed images.
    units
        The columns `response_min` and `response_max` of all units.

    Returns
    -------
    L names or None. Never the name of a layer that is itself a copy, nor for a layer in which no
    unit varies.
    """
    low, high = (_float64(units[name]) for name in ("response_min", "response_max"))
    tolerance = OF_RANGE * (high - low) + OF_SIZE * np.maximum(np.abs(low), np.abs(high))
    found: list[str | None] = []
    originals: list[tuple[str, slice]] = []
    for layer in recording.layers:
        own = recording.layer_slices[layer.name]
        copied = None
        if (high[own] > low[own]).any():
            copied = next(
                (
                    name
                    for name, other in originals
                    if other.stop - other.start == layer.units
                    and _within(low[own], low[other], tolerance[other])
                    and _within(high[own], high[other], tolerance[other])
                    and _are_equal(recording, rows, (other, own), tolerance[other])
                ),
                None,
            )
        found.append(copied)
        if copied is None:
            originals.append((layer.name, own))
    return found


def _float64(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _within(
    own: NDArray[np.floating[Any]],
    other: NDArray[np.floating[Any]],
    tolerance: NDArray[np.float64],
) -> bool:
    return bool((np.abs(_float64(own) - _float64(other)) <= tolerance).all())


def _are_equal(
    recording: Recording,
    rows: NDArray[np.int64],
    layers: tuple[slice, slice],
    tolerance: NDArray[np.float64],
) -> bool:
    """Return whether the units of two layers respond alike to every image, read in blocks."""
    size = len(tolerance)
    for start in range(0, size, BLOCK_UNITS):
        stop = min(start + BLOCK_UNITS, size)
        other, own = (
            row_blocks(
                recording, "channel_mean", slice(each.start + start, each.start + stop), rows
            )
            for each in layers
        )
        pairs = zip(other, own, strict=True)
        if not all(_within(b, a, tolerance[start:stop]) for (_, a), (_, b) in pairs):
            return False
    return True


def original_units(layers: Sequence[Layer], duplicates: Sequence[str | None]) -> NDArray[np.int64]:
    """Return for each unit the place of the one that it repeats, its own where it repeats none.

    Parameters
    ----------
    layers
        The layers in order.
    duplicates
        What `duplicate_layers` found of each.

    Returns
    -------
    Places among all units, shape (unit,).
    """
    sizes = [layer.units for layer in layers]
    starts = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
    start_of = {layer.name: start for layer, start in zip(layers, starts, strict=True)}
    firsts = [
        start_of[layer.name if copied is None else copied]
        for layer, copied in zip(layers, duplicates, strict=True)
    ]
    return np.concatenate(
        [first + np.arange(size) for first, size in zip(firsts, sizes, strict=True)]
    )
