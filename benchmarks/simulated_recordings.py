"""Simulated recordings of which it is known what is true: units that say nothing of the class.

And, beside them, the same units with a preference planted, whose true areas and differences follow
from their distributions.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CLASS_SIZES = (6, 12, 24, 36, 48, 60, 72, 90, 114, 138)
"""Images per class; 600 in all."""
CLASSES = len(CLASS_SIZES)
IMAGES = sum(CLASS_SIZES)
LAYERS = 5
SHARED = 0.5
"""Share of a unit's variance, before its activation, that comes from the factors of its layer."""
FACTORS = 2
"""Factors per layer."""
EFFECTS = (0.25, 0.5, 1.0, 2.0)
"""Planted preferences: by how many sd a class lies above the others before the activation."""

KINDS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda z: z,
    "ReLU, 16 % zeros": lambda z: np.maximum(z + 1.0, 0.0),
    "ReLU, 50 % zeros": lambda z: np.maximum(z, 0.0),
    "ReLU, 90 % zeros": lambda z: np.maximum(z - 1.2816, 0.0),
    "ReLU, 98 % zeros": lambda z: np.maximum(z - 2.0537, 0.0),
    "skewed (lognormal)": lambda z: np.exp(1.2 * z),
    "heavy tails (cube)": lambda z: z**3,
    "five levels": lambda z: np.clip(np.round(2.0 * z), 0.0, 4.0),
}
"""What becomes of a standard normal response: never falling, so that areas follow from its order."""
SPARSE = ("ReLU, 90 % zeros", "ReLU, 98 % zeros")
UNITS = LAYERS * len(KINDS)
PLANTED = 2 * len(EFFECTS)
"""Units with a planted preference, two of each effect."""

_LABEL = np.repeat(np.arange(CLASSES), CLASS_SIZES)


class Simulated(NamedTuple):
    """A recording without any preference, and some of its units again with one."""

    seed: int
    responses: NDArray[np.float32]
    """Shape (unit, image); every layer holds one unit of each kind, in the order of `KINDS`."""
    label: NDArray[np.int64]
    """Class of each image."""
    equal: NDArray[np.int64]
    """The same with equally many images in each class, without any preference."""
    target: NDArray[np.float64]
    """A skewed number per image that no unit knows of."""
    planted: NDArray[np.int64]
    """Units that have a preference in `preferring`."""
    effect: NDArray[np.float64]
    """How strong each is."""
    preferred: NDArray[np.int64]
    """The class that it is for."""
    preferring: NDArray[np.float32]
    """Responses of these units with it, shape (planted, image)."""


def kind_of(unit: int) -> str:
    """Return the kind of a unit."""
    return [*KINDS][unit % len(KINDS)]


def simulate(seed: int) -> Simulated:
    """Return one recording; the same for the same seed."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(_LABEL)
    before = _before_activation(rng, len(KINDS))
    planted = rng.permutation(UNITS)[:PLANTED]
    effect = np.repeat(EFFECTS, 2)
    preferred = rng.integers(CLASSES, size=PLANTED)
    shifted = before[planted] + effect[:, None] * (label == preferred[:, None])
    return Simulated(
        seed=seed,
        responses=_activated(before, np.arange(UNITS)),
        label=label,
        equal=rng.permutation(np.arange(IMAGES) % CLASSES),
        target=rng.gamma(2.0, size=IMAGES),
        planted=planted,
        effect=effect,
        preferred=preferred,
        preferring=_activated(shifted, planted),
    )


def _before_activation(rng: np.random.Generator, units: int) -> Array:
    """Return standard normal responses (unit, image) that depend on each other within a layer."""
    layers = []
    for _ in range(LAYERS):
        loading = rng.standard_normal((units, FACTORS))
        loading *= np.sqrt(SHARED) / np.linalg.norm(loading, axis=1, keepdims=True)
        own = np.sqrt(1.0 - SHARED) * rng.standard_normal((units, IMAGES))
        layers.append(loading @ rng.standard_normal((FACTORS, IMAGES)) + own)
    return np.concatenate(layers)


def _activated(before: Array, unit: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = [KINDS[kind_of(each)](row) for each, row in zip(unit, before, strict=True)]
    return np.array(rows, np.float32)


@cache
def _distribution(kind: str, effect: float) -> tuple[Array, Array, Array]:
    """Return values on a fine grid, and their probabilities without and with the effect."""
    grid = np.linspace(-9.0, 9.0 + effect, 200_001)
    half = (grid[1] - grid[0]) / 2.0
    without, shifted = (
        stats.norm.cdf(grid + half, shift) - stats.norm.cdf(grid - half, shift)
        for shift in (0.0, effect)
    )
    return KINDS[kind](grid), without / without.sum(), shifted / shifted.sum()


@cache
def true_auroc(kind: str, effect: float) -> float:
    """Return the area of a class with this effect against the rest, ties counting one half."""
    value, without, shifted = _distribution(kind, effect)
    place = np.cumsum(np.diff(value, prepend=value[0]) > 0)  # values never fall
    rest, own = np.bincount(place, without), np.bincount(place, shifted)
    return float(own @ (np.cumsum(rest) - rest / 2.0))


@cache
def true_difference(kind: str, effect: float, images: int) -> float:
    """Return the difference of a class of so many images from the rest, in pooled sd."""
    value, without, shifted = _distribution(kind, effect)
    mean, own_mean = value @ without, value @ shifted
    variance = (value - mean) ** 2 @ without
    own_variance = (value - own_mean) ** 2 @ shifted
    pooled = (images - 1) * own_variance + (IMAGES - images - 1) * variance
    return float((own_mean - mean) / np.sqrt(pooled / (IMAGES - 2)))
