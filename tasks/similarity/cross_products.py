"""Products of the units of layers over all images: X^T Y, panel by panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from activarium.tasks.similarity.centred_responses import Centred

    Matrix = NDArray[np.float64]

PANEL_UNITS = 2_048
"""Units of several layers that are multiplied at once: their products take 32 MiB."""
WHOLE_UNITS = 4_096
"""A layer of up to so many units is never divided."""

_BLOCK_VALUES = 2**22
_LEAST_IMAGES, _MOST_IMAGES = 256, 2_048
"""Images of a block: some 32 MiB of each side, but enough that the products take most of the time."""
_VECTOR_BLOCK = 2**16


class Part(NamedTuple):
    """Some units of one layer in a panel."""

    layer: int
    """Place of the layer among those that are compared."""
    start: int
    stop: int
    is_whole: bool
    """Whether these are all units of the layer."""


Panel = tuple[Part, ...]


def divide(
    units: Sequence[int], *, most: int = PANEL_UNITS, whole: int = WHOLE_UNITS
) -> list[Panel]:
    """Return panels that cover every unit of every layer once, in order.

    Parameters
    ----------
    units
        Units of each layer.
    most
        Units of a panel at most, where it holds more than one layer.
    whole
        Units of a layer at most that is a panel of its own; a larger one is divided into panels
        of `most`.
    """
    panels: list[Panel] = []
    taken = most
    for layer, size in enumerate(units):
        if size > whole:
            starts = range(0, size, most)
            panels += [(Part(layer, each, min(each + most, size), False),) for each in starts]
            taken = most
        elif taken + size > most:
            panels.append((Part(layer, 0, size, True),))
            taken = size
        else:
            panels[-1] = (*panels[-1], Part(layer, 0, size, True))
            taken += size
    return panels


def _units_of(panel: Panel) -> int:
    return sum(part.stop - part.start for part in panel)


def _units_read(layers: Mapping[int, Centred], panel: Panel) -> int:
    """Return the units that are read for a panel: all of a layer that is divided."""
    return sum(layers[part.layer].units for part in panel)


def part_slices(panel: Panel) -> list[slice]:
    """Return the columns of each part in the products of its panel."""
    stops = np.cumsum([part.stop - part.start for part in panel]).tolist()
    return [slice(*each) for each in zip([0, *stops[:-1]], stops, strict=True)]


def panel_products(
    first: Mapping[int, Centred], panel: Panel, second: Mapping[int, Centred], other: Panel
) -> Matrix:
    """Return the products of all units of two panels over all images.

    Parameters
    ----------
    first
        Centred layers by their place.
    panel
        Which of their units are multiplied.
    second
        Centred layers over the same images; the same object as `first` within one recording.
    other
        Which of their units they are multiplied with.

    Returns
    -------
    X^T Y, shape (unit of the panel, unit of the other).

    Raises
    ------
    ValueError
        If the layers are not over equally many images.
    """
    widest = max(_units_read(first, panel), _units_read(second, other))
    images = min(max(_BLOCK_VALUES // widest, _LEAST_IMAGES), _MOST_IMAGES)
    products = np.zeros((_units_of(panel), _units_of(other)))
    if first is second and panel == other:
        for block in _panel_blocks(first, panel, images):
            # Of one array BLAS computes half and mirrors it.
            products += block.T @ block
        return products
    blocks = _panel_blocks(first, panel, images), _panel_blocks(second, other, images)
    for block, beside in zip(*blocks, strict=True):
        products += block.T @ beside
    return products


def _panel_blocks(layers: Mapping[int, Centred], panel: Panel, images: int) -> Iterator[Matrix]:
    readers = [layers[part.layer].blocks(images) for part in panel]
    for blocks in zip(*readers, strict=True):
        cut = [
            block if part.is_whole else block[:, part.start : part.stop]
            for part, block in zip(panel, blocks, strict=True)
        ]
        yield cut[0] if len(cut) == 1 else np.hstack(cut)


def squared_product(first: Centred, second: Centred) -> float:
    """Return the sum of squares of X^T Y, the squared Frobenius norm.

    Parameters
    ----------
    first
        Centred responses X, (image, unit).
    second
        Centred responses Y of the same images; may be the same object.
    """
    layers = {0: first}
    others = layers if first is second else {0: second}
    total = 0.0
    for panel in divide([first.units]):
        for other in divide([second.units]):
            total += sum_of_squares(panel_products(layers, panel, others, other))
    return total


def sum_of_squares(values: Matrix) -> float:
    """Return the sum of the squares of a matrix."""
    return float(np.einsum("ij,ij->", values, values))


def vector_products(
    first: Sequence[NDArray[np.number]], second: Sequence[NDArray[np.number]]
) -> Matrix:
    """Return the scalar products of all pairs of vectors, added in float64.

    Parameters
    ----------
    first
        Vectors of one length, such as files mapped into memory.
    second
        Vectors of the same length.

    Returns
    -------
    Products, shape (first, second).
    """
    products = np.zeros((len(first), len(second)))
    length = len(first[0]) if first else 0
    for start in range(0, length, _VECTOR_BLOCK):
        block, beside = (
            np.array([each[start : start + _VECTOR_BLOCK] for each in vectors], np.float64)
            for vectors in (first, second)
        )
        products += block @ beside.T
    return products
