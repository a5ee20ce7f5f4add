"""Batch norm, addition and ReLU behind one another, with all reductions around them, in one pass.

Between two convolutions a model reads and writes each map several times, and every reduction reads
it once more. On the CPU that costs as much as a convolution; here all of it happens to a block of
the map while it lies in the cache. Values are those of torch, bit by bit.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from activarium.tasks.capture.reduction_kernel import STAGES
from activarium.tasks.capture.reductions import channels_last_rows
from activarium.tasks.capture.row_transforms import Operations, transform_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from activarium.tasks.capture.reductions import Reduce

PROBED_IMAGES, PROBED_SIDE = 2, 8
"""Size of the map by which a batch norm is compared with torch's."""


class Chain(nn.Module):
    """Does a chain's operations.

    Parameters
    ----------
    norm, upper
        The batch norm; the largest value that the rectifier leaves; None where there is none.
    reducers
        Each with the stage that it reduces.
    in_place
        Nobody else needs the chain's input.
    """

    def __init__(
        self,
        norm: nn.BatchNorm2d | None,
        upper: float | None,
        reducers: Sequence[tuple[int, Reduce]],
        *,
        in_place: bool,
    ) -> None:
        super().__init__()
        self.affine = None if norm is None else torchs_affine(norm)
        self.upper, self.in_place = upper, in_place
        self._norm, self._reducers = norm, tuple(reducers)
        self._wanted = [
            {each for place, reducer in reducers if place == stage for each in reducer.reductions}
            or None
            for stage in range(STAGES)
        ]

    def forward(
        self, maps: torch.Tensor, other: torch.Tensor | None, inputs: torch.Tensor
    ) -> list[Any]:
        """Return the transformed maps and what each reducer returns."""
        rows, added = channels_last_rows(maps), None
        if other is not None:
            added = channels_last_rows(other) if other.shape == maps.shape else None
        fits = rows is not None and (other is None or added is not None)
        if rows is None or not fits or not self._as_expected(maps, len(inputs)):
            return self._one_by_one(maps, other, inputs)
        result = maps if self.in_place else torch.empty_like(maps)
        transformed = rows if self.in_place else result.permute(0, 2, 3, 1).flatten(1, 2)
        operations = Operations(self.affine, added, self.upper)
        stages = transform_rows(rows, transformed, operations, self._wanted)
        return [
            result,
            *([stages[at][each] for each in own.reductions] for at, own in self._reducers),
        ]

    def _as_expected(self, maps: torch.Tensor, images: int) -> bool:
        return len(maps) == images and all(
            reducer.tap.layer.units == maps.shape[1] for _, reducer in self._reducers
        )

    def _one_by_one(
        self, maps: torch.Tensor, other: torch.Tensor | None, inputs: torch.Tensor
    ) -> list[Any]:
        """Do the operations by torch, for maps that lie in memory in another way."""
        steps: list[Callable[[torch.Tensor], torch.Tensor] | None] = [
            None,
            self._norm,
            None if other is None else partial(torch.add, other),
            None if self.upper is None else partial(torch.clamp, min=0, max=self.upper),
        ]
        reduced: dict[int, Any] = {}
        for stage, step in enumerate(steps):
            maps = maps if step is None else step(maps)
            for place, (own, reducer) in enumerate(self._reducers):
                if own == stage:
                    reduced[place] = reducer(maps, inputs)
        return [maps, *(reduced[place] for place in range(len(self._reducers)))]


def torchs_affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift (channel) of a batch norm in evaluation mode, rounded as torch does."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics has no fixed scale")
    mean, variance = mean.detach(), variance.detach()
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    bias = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach()
    shift = (bias.double() - mean.double() * scale.double()).float()
    return scale, shift


def is_torchs(norm: nn.BatchNorm2d) -> bool:
    """Tell whether the kernel gives the very bits of torch's batch norm on this machine."""
    if norm.running_mean is None or norm.running_var is None or norm.training:
        return False
    if norm.running_var.dtype != torch.float32 or norm.running_var.device.type != "cpu":
        return False
    generator = torch.Generator().manual_seed(0)
    size = (PROBED_IMAGES, norm.num_features, PROBED_SIDE, PROBED_SIDE)
    maps = torch.randn(size, generator=generator)
    spread = norm.running_var.detach().sqrt()[:, None, None]
    maps = maps * spread + norm.running_mean.detach()[:, None, None]
    maps = maps.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = Chain(norm, None, (), in_place=False)(maps, None, maps)[0]
        return torch.equal(found, norm(maps))
