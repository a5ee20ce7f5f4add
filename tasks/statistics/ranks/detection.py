"""How well a unit detects each class, from its strongest response down: one walk over sorted keys.

The walk keeps a few sums per class, for all images and for each of two halves of them, so that its
cost does not grow with the number of classes but for their results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Count = int | np.int64


class Detection(NamedTuple):
    """Detection of each class by thresholds on each unit's response, and the same held out."""

    average_precision: NDArray[np.float64]
    """Shape (unit, class), in (0, 1]; 0 for a class without images."""
    harmonic: NDArray[np.float64]
    """Sum over groups of g equal responses of g / (images at or above), shape (unit,)."""
    best_f1: NDArray[np.float64]
    """Largest F1 over all thresholds, shape (unit, class); of equal ones the highest threshold."""
    best_positives: NDArray[np.int64]
    """Images at or above that threshold, shape (unit, class)."""
    top: NDArray[np.float64]
    """Share of the class among its own number of strongest images, at most `top_images`, shape
    (unit, class); images that tie across the border count by the share that fits."""
    held_class: NDArray[np.int64]
    """Class of the largest excess of average precision over chance in each half, and that of the
    largest AUROC, shape (unit, half, 2); -1 where none can be chosen."""
    held: NDArray[np.float64]
    """What these classes have in the other half, shape (unit, half, 6): average precision, its
    chance level, U and AUROC of the first; AUROC of the second; images of the first that lie above
    the unit's smallest response."""
    half_ties: NDArray[np.float64]
    """Of the half measured on (the other one): sum of t^3 - t over its groups of t equal responses,
    and its images above the unit's smallest response, shape (unit, half, 2)."""
    half_count: NDArray[np.int64]
    """Images of each class in each half, shape (class, half)."""


def empty_detection(units: int, half_count: NDArray[np.int64]) -> Detection:
    """Return arrays for the results, of the images of each class in each half."""
    classes = len(half_count)
    return Detection(
        np.zeros((units, classes)),
        np.zeros(units),
        np.zeros((units, classes)),
        np.zeros((units, classes), np.int64),
        np.zeros((units, classes)),
        np.full((units, 2, 2), -1, np.int64),
        np.full((units, 2, 6), np.nan),
        np.zeros((units, 2, 2)),
        half_count,
    )


