"""One forward pass that is watched: what its calls return, and what takes it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from activarium.tasks.capture.forward import Watching, run_forward
from activarium.tasks.capture.layer_calls import LayerCalls
from activarium.tasks.capture.layer_maps import tensors_of
from activarium.tasks.capture.model_output import choose_output, tensor_at
from activarium.tasks.capture.operations import (
    function_kind,
    module_kind,
    operation,
    settled_axis,
)
from activarium.tasks.capture.tf32 import steady_convolutions, tf32_products

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from activarium.schemas.layers import Kind
    from activarium.tasks.capture.channel_labels import ChannelLabels

    Note = Callable[["Seen", torch.Tensor], None]

_RELUS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}

OUTPUT = ""
"""Name of the model's output among the layers: no module has it."""


@dataclass(frozen=True)
class Seen:
    """One tensor that a call returned."""

    name: str
    """Name of the layer: of the call, and the tensor's place in the output where it has several."""
    call: str
    leaf: int
    """Place among all that the call's output holds."""
    kind: Kind
    shape: tuple[int, ...]
    is_module: bool
    memory: tuple[Any, ...]
    """The same for two outputs that are one and the same memory, unchanged between them."""


class Pass:
    """Notes the outputs of one forward pass."""

    def __init__(self, note: Note, output: str | None) -> None:
        self._note = note
        self._output = output
        self.chosen: tuple[str, str] = ("", "")
        """Key of the model's output, and a line about it."""

    def run(
        self, model: nn.Module, images: torch.Tensor, *modes: AbstractContextManager[Any]
    ) -> None:
        """Run the model once."""
        with ExitStack() as stack:
            # Rounding that another algorithm does otherwise would pass for an answer to other images.
            stack.enter_context(tf32_products(allowed=False))
            stack.enter_context(steady_convolutions())
            stack.enter_context(torch.no_grad())
            calls = stack.enter_context(LayerCalls(model, self._called))
            for mode in modes:
                stack.enter_context(mode)
            calls.begin()
            returned = run_forward(model, images)
            calls.end()
            self.chosen = choose_output(returned, self._output)
            output = tensor_at(returned, self.chosen[0])
            output = output.unsqueeze(1) if output.dim() == 1 else output
            shape = tuple(output.shape)
            seen = Seen(OUTPUT, OUTPUT, 0, "other", shape, is_module=False, memory=())
            with _disable_current_modes():
                self._note(seen, output)

    def _called(self, call: str, origin: Any, output: Any) -> None:
        is_module = isinstance(origin, nn.Module)
        kind = module_kind(origin) if is_module else function_kind(origin)
        if kind is None:
            return
        leaves = tensors_of(output)
        if kind in ("recurrent", "attention"):
            leaves = leaves[:1]  # what follows are states and weights of the attention
        for path, place, tensor in leaves:
            name = call if len(leaves) == 1 else f"{call}{path}"
            try:
                memory = (tensor.data_ptr(), _version(tensor), tensor.numel(), tensor.dtype)
            except RuntimeError:  # inside of vmap a tensor stands for many, and is no layer's
                continue
            shape = tuple(tensor.shape)
            seen = Seen(name, call, place, kind, shape, is_module=is_module, memory=memory)
            with _disable_current_modes():  # what is looked at here, the model does not do
                self._settle(origin, tensor)
                self._note(seen, tensor)

    def _settle(self, origin: Any, tensor: torch.Tensor) -> None:
        """Let a module say where its channels are."""


class LabelledPass(Pass):
    """Follows the channels too."""

    labels: ChannelLabels

    def _settle(self, origin: Any, tensor: torch.Tensor) -> None:
        if isinstance(origin, nn.Module):
            axis = settled_axis(origin)
        else:
            axis = -1 if operation(origin) == "linear" else None
        if axis is not None:
            self.labels.anchor(tensor, axis)


def _version(tensor: torch.Tensor) -> int:
    """Return how often a tensor's memory was written to; tensors of inference do not count it."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001


class Consumers(Watching):
    """Notes which operations take the outputs of layers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names: dict[int, list[str]] = {}
        self._alive: list[torch.Tensor] = []
        self.taken_by_relu: dict[str, bool] = {}

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Note from now on what takes this tensor."""
        self._names.setdefault(id(tensor), []).append(name)
        self._alive.append(tensor)

    def release(self) -> None:
        """Let go of what was watched."""
        self._names.clear()
        self._alive.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        flat, _ = pytree.tree_flatten((args, kwargs))
        for value in flat:
            names = self._names.get(id(value), ()) if isinstance(value, torch.Tensor) else ()
            for name in names:
                self.taken_by_relu[name] = self.taken_by_relu.get(name, True) and func in _RELUS
            if names and func is torch.ops.aten.relu_.default:
                # From here on the same tensor holds the ReLU's output, not the layer's.
                del self._names[id(value)]
        # What a scripted function does inside is none of the calls that Python makes.
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            return func(*args, **(kwargs or {}))
