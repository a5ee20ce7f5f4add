"""One ranking of every unit over all images, shared by every statistic that is made of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.class_order import by_class, class_codes
from activarium.tasks.statistics.ranks.detection import Detection, detect, empty_detection
from activarium.tasks.statistics.ranks.placements import place_images, sum_placements
from activarium.tasks.statistics.ranks.response_keys import response_of
from activarium.tasks.statistics.ranks.sorted_keys import sorted_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_IMAGES = 4_000_000
"""Beyond it the whole numbers of DeLong's variance may pass 64 bits."""


class Ranks(NamedTuple):
    """What the order of the images by each unit's response says of the classes."""

    rank_sum: NDArray[np.float64]
    """Sum of the midranks (1 .. image) of the images of each class, shape (unit, class)."""
    tie_sum: NDArray[np.float64]
    """Sum of t^3 - t over the groups of t equal responses, shape (unit,)."""
    class_variance: NDArray[np.float64]
    """Variance of the placements of each class's images among the rest, shape (unit, class), as
    shares; NaN where the class or the rest has fewer than two images. Over the number of images it
    is the class's part of DeLong's variance of the AUROC."""
    rest_variance: NDArray[np.float64]
    """The same of the rest's images among the class's."""
    lowest: NDArray[np.int32]
    """Images of each class at the unit's smallest response, shape (unit, class)."""
    joint: NDArray[np.int32]
    """Images by bin of equally many responses and class, shape (unit, bin, class); equal responses
    stay together, in the bin of the lowest of their ranks."""
    quantile: NDArray[np.float64]
    """Quantiles of the responses, shape (unit, quantile), interpolated linearly."""
    detection: Detection | None
    """How well each unit detects each class, where halves of the images are given."""
    at_rank: NDArray[np.float32]
    """Lowest response of the images that `Detection.best_positives` counts, shape (unit, class)."""


def rank_units(  # noqa: PLR0913 - three independent summaries of one order
    responses: NDArray[np.float32],
    label: NDArray[np.integer],
    n_classes: int,
    *,
    bins: int = 10,
    quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    half: NDArray[np.integer] | None = None,
    comparable: NDArray[np.bool_] | None = None,
    top_images: int = 60,
) -> Ranks:
    """Rank every unit once over all images, and sum up by class.

    Responses and classes are packed into integers, which NumPy sorts; equal responses (-0.0 and
    +0.0 too) share their mean rank. All sums are of whole numbers, so nothing depends on the order
    of the images. The kernels hold no lock and keep their scratch memory to themselves, so threads
    run them side by side.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32; drop images with NaN first. Images in order
        of their classes save a copy.
    label
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    bins
        Bins of `joint`.
    quantiles
        Levels of `quantile`, from 0 to 1.
    half
        Half of each image, 0 or 1, shape (image,), for what `Detection` holds out. Without it
        there is no detection, and the ranking takes less time.
    comparable
        Classes that the halves may choose, shape (class,); by default all.
    top_images
        Strongest images at most that `Detection.top` looks at.

    Raises
    ------
    ValueError
        Where a class code is out of range, shapes or types do not fit, or there are more than
        4,000,000 images.

    References
    ----------
    Kruskal and Wallis (1952), Use of ranks in one-criterion variance analysis: midranks for ties;
    DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more correlated
    receiver operating characteristic curves, equations 4 to 6.
    """
    code = class_codes(label, responses, n_classes)
    units, images = responses.shape
    if images > MOST_IMAGES:
        msg = f"expected at most {MOST_IMAGES:,} images, got {images:,}"
        raise ValueError(msg)
    ordered, start = by_class(responses, code, n_classes)
    sums = np.zeros((units, n_classes, 3), np.int64)
    tie_sum = np.zeros(units)
    joint = np.zeros((units, bins, n_classes), np.int32)
    lowest = np.zeros((units, n_classes), np.int32)
    detection, best = None, np.zeros((units, n_classes), np.float32)
    if half is not None:
        half = np.asarray(half)[np.argsort(code, kind="stable")]
        cells = np.bincount(2 * np.sort(code) + half, minlength=2 * n_classes)
        detection = empty_detection(units, cells.reshape(n_classes, 2))
    at, between = _quantile_places(quantiles, images)
    low, high = (np.zeros((units, len(quantiles)), np.float32) for _ in range(2))
    if images:
        edges = np.ceil(np.arange(1, bins + 1) * images / bins).astype(np.int64)
        summary = (edges, at, np.minimum(at + 1, images - 1))
        results = (sums, tie_sum, joint, low, high, lowest)
        chosen = np.ones(n_classes, bool) if comparable is None else comparable
        for group in sorted_groups(ordered.view(np.int32), start, half):
            _place_group_of_units(
                group.packed,
                group.size,
                group.class_bits,
                int(half is not None),
                start,
                group.at_lowest,
                group.ranges,
                summary,
                tuple(result[group.units] for result in results),
            )
            if detection is not None:
                detect(
                    group.packed,
                    group.size,
                    group.class_bits,
                    detection.half_count,
                    chosen,
                    top_images,
                    tuple(result[group.units] for result in detection[:-1]),
                )
                _responses_at(
                    group.packed, group.size, group.class_bits, group.ranges,
                    detection.best_positives[group.units], best[group.units],
                )  # fmt: skip
    quantile = low + (high.astype(np.float64) - low) * between
    count = np.diff(start)
    return Ranks(
        sums[:, :, 0] / 2.0 + count * (count + 1) / 2.0,
        tie_sum,
        *_placement_variances(sums, count),
        lowest,
        joint,
        quantile if images else np.full_like(quantile, np.nan),
        detection,
        best,
    )


