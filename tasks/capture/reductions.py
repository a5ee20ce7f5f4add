"""What is kept of a map: a few numbers per image and channel, in float32 whatever the forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from activarium.schemas.layers import Layer
    from activarium.schemas.layout import Reduction
    from activarium.tasks.capture.layer_maps import Tap


def map_mean(maps: torch.Tensor) -> torch.Tensor:
    """Return the mean over positions, (image, channel), accumulated in float32."""
    return maps.mean(dim=(2, 3), dtype=torch.float32)


def map_max(maps: torch.Tensor) -> torch.Tensor:
    """Return the largest value over positions, (image, channel)."""
    return maps.amax(dim=(2, 3)).float()


def map_sd(maps: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation over positions (dividing by their number), in two passes."""
    values = maps.float()
    return (values - values.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(2, 3)).sqrt()


def map_active(maps: torch.Tensor) -> torch.Tensor:
    """Return the fraction of positions above zero, from 0 to 1."""
    # In the map's own type: booleans would be converted before they are added up.
    positive = torch.gt(maps, 0, out=torch.empty_like(maps))
    return positive.mean(dim=(2, 3), dtype=torch.float32)


REDUCTIONS: dict[Reduction, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": map_mean,
    "max": map_max,
    "sd": map_sd,
    "active": map_active,
}


def reduce_maps(maps: torch.Tensor, reductions: tuple[Reduction, ...]) -> list[torch.Tensor]:
    """Return several reductions of maps (image, channel, row, column), each (image, channel).

    On the CPU they are made in one reading of the map where its channels lie side by side, as
    they do in channels_last and in sequences; a compiler joins them itself.
    """
    rows = None
    if not {"sd", "active"}.isdisjoint(reductions) and not torch.compiler.is_compiling():
        rows = channels_last_rows(maps)
    if rows is None:
        return [REDUCTIONS[reduction](maps) for reduction in reductions]
    from activarium.tasks.capture.row_transforms import reduce_rows

    return reduce_rows(rows, reductions)


def channels_last_rows(maps: torch.Tensor) -> torch.Tensor | None:
    """Return float32 maps on the CPU as a view (image, position, channel).

    None where their channels do not lie side by side.
    """
    if maps.dim() != 4 or maps.device.type != "cpu" or maps.dtype != torch.float32:
        return None
    rows = maps.permute(0, 2, 3, 1)
    return rows.flatten(1, 2) if rows.is_contiguous() else None


def pool_map(maps: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return the map average-pooled to `grid` and flattened, (image, channel x row x column)."""
    return functional.adaptive_avg_pool2d(maps.float(), grid).flatten(1)


@dataclass(frozen=True)
class PooledLayer:
    """One layer whose pooled features are kept, and the grid that its map is pooled to."""

    layer: Layer
    rows: int
    columns: int

    @property
    def features(self) -> int:
        """Number of pooled features."""
        return self.layer.units * self.rows * self.columns


class Reduce(nn.Module):
    """Reduces one layer's output: one (image, column) tensor per reduction, then pooled features.

    Parameters
    ----------
    tap
        Where the maps come from.
    reductions
        Which reductions, in order.
    grid
        Rows and columns of the pooled features; None for none.
    count
        Takes the maps too, to count their values; None where none are counted.
    """

    def __init__(
        self,
        tap: Tap,
        reductions: Sequence[Reduction],
        grid: tuple[int, int] | None,
        count: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        self.tap = tap
        self.reductions = tuple(reductions)
        self.grid = grid
        self._count = count

    @property
    def counts(self) -> bool:
        """Values are counted too."""
        return self._count is not None

    def forward(self, output: Any, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return the reductions of a call's output; `inputs` tell how many images there are."""
        maps = self.tap.maps(output, len(inputs))
        if self._count is not None:
            self._count(maps)
        reduced = reduce_maps(maps, self.reductions)
        return reduced if self.grid is None else [*reduced, pool_map(maps, self.grid)]
