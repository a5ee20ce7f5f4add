"""Capture: run a model and reduce every chosen layer at once, on the device.

A map is never kept: a stored reference would be overwritten by an in-place ReLU after it, and the
maps of one batch are far larger than their means. There are two engines with one contract, forward
hooks here and the traced graph in `traced_capture`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.forward import forward_precision, run_forward
from activarium.tasks.capture.layer_calls import LayerCalls
from activarium.tasks.capture.operations import module_path
from activarium.tasks.capture.reductions import PooledLayer, Reduce

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from activarium.schemas.config import Precision
    from activarium.schemas.layout import Reduction
    from activarium.tasks.capture.density import DensityCounter
    from activarium.tasks.capture.layers import ModelLayers


@dataclass(frozen=True)
class Wanted:
    """What is captured of a model."""

    layers: ModelLayers
    reductions: tuple[Reduction, ...]
    pooled: tuple[PooledLayer, ...]
    precision: Precision = "float32"

    def reducers(self, density: DensityCounter | None = None) -> list[Reduce]:
        """Return one reducer per layer, in order; each counts its layer's values where asked."""
        grids = {each.layer.name: (each.rows, each.columns) for each in self.pooled}
        return [
            Reduce(
                tap,
                self.reductions,
                grids.get(tap.layer.name),
                None if density is None else partial(density.add, place),
            )
            for place, tap in enumerate(self.layers.taps)
        ]

    def columns(self) -> dict[str, slice]:
        """Return which columns of a captured batch go into which array of the recording."""
        widths = {f"channel_{reduction}": self.layers.units for reduction in self.reductions}
        if self.pooled:
            widths["pooled"] = sum(each.features for each in self.pooled)
        widths["logits"] = self.layers.outputs
        columns, start = {}, 0
        for name, width in widths.items():
            columns[name] = slice(start, start + width)
            start += width
        return columns


def gather(reduced: Sequence[Sequence[torch.Tensor]], output: torch.Tensor) -> torch.Tensor:
    """Return everything of one batch as (image, column), ordered as `Wanted.columns` says.

    Parameters
    ----------
    reduced
        For each layer what its reducer returned: the reductions, then pooled features if any.
    output
        The model's output (image, output).
    """
    longest = max(len(layer) for layer in reduced)
    ordered = [layer[place] for place in range(longest) for layer in reduced if place < len(layer)]
    return torch.cat([*ordered, output.float()], dim=1)


class Capture(ABC):
    """Runs a model over batches and reduces its layers. Use as a context manager."""

    engine: str
    """Name of this way of capturing, as recordings note it."""

    def __init__(self, wanted: Wanted, density: DensityCounter | None = None) -> None:
        self.wanted = wanted
        self.columns: Mapping[str, slice] = wanted.columns()
        self._density = density

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027 - hooks alone have something to undo
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the capture."""

    @abstractmethod
    def _run(self, images: torch.Tensor) -> torch.Tensor: ...

    def run(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Run one batch and return its reductions, on the device.

        Parameters
        ----------
        images
            Input (image, colour, row, column), on the device.
        classes
            Class code per image, int64; only densities need it. Images below 0 are not counted.

        Returns
        -------
        torch.Tensor
            (image, column) in float32; `columns` tells which are which.

        Raises
        ------
        UserError
            If the forward pass fails, or a layer is not called as in the trial.
        """
        if self._density is not None:
            self._density.classes = classes
        with forward_precision(self.wanted.precision, images.device):
            return self._run(images)

    def take_density(self) -> NDArray[np.int64] | None:
        """Return the counts (layer, class, bin) since the last call; None where none are kept."""
        return None if self._density is None else self._density.take()


class HookCapture(Capture):
    """Captures by forward hooks, which any model allows."""

    engine = "hooks"

    def __init__(
        self, model: nn.Module, wanted: Wanted, density: DensityCounter | None = None
    ) -> None:
        super().__init__(wanted, density)
        self._model = model
        self._reducers: dict[str, list[tuple[int, Reduce]]] = {}
        for place, reducer in enumerate(wanted.reducers(density)):
            self._reducers.setdefault(reducer.tap.call, []).append((place, reducer))
        self._images = torch.empty(0)
        self._reduced: list[list[torch.Tensor] | None] = []
        self._expected_calls: list[str] | None = None
        self._calls = LayerCalls(model, self._reduce, paths=_paths(model, wanted))

    def __enter__(self) -> Self:
        self._calls.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._calls.__exit__(kind, error, traceback)
        self._reduced = []

    def _reduce(self, call: str, origin: Any, output: Any) -> None:
        del origin
        for place, reducer in self._reducers.get(call, ()):
            self._reduced[place] = reducer(output, self._images)

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        self._reduced, self._images = [None] * len(self.wanted.layers.taps), images
        try:
            self._calls.begin()
            returned = run_forward(self._model, images)
            self._calls.end()
            output = self.wanted.layers.output.matrix(returned, len(images))
            self._check_reduced()
            self._check_calls()
            return gather([values for values in self._reduced if values is not None], output)
        finally:
            # A batch that does not fit the memory must not be held by what could not run it.
            self._reduced, self._images = [], torch.empty(0)

    def _check_reduced(self) -> None:
        """Refuse a batch in which a layer was not called."""
        for tap, values in zip(self.wanted.layers.taps, self._reduced, strict=True):
            if values is None:
                raise UserError(
                    f"layer {tap.layer.name!r} was called in the trial batch but not in this one; "
                    "leave it out with record.layers"
                )

    def _check_calls(self) -> None:
        """Refuse a model that calls other modules than in the first batch.

        Which modules are called for some images only, the trial has shown.
        """
        uneven = self.wanted.layers.uneven
        called = [name for name in self._calls.called if name.partition(":")[0] not in uneven]
        expected = self._expected_calls
        self._expected_calls = expected = called if expected is None else expected
        if called != expected:
            changed = sorted(set(called).symmetric_difference(expected)) or ["their order"]
            raise UserError(
                f"the model changed its layers between batches ({', '.join(changed[:3])}): layers "
                "that depend on the images or on the number of calls cannot be recorded"
            )


def _paths(model: nn.Module, wanted: Wanted) -> set[str]:
    """Return the paths of the modules and functions that are captured."""
    modules = {module_path(path) for path, _ in model.named_modules()}
    calls = {tap.call: tap.path for tap in wanted.layers.taps}
    return {call if call in modules else path for call, path in calls.items()}
