"""Made-up responses of units to images of several classes, and the product's own blocks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Codes = NDArray[np.int64]

BLOCK_UNITS = 256
"""Units that the product holds at a time."""
CHUNK_IMAGES = 4_096
"""Images of one chunk of a recording."""
KINDS = ("half zero", "continuous")
"""As after a ReLU, and as before it."""


@dataclass(frozen=True)
class Case:
    """How much is computed."""

    images: int
    units: int
    classes: int

    def __str__(self) -> str:
        """Return the case in words."""
        return f"{self.images:,} images x {self.units:,} units x {self.classes:,} classes"

    @property
    def blocks(self) -> list[slice]:
        """The units of each block."""
        starts = range(0, self.units, BLOCK_UNITS)
        return [slice(start, min(start + BLOCK_UNITS, self.units)) for start in starts]

    @property
    def label(self) -> Codes:
        """Class of each image, ascending: the order in which the product holds the images."""
        drawn = np.random.default_rng(0).integers(0, self.classes, self.images)
        return np.sort(drawn).astype(np.int64)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class."""
        return tuple(f"class {code}" for code in range(self.classes))


def responses_of(case: Case, kind: str) -> Matrix:
    """Return responses (unit, image) that differ between classes, from not at all to strongly."""
    rng = np.random.default_rng(1)
    label = case.label
    responses = np.empty((case.units, case.images), np.float32)
    for unit in range(case.units):
        effect = rng.uniform(0, 0.8) * rng.normal(size=case.classes)
        rng.standard_normal(dtype=np.float32, out=responses[unit])
        responses[unit] += effect.astype(np.float32)[label]
    return np.maximum(responses, 0, out=responses) if kind == KINDS[0] else responses


def as_stored(responses: Matrix) -> Matrix:
    """Return the responses as a recording holds them, (image, unit)."""
    return np.ascontiguousarray(responses.T)


def read_units(stored: Matrix, units: slice) -> Matrix:
    """Return some units of a stored matrix as (unit, image), chunk by chunk as the product does."""
    part = stored[:, units]
    found = np.empty(part.shape[::-1], np.float32)
    for start in range(0, len(part), CHUNK_IMAGES):
        rows = slice(start, start + CHUNK_IMAGES)
        found[:, rows] = part[rows].T
    return found
