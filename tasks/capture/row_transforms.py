"""Reductions of a map, and of what a batch norm, an addition and a ReLU make of it, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from activarium.tasks.capture.reduction_kernel import (
    ACTIVE,
    ADD,
    MAX,
    ORDER,
    RECTIFY,
    SCALE,
    SD,
    STAGES,
)
from activarium.tasks.capture.reduction_threads import transform_on_threads

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from activarium.schemas.layout import Reduction

LANES = 512
"""Values side by side, at most, unless there are more channels."""

THREADED_VALUES = 2**18
"""Values of a map from which it is worth handing images to several threads."""


@dataclass(frozen=True)
class Operations:
    """What is done to a map, in this order; what is absent is not done."""

    affine: tuple[torch.Tensor, torch.Tensor] | None = None
    """Scale and shift (channel), as of a batch norm."""
    other: torch.Tensor | None = None
    """What is added, of the map's shape."""
    upper: float | None = None
    """Values are held between zero and this, as ReLU (infinity) and ReLU6 do."""

    @property
    def bits(self) -> int:
        """The operations as the kernel takes them."""
        parts = ((self.affine, SCALE), (self.other, ADD), (self.upper, RECTIFY))
        return sum(bit for part, bit in parts if part is not None)


def transform_rows(
    source: torch.Tensor,
    result: torch.Tensor,
    operations: Operations,
    reductions: Sequence[Collection[Reduction] | None],
) -> list[dict[Reduction, torch.Tensor]]:
    """Fill `result` with the transformed map, and return reductions of it at every stage.

    Parameters
    ----------
    source
        (image, position, channel), float32, contiguous, on the CPU.
    result
        Of the same shape; may be `source` itself.
    operations
        What is done.
    reductions
        For each of the STAGES what is wanted; None for nothing.

    Returns
    -------
    list of dict
        For each stage the reductions, each (image, channel).
    """
    images, positions, channels = source.shape
    beside = max(1, min(LANES // channels, positions))
    numbers = np.zeros((3, beside * channels), np.float32)
    if operations.affine is not None:
        numbers[:2] = [np.tile(each.numpy(), beside) for each in operations.affine]
    if operations.upper is not None:
        numbers[2] = operations.upper
    bits = {"max": MAX, "sd": SD, "active": ACTIVE, "mean": 0}
    wanted = np.array(
        [-1 if each is None else sum(bits[reduction] for reduction in each) for each in reductions]
    )
    reduced = np.empty((STAGES, len(ORDER), images, channels), np.float32)
    maps, transformed = (each.reshape(images, -1).numpy() for each in (source, result))
    added = maps if operations.other is None else operations.other.reshape(images, -1).numpy()
    work = (operations.bits, numbers, wanted)
    threads = 1 if maps.size < THREADED_VALUES else min(torch.get_num_threads(), images)
    transform_on_threads((maps, transformed, added), work, reduced, threads)
    return [
        {reduction: torch.from_numpy(reduced[stage, ORDER.index(reduction)]) for reduction in each}
        for stage, each in enumerate(each or () for each in reductions)
    ]


def reduce_rows(maps: torch.Tensor, reductions: Sequence[Reduction]) -> list[torch.Tensor]:
    """Return several reductions of a map, each (image, channel).

    Parameters
    ----------
    maps
        (image, position, channel), float32, contiguous, on the CPU.
    reductions
        Which, in order.
    """
    reduced = transform_rows(maps, maps, Operations(), (reductions, None, None, None))[0]
    return [reduced[reduction] for reduction in reductions]
