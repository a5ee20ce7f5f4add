"""Resamples of the images: what other images of the same classes would have given.

Units of a layer answer to the same images and share what they answer to, so a mean over units is as
sure as its images make it, whatever the number of units. Images are drawn, never units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.statistics.intervals.confidence import two_sided_z
from activarium.tasks.statistics.ratio import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

_UNITS = 256
"""Units of which float64 copies are held at a time."""


def resample_counts(
    code: Codes,
    *,
    resamples: int,
    seed: int,
    place: Codes,
    group: Codes | None = None,
) -> NDArray[np.int32]:
    """Return how often each image is in each resample of the images.

    Within each class one image less than it holds is drawn with replacement, which leaves the
    variance of a class's mean unbiased where as many draws as images make it (n - 1) / n as large:
    half, of two images. An image that is alone in its class is in every resample once.

    Where images belong together, whole groups are drawn in their place. A group of several classes
    is drawn among the groups of its most frequent one, of equal ones the lowest code.

    Parameters
    ----------
    code
        Class code of each image, shape (image,), 0 or more.
    resamples
        Number of resamples.
    seed
        Seed of the draws.
    place
        Place of each image by its id, shape (image,), each number once: neither the order of the
        recording nor of the classes moves the draws of a class of these images.
    group
        Group of each image, shape (image,), 0 or more; None where each stands for itself.

    Returns
    -------
    Counts, shape (resample, image), 0 or more.

    Raises
    ------
    ValueError
        Where `resamples` is below 1, or `place` or `group` are not of the images.

    References
    ----------
    Rao and Wu (1988), Resampling inference with complex survey data, section 2.
    """
    images = len(code)
    if resamples < 1:
        raise ValueError(f"expected 1 resample or more, got {resamples}")
    if place.shape != code.shape or (group is not None and group.shape != code.shape):
        raise ValueError(f"expected a place, and a group if any, of each of {images} images")
    drawn, member = _sampled(place, group)
    stratum = _strata(code, member, len(drawn))
    counts = np.zeros((resamples, len(drawn)), np.int32)
    # In the order of their first images, so that other names of the classes draw alike.
    _, first = np.unique(stratum[drawn], return_index=True)
    rng = np.random.default_rng(seed)
    for each in np.sort(first):
        own = drawn[stratum[drawn] == stratum[drawn[each]]]
        size = len(own)
        counts[:, own] = (
            rng.multinomial(size - 1, np.full(size, 1.0 / size), size=resamples) if size > 1 else 1
        )
    return counts[:, member]


def _sampled(place: Codes, group: Codes | None) -> tuple[Codes, Codes]:
    """Return what is drawn, in order of its first image's place, and to which each image belongs."""
    if group is None:
        return np.argsort(place), np.arange(len(place))
    names, member = np.unique(group, return_inverse=True)
    first = np.full(len(names), len(place))
    np.minimum.at(first, member, place)
    return np.argsort(first), member


def _strata(code: Codes, member: Codes, sampled: int) -> Codes:
    """Return the class within which each is drawn, shape (sampled,)."""
    table = np.zeros((sampled, int(code.max(initial=-1)) + 1), np.int64)
    np.add.at(table, (member, code), 1)
    stratum: Codes = table.argmax(axis=1)
    return stratum


def resampled_eta2(
    responses: NDArray[np.float32], code: Codes, n_classes: int, counts: NDArray[np.integer]
) -> Array:
    """Return the share of each unit's variance that the classes explain, in each resample.

    A resample holds some images several times, which makes eta squared larger than other images
    would: look at how the resamples differ, not at where they lie.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image).
    code
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    n_classes
        Number of classes.
    counts
        How often each image is in each resample, shape (resample, image).

    Returns
    -------
    Eta squared, shape (unit, resample), in [0, 1]; 0 where a unit is constant in a resample.

    References
    ----------
    Fisher (1925), Statistical methods for research workers, chapter 7.
    """
    weight = np.ascontiguousarray(counts.T, dtype=np.float64)
    size = np.zeros((n_classes, weight.shape[1]))
    np.add.at(size, code, weight)
    found = np.empty((len(responses), weight.shape[1]))
    for first in range(0, len(responses), _UNITS):
        part = responses[first : first + _UNITS].astype(np.float64)
        # From one response first, so that a constant unit is exactly 0; then about the mean of all
        # images, so that a large mean costs the sums no digits.
        part -= part[:, :1]
        part -= part.mean(axis=1, keepdims=True)
        total = (part**2) @ weight
        level = part @ weight
        between = np.zeros_like(total)
        for each in np.unique(code):
            own = code == each
            between += ratio((part[:, own] @ weight[own]) ** 2, size[each], otherwise=0.0)
        centre = level**2 / size.sum(axis=0)
        share = ratio(between - centre, total - centre, otherwise=0.0)
        found[first : first + _UNITS] = np.clip(share, 0.0, 1.0)
    return found


def resampled_interval(
    value: float, resampled: Array, *, level: float = 0.95
) -> tuple[float, float]:
    """Return the normal interval of a value by the spread of its resamples, value -+ z sd.

    For what other images of the same classes, and as many of them, would give on average.

    Parameters
    ----------
    value
        The value of the images themselves.
    resampled
        The same of each resample, shape (resample,).
    level
        Confidence level, between 0 and 1.
    """
    half = two_sided_z(level) * float(resampled.std(ddof=1))
    return value - half, value + half
