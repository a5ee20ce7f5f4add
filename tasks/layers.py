"""Which layers a model has, found by one trial forward pass.

A layer is one call of one module, named by its module path; the second call of a reused module is
`name:2`. Layers are ordered by when they finish, which is the order in which data flows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from activarium.schemas.errors import UserError
from activarium.schemas.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.config import Kind

BLOCK_CLASSES = re.compile(
    r"Block|Bottleneck|Residual|Inception(?!3)|MBConv|DenseLayer|MaxVitLayer"
)
"""Class names of the building blocks of torchvision's models, and of most others."""

CHANNELS_LAST_CLASSES = re.compile(r"Swin\w*Block|PatchMerging")
"""Blocks whose maps are (image, row, column, channel)."""

_RELUS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}


@dataclass(frozen=True)
class ModelLayers:
    """The chosen layers of a model in order, and the width of its output."""

    layers: tuple[Layer, ...]
    outputs: int

    @property
    def units(self) -> int:
        """Number of units of all layers."""
        return sum(layer.units for layer in self.layers)

    def offsets(self) -> tuple[int, ...]:
        """Return the first column of each layer."""
        starts, start = [], 0
        for layer in self.layers:
            starts.append(start)
            start += layer.units
        return tuple(starts)


def module_kind(module: nn.Module) -> Kind | None:
    """Return what kind of layer a module is; None where it is not recorded."""
    if isinstance(module, nn.Conv2d):
        return "conv"
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        return "pool" if module.output_size in (1, (1, 1)) else None
    own = not type(module).__module__.startswith("torch.nn.")
    return "block" if own and BLOCK_CLASSES.search(type(module).__name__) else None


def as_map(output: Any, images: int, module: nn.Module) -> torch.Tensor | None:
    """Return a layer's output as (image, channel, row, column) or (image, channel).

    Linear layers and transformer blocks put the channel last; all axes between image and channel
    become rows. Windowed attention folds windows into the first axis; they become rows too.

    Returns None for an output that does not hold one row per image.
    """
    if not isinstance(output, torch.Tensor) or output.dim() < 2 or output.shape[0] % images:
        return None
    channels_last = isinstance(module, nn.Linear) or bool(
        CHANNELS_LAST_CLASSES.search(type(module).__name__)
    )
    if output.dim() == 2 and output.shape[0] == images:
        return output
    if output.dim() == 4 and not channels_last:
        return output if output.shape[0] == images else None
    tokens = output.reshape(images, -1, output.shape[-1])
    return tokens.transpose(1, 2).unsqueeze(-1)


