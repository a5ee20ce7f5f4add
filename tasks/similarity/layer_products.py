"""Pieces of a comparison of two recordings: products of panels, and matches of units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.layout import BLOCK_UNITS
from activarium.tasks.similarity.cross_products import panel_products, part_slices, sum_of_squares
from activarium.tasks.similarity.layer_profile import save, save_together
from activarium.tasks.similarity.procrustes import nuclear_norm
from activarium.tasks.similarity.unit_matching import match_units, unit_correlations
from activarium.tasks.statistics.comparable_classes import comparable_classes
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.preference import preferred_classes
from activarium.tasks.stores.column_reading import read_columns
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.tasks.similarity.cross_products import Panel, Part
    from activarium.tasks.similarity.layer_profile import Subject


def multiply_panels(
    first: Subject, second: Subject, panels: tuple[Panel, Panel], path: Path, *, rotate: bool
) -> None:
    """Write what products of the units of two panels say of each pair of their layers.

    Parameters
    ----------
    first
        A recording.
    second
        Another, or the same, of which a pair of layers is then looked at once.
    panels
        Layers of the first, and of the second.
    path
        File of lines (layer, other layer, sum of squares, nuclear norm); the norm is NaN where it
        is not asked for or a layer is divided.
    rotate
        Whether nuclear norms are asked for.
    """
    if path.exists():
        return
    panel, other = panels
    layers = first.read(part.layer for part in panel)
    others = layers
    if first != second or panel != other:
        others = second.read(part.layer for part in other)
    products = panel_products(layers, panel, others, other)
    lines = _lines(products, panels, same=first == second, rotate=rotate)
    save(path, np.array([*lines]).reshape(-1, 4))


def _lines(
    products: NDArray[np.float64], panels: tuple[Panel, Panel], *, same: bool, rotate: bool
) -> Iterator[tuple[float, float, float, float]]:
    panel, other = panels
    for part, rows in zip(panel, part_slices(panel), strict=True):
        for beside, columns in zip(other, part_slices(other), strict=True):
            if same and beside.layer < part.layer:
                continue
            values = products[rows, columns]
            norm = np.nan
            if rotate and part.is_whole and beside.is_whole:
                norm = _nuclear_norm(values, part, beside, same=same)
            yield part.layer, beside.layer, sum_of_squares(values), norm


def _nuclear_norm(values: NDArray[np.float64], part: Part, beside: Part, *, same: bool) -> float:
    """Return the nuclear norm; that of X^T X, which has no negative eigenvalue, is its trace."""
    if same and part == beside:
        return float(np.trace(values))
    return nuclear_norm(values)


def match_layer(first: Subject, second: Subject, places: tuple[int, int], path: Path) -> None:
    """Write which units of a layer correspond to which of the same layer of another recording.

    Parameters
    ----------
    first
        A recording.
    second
        Another.
    places
        Place of the layer among those of each.
    path
        File of the matches, and of the classes preferred.
    """
    if path.exists():
        return
    layer, other = places
    rows, others = first.rows_of([layer])[layer], second.rows_of([other])[other]
    matches = match_units(unit_correlations(rows, others))
    preferred, other_preferred = (
        _preferred(each, place) for each, place in ((first, layer), (second, other))
    )
    save_together(path, **matches._asdict(), preferred=preferred, other_preferred=other_preferred)


def _preferred(subject: Subject, layer: int) -> NDArray[np.int64]:
    """Return the class of the largest mean of each unit, as the table `units` has it; -1: none.

    Of the classes that can be compared, by their images here.
    """
    recording, row = Recording(subject.place), subject.row
    label, classes = subject.label, len(subject.classes)
    # In order of the classes, which saves a copy of each block.
    known = np.argsort(label, kind="stable")[int((label < 0).sum()) :]
    columns = recording.layer_slices[subject.layers[layer].name]
    found = []
    for start in range(columns.start, columns.stop, BLOCK_UNITS):
        block = slice(start, min(start + BLOCK_UNITS, columns.stop))
        responses = read_columns(recording, "channel_mean", block, row[known])
        moments = class_moments(responses, label[known], classes)
        compared = moments.of_classes(comparable_classes(moments.count))
        found.append(preferred_classes(compared.mean, compared.count).preferred)
    return np.concatenate(found)
