"""Which units of two layers correspond, by the correlation of their responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from activarium.tasks.similarity.cross_products import Part, panel_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.similarity.centred_responses import CentredRows

    Matrix = NDArray[np.float64]
    Vector = NDArray[np.float64]

_ROUNDING = 1e-12
"""Correlations closer than this are equal, and the lower channel stands for them."""


class UnitMatches(NamedTuple):
    """The partners of every unit in the other layer, each of shape (unit,)."""

    same_r: Vector
    """Correlation with the unit of the same channel; NaN where there is none or one is constant."""
    best: NDArray[np.int64]
    """Channel of the largest absolute correlation; -1 where none is defined."""
    best_r: Vector
    """That correlation, with its sign."""
    assigned: NDArray[np.int64]
    """Channel in the one-to-one assignment; -1 where none is left, or one of the two is constant."""
    assigned_r: Vector
    """Correlation with it."""


def unit_correlations(first: CentredRows, second: CentredRows) -> Matrix:
    """Return Pearson's correlation of all units of two layers over the same images.

    Parameters
    ----------
    first
        A centred layer.
    second
        A centred layer over the same images.

    Returns
    -------
    Correlations, shape (unit, other unit); NaN where a unit is constant.
    """
    panels = [(Part(0, 0, layer.units, True),) for layer in (first, second)]
    products = panel_products({0: first}, panels[0], {0: second}, panels[1])
    # Roots before their product, which would leave the range of small numbers.
    size, other_size = (np.sqrt(_squares(layer)) for layer in (first, second))
    with np.errstate(invalid="ignore"):
        return np.clip(products / size[:, None] / other_size, -1.0, 1.0)


def _squares(layer: CentredRows) -> Vector:
    total = np.zeros(layer.units)
    for block in layer.blocks(1_024):
        total += np.einsum("iu,iu->u", block, block)
    return total


def match_units(correlation: Matrix) -> UnitMatches:
    """Return the unit of the same channel, the best partner, and the one-to-one partner.

    The assignment makes the sum of correlations largest (not of their sizes: a unit and its
    negative do not stand for each other). Constant units take no part.

    Parameters
    ----------
    correlation
        Correlations, shape (unit, other unit); NaN where a unit is constant.

    References
    ----------
    Li, Yosinski, Clune, Lipson and Hopcroft (2016), Convergent learning: do different neural
    networks learn the same representations?, section 3. Kuhn (1955), The Hungarian method for the
    assignment problem.
    """
    units, others = correlation.shape
    same = np.full(units, np.nan)
    both = min(units, others)
    same[:both] = np.diagonal(correlation)
    size = np.nan_to_num(np.abs(correlation), nan=-1.0)
    near = size >= size.max(axis=1, keepdims=True) - _ROUNDING
    best = np.where((size >= 0).any(axis=1), near.argmax(axis=1), -1)
    varies, other_varies = ((size >= 0).any(axis=axis) for axis in (1, 0))
    assigned = np.full(units, -1, np.int64)
    own, partner = linear_sum_assignment(correlation[varies][:, other_varies], maximize=True)
    assigned[np.flatnonzero(varies)[own]] = np.flatnonzero(other_varies)[partner]
    return UnitMatches(same, best, _at(correlation, best), assigned, _at(correlation, assigned))


def _at(correlation: Matrix, channel: NDArray[np.int64]) -> Vector:
    found = correlation[np.arange(len(channel)), channel]
    return np.where(channel < 0, np.nan, found)