class CallNames:
    """Numbers the calls of each module within one forward pass."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}

    def reset(self) -> None:
        """Start a new forward pass."""
        self._calls.clear()

    def next(self, path: str) -> str:
        """Return the layer name of the next call of the module at `path`."""
        count = self._calls[path] = self._calls.get(path, 0) + 1
        return path if count == 1 else f"{path}:{count}"


class _Consumers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operations take the outputs of layers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[int, str] = {}
        self.taken_by_relu: dict[str, bool] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        flat, _ = torch.utils._pytree.tree_flatten((args, kwargs))  # noqa: SLF001
        for value in flat:
            name = self.names.get(id(value)) if isinstance(value, torch.Tensor) else None
            if name is not None:
                is_relu = func in _RELUS
                self.taken_by_relu[name] = self.taken_by_relu.get(name, True) and is_relu
                if func is torch.ops.aten.relu_.default:
                    # From here on the same tensor holds the ReLU's output, not the layer's.
                    del self.names[id(value)]
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Call:
    name: str
    kind: Kind
    shape: tuple[int, ...]


def find_layers(
    model: nn.Module, example: torch.Tensor, *, patterns: Sequence[str], kinds: Sequence[Kind]
) -> ModelLayers:
    """Return the layers that a forward pass of the example calls, as chosen.

    Parameters
    ----------
    model
        The model, in evaluation mode.
    example
        Input (image, colour, row, column). A single image is passed on twice, because any first
        axis would do for one row per image; neither names nor sizes of the maps depend on it.
    patterns
        Globs of layer names; a layer is chosen when any matches.
    kinds
        Kinds of layers.

    Raises
    ------
    UserError
        If the forward pass fails, or a pattern matches no layer.
    """
    images = example if len(example) > 1 else torch.cat([example, example])
    calls, consumers, output = _trial(model, images)
    chosen = _chosen(calls, patterns, kinds)
    layers = tuple(
        Layer(
            name=call.name,
            kind=call.kind,
            depth=depth,
            units=call.shape[1],
            height=call.shape[2] if len(call.shape) == 4 else 1,
            width=call.shape[3] if len(call.shape) == 4 else 1,
            activation="relu" if consumers.taken_by_relu.get(call.name, False) else "",
        )
        for depth, call in enumerate(chosen)
    )
    return ModelLayers(layers, output.shape[1])


def _chosen(calls: Sequence[_Call], patterns: Sequence[str], kinds: Sequence[Kind]) -> list[_Call]:
    """Return the calls that any pattern matches; each pattern has to match one at least."""
    wanted = [call for call in calls if call.kind in kinds]
    for pattern in patterns or ("",):
        if not any(fnmatchcase(call.name, pattern) for call in wanted):
            raise UserError(
                f"record.layers: no layer matches {pattern!r} with kinds {list(kinds)!r}; "
                f"{_names_near(calls, pattern)}"
            )
    return [call for call in wanted if any(fnmatchcase(call.name, each) for each in patterns)]


def _names_near(calls: Sequence[_Call], pattern: str) -> str:
    """Say which names are close to the pattern, else the first ones, each with its kind."""
    kinds = {call.name: call.kind for call in calls}
    near = get_close_matches(pattern, kinds)
    names = ", ".join(f"{name} ({kinds[name]})" for name in near or [*kinds][:8])
    if near:
        return f"did you mean {names}? the model has {len(calls)} layers"
    return f"the model has {len(calls)} layers: {names}{' ...' if len(calls) > 8 else ''}"


def _trial(model: nn.Module, example: torch.Tensor) -> tuple[list[_Call], _Consumers, torch.Tensor]:
    calls: list[_Call] = []
    kept: list[torch.Tensor] = []  # ids of tensors stay theirs while the tensors live
    consumers, names = _Consumers(), CallNames()

    def note(path: str, kind: Kind, module: nn.Module, output: Any) -> None:
        name = names.next(path)
        channels = as_map(output, len(example), module)
        if channels is not None:
            calls.append(_Call(name, kind, tuple(channels.shape)))
            kept.append(output)
            consumers.names[id(output)] = name

    handles = []
    for path, module in model.named_modules():
        kind = module_kind(module) if path else None
        if kind is not None:

            def hook(
                module: nn.Module, _: Any, output: Any, path: str = path, kind: Kind = kind
            ) -> None:
                note(path, kind, module, output)

            handles.append(module.register_forward_hook(hook))
    try:
        with torch.no_grad(), consumers:
            output = output_matrix(run_forward(model, example), len(example))
    finally:
        for handle in handles:
            handle.remove()
    return calls, consumers, output


def run_forward(model: nn.Module, images: torch.Tensor) -> Any:
    """Return the model's output, or raise one line that says what the model was given.

    Raises
    ------
    UserError
        If the forward pass fails for the input's sake.
    """
    try:
        return model(images)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of memory on {images.device} with a batch of {len(images)}: set a smaller "
            "record.batch_size"
        ) from error
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the model's forward pass failed on an input of shape {tuple(images.shape)} "
            f"({images.dtype}): {reason}; check preprocessing.size and model.architecture"
        ) from error


def output_matrix(output: Any, images: int) -> torch.Tensor:
    """Return the model's output as (image, output); maps are averaged over their positions.

    Raises
    ------
    UserError
        If the output holds no tensor with one row per image.
    """
    if isinstance(output, dict):
        output = output.get("out", next(iter(output.values()), None))
    if isinstance(output, tuple | list):
        output = output[0] if output else None
    if not isinstance(output, torch.Tensor) or output.dim() < 2 or len(output) != images:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise UserError(
            f"expected the model to return a tensor with {images} rows, one per image; got {shape}"
        )
    return output if output.dim() == 2 else output.flatten(2).mean(2)
