"""p-values from effects under permuted labels: per unit, over all units, and of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-5
"""How far a permuted effect may stay below the observed one and still count as equal to it.

A share of the observed effect plus the unit's mean permuted one. Rounding stays far below it, so it
never turns a tie into a smaller p-value.
"""

_ROWS = 1024


class Permanova(NamedTuple):
    """Permutational analysis of variance of all units of a layer together."""

    pseudo_f: float
    r2: float
    """Share of the summed variance of the standardised units that the classes explain."""
    p: float


@njit(nogil=True, cache=True)
def _threshold(observed: float, permuted: NDArray[np.float32]) -> float:
    """Return from where on a permuted effect counts as no smaller than the observed one."""
    if permuted.size == 0:
        return observed
    mean = 0.0
    for b in range(permuted.size):
        mean += permuted[b]
    return observed - TOLERANCE * (observed + mean / permuted.size)


@njit(nogil=True, cache=True)
def _count(
    observed: NDArray[np.float64], permuted: NDArray[np.float32], reached: NDArray[np.int64]
) -> None:
    for unit in range(observed.size):
        threshold = _threshold(observed[unit], permuted[unit])
        for b in range(permuted.shape[1]):
            reached[unit] += permuted[unit, b] >= threshold


@njit(nogil=True, cache=True)
def _count_max(
    observed: NDArray[np.float64],
    permuted: NDArray[np.float32],
    order: NDArray[np.int64],
    reached: NDArray[np.int64],
) -> None:
    """Count, per unit, how often the maximum over it and all units after it reaches its effect."""
    largest = np.zeros(permuted.shape[1], permuted.dtype)
    for k in range(order.size - 1, -1, -1):
        unit = order[k]
        threshold = _threshold(observed[unit], permuted[unit])
        for b in range(largest.size):
            largest[b] = max(largest[b], permuted[unit, b])
            reached[unit] += largest[b] >= threshold


def _matrix(observed: NDArray[np.float64], permuted: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return `permuted` as a plain array, checked against `observed`; nothing is copied."""
    if observed.ndim != 1 or permuted.ndim != 2 or len(permuted) != len(observed):
        raise ValueError(
            "expected observed of shape (unit,) and permuted of shape (unit, permutation), "
            f"got {observed.shape} and {permuted.shape}"
        )
    # A memory map is not a type that the compiled kernels know; its plain view is.
    return np.asarray(permuted)


def permutation_p(
    observed: NDArray[np.float64], permuted: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the permutation p-value of each unit, (1 + #{permuted >= observed}) / (1 + B).

    A permuted effect within `TOLERANCE` below the observed one counts as equal. 1 for constant
    units, whose effects are all 0, and without permutations.

    Parameters
    ----------
    observed
        Effects with the true labels, shape (unit,), 0 or more.
    permuted
        Effects with permuted labels, shape (unit, permutation), 0 or more; may be a memory map.

    Returns
    -------
    p, shape (unit,), in [1 / (1 + B), 1].

    Raises
    ------
    ValueError
        Where the shapes do not fit.

    References
    ----------
    Phipson and Smyth (2010), Permutation p-values should never be zero, equation 2.
    """
    matrix = _matrix(observed, permuted)
    reached = np.zeros(len(observed), np.int64)
    _count(observed, matrix, reached)
    p: NDArray[np.float64] = (1.0 + reached) / (1.0 + matrix.shape[1])
    return p


def max_t_p(observed: NDArray[np.float64], permuted: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return step-down max-T p-values, adjusted over all units for the family-wise error rate.

    Units are ordered by their observed effects. A unit's p-value counts the permutations whose
    largest effect, over it and all units with smaller observed effects, reaches its own; no unit
    gets a smaller one than a unit of larger observed effect. The true labels count as one more
    permutation, and effects within `TOLERANCE` as equal, as in `permutation_p`. 1 for constant
    units, whose effects are all 0, and without permutations.

    The effects must be of one distribution under the null hypothesis, as eta squared of the same
    images and classes. `permuted` is read once, row by row, and never copied.

    Parameters
    ----------
    observed
        Effects with the true labels, shape (unit,), 0 or more.
    permuted
        Effects with permuted labels, shape (unit, permutation), 0 or more; the same permutations
        for all units; may be a memory map.

    Returns
    -------
    Adjusted p, shape (unit,), in [1 / (1 + B), 1].

    Raises
    ------
    ValueError
        Where the shapes do not fit.

    References
    ----------
    Westfall and Young (1993), Resampling-based multiple testing, algorithm 4.1;
    Ge, Dudoit and Speed (2003), Resampling-based multiple testing for microarray data analysis,
    box 2.
    """
    matrix = _matrix(observed, permuted)
    order = np.argsort(-observed, kind="stable")
    reached = np.zeros(len(observed), np.int64)
    _count_max(observed, matrix, order, reached)
    p = np.empty(len(observed))
    p[order] = np.maximum.accumulate((1.0 + reached[order]) / (1.0 + matrix.shape[1]))
    return p


def permanova(
    observed: NDArray[np.float64],
    permuted: NDArray[np.floating],
    *,
    images: int,
    classes: int,
    varying: int | None = None,
) -> Permanova:
    """Return PERMANOVA of the units of one layer with Euclidean distance between images.

    Each unit is standardised, so that its sum of squares is the same as every other's and the
    layer's r2 is the mean of the units' eta squared. Constant units are left out: those whose
    effects, observed and permuted, are all 0. Without permutations p is 1. pseudo_f 0, r2 0, p 1 where all units are constant,
    and for fewer than two classes, no more images than classes, or no units. Where classes explain
    everything pseudo_f is infinite.

    Parameters
    ----------
    observed
        Eta squared with the true labels, shape (unit,).
    permuted
        Eta squared with permuted labels, shape (unit, permutation); the same permutations for all
        units; may be a memory map.
    images
        Number of images.
    classes
        Number of classes with images.
    varying
        Number of units that are not constant; by default told by their effects.

    Returns
    -------
    Pseudo F, r2 and the permutation p-value.

    Raises
    ------
    ValueError
        Where the shapes do not fit.

    References
    ----------
    Anderson (2001), A new method for non-parametric multivariate analysis of variance.
    """
    matrix = _matrix(observed, permuted)
    total = np.zeros(matrix.shape[1])
    with_effect = 0
    for start in range(0, len(observed), _ROWS):
        rows = matrix[start : start + _ROWS]
        total += rows.sum(axis=0, dtype=np.float64)
        with_effect += int(((observed[start : start + _ROWS] > 0) | rows.any(axis=1)).sum())
    varying = with_effect if varying is None else varying
    if varying == 0 or classes < 2 or images <= classes:
        return Permanova(0.0, 0.0, 1.0)
    r2 = min(float(observed.sum()) / varying, 1.0)
    p = permutation_p(np.array([r2]), total[None] / varying)
    unexplained = (1.0 - r2) / (images - classes)
    pseudo_f = r2 / (classes - 1) / unexplained if unexplained > 0 else float("inf")
    return Permanova(pseudo_f, r2, float(p[0]))