def _quantile_places(
    quantiles: Sequence[float], images: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    exact = np.asarray(quantiles, np.float64) * max(images - 1, 0)
    below = np.floor(exact)
    return below.astype(np.int64), exact - below


@njit(nogil=True, cache=True)
def _place_group_of_units(  # noqa: PLR0913, PLR0917 - a group of units and their results
    packed: NDArray[np.unsignedinteger],
    size: NDArray[np.int64],
    class_bits: int,
    half_bits: int,
    start: NDArray[np.int64],
    at_lowest: NDArray[np.int64],
    ranges: NDArray[np.int64],
    summary: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    results: tuple[NDArray[np.generic], ...],
) -> None:
    edges, at, after = summary
    sums, tie_sum, joint, low, high, at_smallest = results
    place = np.empty(packed.shape[1], np.int32)
    tied_squares = np.empty(start.size - 1, np.int64)
    for unit in range(tie_sum.size):
        row = packed[unit, : size[unit]]
        tie_sum[unit] = place_images(
            row,
            class_bits,
            start,
            at_lowest[unit],
            edges,
            half_bits,
            place,
            tied_squares,
            joint[unit],
        )
        sum_placements(place, start, at_lowest[unit], tied_squares, sums[unit])
        _count_lowest(row, class_bits, half_bits, at_lowest[unit], at_smallest[unit])
        _differences(joint[unit])
        below = place.size - row.size
        lowest, negatives, base = ranges[unit, 0], ranges[unit, 1], ranges[unit, 2]
        for q in range(at.size):
            for rank, found in ((at[q], low), (after[q], high)):
                compact = int(row[rank - below]) >> class_bits if rank >= below else 0
                found[unit, q] = response_of(compact, lowest, negatives, base)


@njit(nogil=True, cache=True)
def _responses_at(  # noqa: PLR0913, PLR0917 - a group of sorted units, and what is filled
    packed: NDArray[np.unsignedinteger],
    size: NDArray[np.int64],
    class_bits: int,
    ranges: NDArray[np.int64],
    positives: NDArray[np.int64],
    found: NDArray[np.float32],
) -> None:
    """Fill the lowest response of so many strongest images, shape (unit, class)."""
    for unit in range(size.size):
        lowest, negatives, base = ranges[unit, 0], ranges[unit, 1], ranges[unit, 2]
        for code in range(positives.shape[1]):
            rank = size[unit] - positives[unit, code]
            compact = int(packed[unit, rank]) >> class_bits if rank >= 0 else 0
            found[unit, code] = response_of(compact, lowest, negatives, base)


@njit(nogil=True, cache=True)
def _differences(below_edge: NDArray[np.int32]) -> None:
    """Replace counts below each edge by those from the edge before it on, shape (edge, class)."""
    for edge in range(below_edge.shape[0] - 1, 0, -1):
        for code in range(below_edge.shape[1]):
            below_edge[edge, code] -= below_edge[edge - 1, code]


@njit(nogil=True, cache=True)
def _count_lowest(
    row: NDArray[np.unsignedinteger],
    class_bits: int,
    half_bits: int,
    at_lowest: NDArray[np.int64],
    lowest: NDArray[np.int32],
) -> None:
    """Fill the images of each class at the smallest response: left out of the keys, or first."""
    if at_lowest.sum() > 0:
        lowest[:] = at_lowest
        return
    for i in range(row.size):
        if row[i] >> class_bits != row[0] >> class_bits:
            break
        lowest[(np.int64(row[i]) & ((1 << class_bits) - 1)) >> half_bits] += 1


@njit(nogil=True, cache=True)
def _placement_variances(
    sums: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variances of both sides' placements from `sum_placements`, shape (unit, class)."""
    own, others = np.full(sums.shape[:2], np.nan), np.full(sums.shape[:2], np.nan)
    images = count.sum()
    for unit in range(sums.shape[0]):
        for code in range(count.size):
            n, m = count[code], images - count[code]
            if n < 2 or m < 2:
                continue
            total = sums[unit, code, 0]
            own[unit, code] = _centred(sums[unit, code, 1], total, n) / (4.0 * m * m * (n - 1.0))
            above = 2 * n * m - total
            others[unit, code] = _centred(sums[unit, code, 2], above, m) / (4.0 * n * n * (m - 1.0))
    return own, others


@njit(nogil=True, cache=True)
def _centred(squares: int, total: int, count: int) -> float:
    """Return squares - total^2 / count without losing a digit: 64-bit integers wrap around alike."""
    quotient = total // count
    rest = total - quotient * count
    whole = squares - quotient * quotient * count - 2 * quotient * rest
    return max(whole - np.float64(rest) ** 2 / count, 0.0)