def average_precision_chance(
    count: NDArray[np.int64], images: int, harmonic: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of average precision over all orders of the labels, shape (unit, class).

    (n - 1) / (N - 1) + (N - n) / (N (N - 1)) h, of n images of the class among N: exact for the
    unit's own ties. h is the harmonic number of N without ties. n / N for constant units.

    Parameters
    ----------
    count
        Images per class, shape (class,).
    images
        Number of all images, two or more.
    harmonic
        h of each unit, as `Detection.harmonic`, shape (unit,).

    References
    ----------
    Bestgen (2015), Exact expected average precision of the random baseline for system evaluation,
    for orders without ties.
    """
    others = (images - count) / (images * (images - 1.0))
    chance: NDArray[np.float64] = np.multiply.outer(harmonic, others)
    chance += (count - 1.0) / (images - 1.0)
    return chance


@njit(nogil=True, cache=True)
def detect(  # noqa: PLR0913, PLR0917 - sorted units and their results
    packed: NDArray[np.unsignedinteger],
    size: NDArray[np.int64],
    class_bits: int,
    half_count: NDArray[np.int64],
    comparable: NDArray[np.bool_],
    top_images: int,
    results: tuple[NDArray[Any], ...],
) -> None:
    """Fill the arrays of `Detection` for a group of sorted units.

    Parameters
    ----------
    packed, size, class_bits
        As `SortedGroup` has them, the half as the lowest bit.
    half_count
        Images of each class in each half, shape (class, half).
    comparable
        Classes that may be chosen, shape (class,).
    top_images
        Strongest images at most that `top` looks at.
    results
        All fields of `Detection` but the last, of these units.
    """
    ap, harmonic, f1, positives, top, held_class, held, half_ties = results
    classes = len(half_count)
    count = half_count[:, 0] + half_count[:, 1]
    images = count.sum()
    half_images = half_count.sum(axis=0)
    share = np.empty(images + 1)
    share[0] = 0.0
    for i in range(1, images + 1):
        share[i] = 1.0 / i
    total = np.cumsum(share)
    limit = np.minimum(count, top_images)
    may_choose = comparable & (half_count[:, 0] > 0) & (half_count[:, 1] > 0)
    for unit in range(size.size):
        # What belongs to a class lies side by side, as images of all classes follow each other.
        whole, real = np.zeros((classes, 8), np.int64), np.zeros((classes, 4))
        found, best, rank_sum = whole[:, :2], whole[:, 2:4], whole[:, 4:6]
        best[:, 1] = 1
        half_ap, sums = real[:, :2], np.zeros((2, 2))
        for half in range(2):
            sums[half, 0] = total[half_images[half]]
        state = (found, best, half_ap, rank_sum, sums, total)
        seen = total[images] + _walk(
            packed[unit, : size[unit]], class_bits, count, limit, share,
            state, whole, real, top[unit],
        )  # fmt: skip
        lowest = images - size[unit]
        above = found.copy()
        if lowest:
            _add_lowest(half_count, limit, share, state, real[:, 2], top[unit])
            seen += lowest * share[images] - (total[images] - total[images - lowest])
        harmonic[unit] = seen
        for code in range(classes):
            n = count[code]
            if n:
                ap[unit, code] = real[code, 2] / n
                top[unit, code] /= limit[code]
                f1[unit, code] = 2.0 * best[code, 0] / best[code, 1]
                positives[unit, code] = best[code, 1] - n
        if lowest < images:
            _hold_out(
                half_count, half_images, may_choose, above, state,
                held_class[unit], held[unit], half_ties[unit],
            )  # fmt: skip


@njit(nogil=True, cache=True)
def _walk(  # noqa: PLR0913, PLR0917 - one unit, its classes and their sums
    row: NDArray[np.unsignedinteger],
    class_bits: int,
    count: NDArray[np.int64],
    limit: NDArray[np.int64],
    share: NDArray[np.float64],
    state: tuple[NDArray[Any], ...],
    whole: NDArray[np.int64],
    real: NDArray[np.float64],
    top: NDArray[np.float64],
) -> float:
    """Go through the images above the lowest, the strongest first.

    Return by how much their ties change `harmonic`.
    """
    sums, total = state[4], state[5]
    ap = real[:, 2]
    one = row.dtype.type(1)
    step = one << row.dtype.type(class_bits)
    class_mask = step - one
    seen_second = np.int64(0)
    tied = np.zeros((len(count), 2), np.int64)
    harmonic = 0.0
    most = limit.max()
    done, size = 0, row.size
    while done < size:
        value = row[size - 1 - done]
        if done + 1 < size and row[size - 2 - done] ^ value < step:
            group = 2
            while done + group < size and row[size - 1 - done - group] ^ value < step:
                group += 1
            second = _count_tied(row[size - done - group : size - done], class_mask, tied)
            harmonic += _harmonic_of_ties(done, group, share, total)
            before_a, before_b = done - seen_second, seen_second
            group_a, group_b = group - second, second
            seen_second += second
            for k in range(group):
                member = np.int64(row[size - 1 - done - k] & class_mask) >> 1
                # Done once per class, as its counts are then set to 0.
                if tied[member, 0] + tied[member, 1]:
                    _add_tied(
                        member, done, group, (before_a, before_b), (group_a, group_b), tied[member],
                        count, limit, share, state, ap, top,
                    )  # fmt: skip
                    tied[member] = 0
            _end_group(before_a, group_a, share, total, sums[0])
            _end_group(before_b, group_b, share, total, sums[1])
            done += group
            continue
        cell = np.uint64(value & class_mask)
        code, half = cell >> np.uint64(1), cell & np.uint64(1)
        place = seen_second if half else done - seen_second
        seen_second += np.int64(half)
        own_half = whole[code, half] + 1
        whole[code, half] = own_half
        whole[code, np.uint64(4) + half] += 2 * place
        real[code, half] += own_half * share[np.uint64(place + 1)]
        own = whole[code, 0] + whole[code, 1]
        if done < most and done < limit[code]:
            top[code] += 1.0
        done += 1
        real[code, 2] += own * share[np.uint64(done)]
        both = count[code] + done
        if own * whole[code, 3] > whole[code, 2] * both:
            whole[code, 2], whole[code, 3] = own, both
    return harmonic


@njit(nogil=True, cache=True)
def _count_tied(
    group: NDArray[np.unsignedinteger], class_mask: np.unsignedinteger, tied: NDArray[np.int64]
) -> np.int64:
    """Count a group's images by class and half, shape (class, half); return those of the second."""
    second = np.int64(0)
    for value in group:
        cell = np.int64(value & class_mask)
        tied[cell >> 1, cell & 1] += 1
        second += cell & 1
    return second


@njit(nogil=True, cache=True)
def _harmonic_of_ties(
    before: Count, group: Count, share: NDArray[np.float64], total: NDArray[np.float64]
) -> float:
    """Return the part of `harmonic` of a group of equals, less what it would be without ties."""
    harmonic: float = group * share[before + group] - (total[before + group] - total[before])
    return harmonic


@njit(nogil=True, cache=True)
def _end_group(
    before: Count,
    group: Count,
    share: NDArray[np.float64],
    total: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add a group of equals of one half to its harmonic sum and to its t^3 - t."""
    sums[0] += _harmonic_of_ties(before, group, share, total)
    sums[1] += float(group) ** 3 - group


@njit(nogil=True, cache=True)
def _add_tied(  # noqa: PLR0913, PLR0917 - one class in a group of equal responses
    code: Count,
    done: Count,
    group: Count,
    before: tuple[Count, Count],
    half_group: tuple[Count, Count],
    tied: NDArray[np.int64],
    count: NDArray[np.int64],
    limit: NDArray[np.int64],
    share: NDArray[np.float64],
    state: tuple[NDArray[Any], ...],
    ap: NDArray[np.float64],
    top: NDArray[np.float64],
) -> None:
    found, best, half_ap, rank_sum = state[0], state[1], state[2], state[3]
    own = tied[0] + tied[1]
    found[code] += tied
    total = found[code, 0] + found[code, 1]
    ap[code] += own * (total * share[done + group])
    for half in range(2):
        start, equals = before[half], half_group[half]
        half_ap[code, half] += tied[half] * (found[code, half] * share[start + equals])
        rank_sum[code, half] += tied[half] * (2 * start + equals - 1)
    if done < limit[code]:
        top[code] += own * min((limit[code] - done) / group, 1.0)
    both = count[code] + done + group
    if total * best[code, 1] > best[code, 0] * both:
        best[code, 0], best[code, 1] = total, both


@njit(nogil=True, cache=True)
def _add_lowest(  # noqa: PLR0913, PLR0917 - what `_add_tied` takes
    half_count: NDArray[np.int64],
    limit: NDArray[np.int64],
    share: NDArray[np.float64],
    state: tuple[NDArray[Any], ...],
    ap: NDArray[np.float64],
    top: NDArray[np.float64],
) -> None:
    """Add the images at the smallest response: all that were not found."""
    found, sums, total = state[0], state[4], state[5]
    count = half_count[:, 0] + half_count[:, 1]
    before = (found[:, 0].sum(), found[:, 1].sum())
    groups = (half_count[:, 0].sum() - before[0], half_count[:, 1].sum() - before[1])
    done, group = before[0] + before[1], groups[0] + groups[1]
    for code in range(len(count)):
        tied = half_count[code] - found[code]
        if tied.sum():
            _add_tied(code, done, group, before, groups, tied, count, limit, share, state, ap, top)
    for half in range(2):
        _end_group(before[half], groups[half], share, total, sums[half])


@njit(nogil=True, cache=True)
def _hold_out(  # noqa: PLR0913, PLR0917 - both halves of one unit, and what is filled
    half_count: NDArray[np.int64],
    half_images: NDArray[np.int64],
    may_choose: NDArray[np.bool_],
    above: NDArray[np.int64],
    state: tuple[NDArray[Any], ...],
    held_class: NDArray[np.int64],
    held: NDArray[np.float64],
    half_ties: NDArray[np.float64],
) -> None:
    """Choose a class on each half, and note what it has in the other."""
    half_ap, rank_sum, sums = state[2], state[3], state[4]
    for half in range(2):
        best_excess, best_area = -np.inf, -np.inf
        for code in range(len(half_count)):
            if not may_choose[code]:
                continue
            n, images = half_count[code, half], half_images[half]
            if n == images or half_count[code, 1 - half] == half_images[1 - half]:
                continue
            chance = _chance(n, images, sums[half, 0])
            excess = (half_ap[code, half] / n - chance) / (1.0 - chance)
            area = _pairs(rank_sum[code, half], n, images) / (n * (images - n))
            if excess > best_excess:
                best_excess, held_class[half, 0] = excess, code
            if area > best_area:
                best_area, held_class[half, 1] = area, code
        first, second = held_class[half, 0], held_class[half, 1]
        if first < 0:
            continue
        other = 1 - half
        n, images = half_count[first, other], half_images[other]
        u = _pairs(rank_sum[first, other], n, images)
        held[half, 0] = half_ap[first, other] / n
        held[half, 1] = _chance(n, images, sums[other, 0])
        held[half, 2] = u
        held[half, 3] = u / (n * (images - n))
        n = half_count[second, other]
        held[half, 4] = _pairs(rank_sum[second, other], n, images) / (n * (images - n))
        held[half, 5] = above[first, other]
        half_ties[half, 0] = sums[other, 1]
        half_ties[half, 1] = above[:, other].sum()


@njit(nogil=True, cache=True)
def _chance(n: Count, images: Count, harmonic: float) -> float:
    """Return `average_precision_chance` of one class."""
    return (n - 1.0) / (images - 1.0) + (images - n) / (images * (images - 1.0)) * harmonic


@njit(nogil=True, cache=True)
def _pairs(rank_sum: Count, n: Count, images: Count) -> float:
    """Return U from twice the sum of ranks from 0, the strongest first."""
    return n * (images - n) - (rank_sum - n * (n - 1)) / 2.0
