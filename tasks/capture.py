"""Forward hooks that reduce every layer's maps at once, on the device.

A map is never kept: a stored reference would be overwritten by an in-place ReLU after it, and the
maps of one batch are far larger than their means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.nn import functional

from activarium.schemas.errors import UserError
from activarium.tasks.layers import CallNames, as_map, output_matrix, run_forward

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from torch import nn

    from activarium.schemas.config import Precision
    from activarium.schemas.layers import Layer
    from activarium.schemas.layout import Reduction

ENGINE = "hooks"
"""Name of this way of capturing, as recordings note it."""

COMPARED_VALUES = 2**21
"""Values compared at once in `map_active`: 8 MB of float32, which stay in the cache."""

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def map_mean(channels: torch.Tensor) -> torch.Tensor:
    """Return the mean over positions, (image, channel), accumulated in float32."""
    return channels.mean(dim=(2, 3), dtype=torch.float32)


def map_max(channels: torch.Tensor) -> torch.Tensor:
    """Return the largest value over positions, (image, channel)."""
    return channels.amax(dim=(2, 3)).float()


def map_sd(channels: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation over positions (dividing by their number)."""
    return channels.float().std(dim=(2, 3), correction=0)


def map_active(channels: torch.Tensor) -> torch.Tensor:
    """Return the fraction of positions above zero, from 0 to 1.

    The comparison goes into one small buffer, some images at a time: fresh memory for a whole map
    takes ten times as long on the CPU.
    """
    images = len(channels)
    step = max(1, min(images, COMPARED_VALUES // channels[0].numel()))
    buffer = torch.empty_like(channels[:step], dtype=torch.float32)
    parts = [
        torch.gt(channels[start : start + step], 0, out=buffer[: images - start]).mean(dim=(2, 3))
        for start in range(0, images, step)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


REDUCTIONS: dict[Reduction, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": map_mean,
    "max": map_max,
    "sd": map_sd,
    "active": map_active,
}


def pool_map(channels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return the map average-pooled to `grid` and flattened, (image, channel x row x column)."""
    return functional.adaptive_avg_pool2d(channels.float(), grid).flatten(1)


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


@dataclass(frozen=True)
class CapturedBatch:
    """What one batch leaves behind, on the host."""

    responses: dict[Reduction, torch.Tensor]
    """(image, unit) per reduction."""
    pooled: torch.Tensor
    """(image, feature)."""
    output: torch.Tensor
    """(image, output)."""


class HookCapture:
    """Runs a model and reduces the chosen layers inside forward hooks.

    Use as a context manager; the hooks are removed at its end.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        *,
        reductions: Sequence[Reduction],
        pooled: Sequence[PooledLayer],
        precision: Precision = "float32",
    ) -> None:
        self._model = model
        self._layers = {layer.name: layer for layer in layers}
        self._reductions = tuple(reductions)
        self._pooled = {each.layer.name: (each.rows, each.columns) for each in pooled}
        self._dtype = DTYPES[precision]
        self._names = CallNames()
        self._images = 0
        self._reduced: dict[tuple[str, str], torch.Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        wanted = {name.split(":")[0] for name in self._layers}
        for path, module in self._model.named_modules():
            if path in wanted:
                self._handles.append(module.register_forward_hook(self._hook(path)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._reduced.clear()

    def _hook(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def reduce(module: nn.Module, _: Any, output: Any) -> None:
            name = self._names.next(path)
            layer = self._layers.get(name)
            if layer is None:
                return
            channels = as_map(output, self._images, module)
            if channels is None or channels.shape[1] != layer.units:
                raise UserError(
                    f"layer {name!r} changed between batches: expected {layer.units} channels for "
                    f"{self._images} images, got {tuple(getattr(output, 'shape', ()))}"
                )
            self._reduce(name, channels)

        return reduce

    def _reduce(self, name: str, channels: torch.Tensor) -> None:
        if channels.dim() == 2:
            channels = channels[:, :, None, None]
        for reduction in self._reductions:
            self._reduced[reduction, name] = REDUCTIONS[reduction](channels)
        if name in self._pooled:
            self._reduced["pooled", name] = pool_map(channels, self._pooled[name])

    def run(self, images: torch.Tensor) -> CapturedBatch:
        """Run one batch (image, colour, row, column) and return its reductions on the host.

        Raises
        ------
        UserError
            If the forward pass fails, or a layer is not called as in the trial.
        """
        self._names.reset()
        self._reduced.clear()
        self._images = len(images)
        autocast = torch.autocast(
            images.device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32
        )
        with torch.inference_mode(), autocast:
            output = output_matrix(run_forward(self._model, images), len(images)).float()
        responses = {
            reduction: self._gather(reduction, list(self._layers)) for reduction in self._reductions
        }
        pooled = self._gather("pooled", list(self._pooled)) if self._pooled else output[:, :0].cpu()
        self._reduced.clear()
        return CapturedBatch(responses, pooled, output.cpu())

    def _gather(self, reduction: str, names: Sequence[str]) -> torch.Tensor:
        missing = [name for name in names if (reduction, name) not in self._reduced]
        if missing:
            raise UserError(
                f"layer {missing[0]!r} was called in the trial batch but not in this one; "
                "leave it out with record.layers"
            )
        return torch.cat([self._reduced[reduction, name] for name in names], dim=1).cpu()
