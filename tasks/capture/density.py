"""Histograms of all activations: every position of every map, per layer and class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from activarium.schemas.density import BINS, LOWEST, NEAR_ZERO, STEPS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

_SHIFT = 23 - STEPS.bit_length() + 1
"""Bits of a float32 below its exponent and the first bits of its mantissa."""

_FIRST = (127 + LOWEST) * STEPS
"""Exponent and first mantissa bits of the smallest magnitude with a bin of its own."""


def bin_of(values: torch.Tensor) -> torch.Tensor:
    """Return the bin of each value, int64; values that are not numbers get `BINS`.

    The bits of a float32 below its sign rise with its magnitude: exponent and first mantissa bits
    are the bin, without any logarithm.
    """
    bits = values.float().view(torch.int32)
    rank = ((bits & 0x7FFFFFFF) >> _SHIFT).sub_(_FIRST - 1).clamp_(0, NEAR_ZERO)
    bins = torch.where(bits < 0, NEAR_ZERO - rank, NEAR_ZERO + rank)
    return torch.where(torch.isnan(values), BINS, bins).long()


class DensityCounter:
    """Counts activations per layer, class and bin, on the device.

    Parameters
    ----------
    layers, classes
        Their numbers.
    device
        Where the counts are kept.
    """

    def __init__(self, layers: int, classes: int, device: torch.device) -> None:
        self.classes: torch.Tensor | None = None
        """Class code per image of the batch that runs; images below 0 are not counted."""
        # Images that do not count, and values that are no numbers, are counted beside the rest.
        size = (layers, classes + 1, BINS + 1)
        self._counts = torch.zeros(size, dtype=torch.int64, device=device)
        self._count = _counting(device)

    def add(self, layer: int, maps: torch.Tensor) -> None:
        """Count every value of one layer's maps (image, channel, row, column)."""
        if self.classes is None:
            raise ValueError("densities need the classes of the batch")
        values = maps.permute(0, 2, 3, 1).reshape(len(maps), -1)
        self._count(values, self.classes, self._counts[layer])

    def take(self) -> NDArray[np.int64]:
        """Return the counts (layer, class, bin) since the last call."""
        counts: NDArray[np.int64] = self._counts[:, :-1, :-1].cpu().numpy().copy()
        self._counts.zero_()
        return counts


def _counting(
    device: torch.device,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]:
    if device.type != "cpu":
        return _count_by_torch
    from activarium.tasks.capture.density_kernel import count_values

    def count(values: torch.Tensor, classes: torch.Tensor, counts: torch.Tensor) -> None:
        bits = values.float().view(torch.int32).numpy()
        count_values(bits, classes.cpu().numpy(), counts.numpy())

    return count


def _count_by_torch(values: torch.Tensor, classes: torch.Tensor, counts: torch.Tensor) -> None:
    """Add the values of each image to the counts of its class; nothing waits for the device.

    Each image is counted by itself first: where one bin holds half of all values, as zero does
    behind a ReLU, all threads would wait for one number.

    Parameters
    ----------
    values
        (image, value).
    classes
        Class code per image; images below 0 go into the last row.
    counts
        (class and one more, bin and one more), added to.
    """
    bins = bin_of(values)
    own = counts.new_zeros((len(values), counts.shape[1]))
    own.scatter_add_(1, bins, counts.new_ones(()).expand(bins.shape))
    counts.index_add_(0, torch.where(classes < 0, len(counts) - 1, classes), own)
