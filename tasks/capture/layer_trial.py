"""A trial forward pass: which calls there are, what their outputs look like, which are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from activarium.tasks.capture.forward import output_matrix, run_forward
from activarium.tasks.capture.layer_calls import LayerCalls
from activarium.tasks.capture.layer_maps import first_axis, settled_axis, tensors_of
from activarium.tasks.capture.operations import function_kind, module_kind

if TYPE_CHECKING:
    from activarium.schemas.layers import Kind

_RELUS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}


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
    channel: int
    """Axis of the channels."""
    is_module: bool
    memory: tuple[Any, ...]
    """The same for two outputs that are one and the same memory, unchanged between them."""


@dataclass(frozen=True)
class Trial:
    """What one forward pass showed."""

    seen: tuple[Seen, ...]
    rectified: frozenset[str]
    """Names of layers whose output a ReLU takes, and nothing else."""
    outputs: int


class _Trace:
    """Collects the outputs of one forward pass; they all live until it ends, so ids stay theirs."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.axes = ChannelAxes()
        self.consumers = _Consumers()

    def note(self, call: str, origin: Any, output: Any) -> None:
        is_module = isinstance(origin, nn.Module)
        kind = module_kind(origin) if is_module else function_kind(origin)
        if kind is None:
            return
        leaves = tensors_of(output)
        if kind in ("recurrent", "attention"):
            leaves = leaves[:1]  # what follows are states and weights of the attention
        for path, place, tensor in leaves:
            axis = self.axes.of(origin, tensor)
            name = call if len(leaves) == 1 else f"{call}{path}"
            memory = (tensor.data_ptr(), tensor._version, tensor.numel(), tensor.dtype)  # noqa: SLF001
            shape = tuple(tensor.shape)
            self.seen.append(Seen(name, call, place, kind, shape, axis, is_module, memory))
            self.consumers.watch(tensor, name)


def run_trial(model: nn.Module, images: torch.Tensor) -> Trial:
    """Run the model once and return what its layers returned, in order of execution."""
    trace = _Trace()
    with (
        torch.no_grad(),
        LayerCalls(model, trace.note) as calls,
        trace.axes,
        trace.consumers,
    ):
        calls.begin()
        returned = run_forward(model, images)
        calls.end()
    output = output_matrix(returned, len(images))
    taken = trace.consumers.taken_by_relu
    rectified = frozenset(name for name, only in taken.items() if only)
    return Trial(tuple(trace.seen), rectified, output.shape[1])


class ChannelAxes(TorchFunctionMode):
    """Follows which axis of a tensor holds its channels, through all functions that it passes."""

    def __init__(self) -> None:
        super().__init__()
        self._axes: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []

    def of(self, origin: Any, tensor: torch.Tensor) -> int:
        """Return the axis of a call's output: settled by the module, else followed, else usual."""
        axis = settled_axis(origin, tensor) if isinstance(origin, nn.Module) else None
        if axis is None:
            axis = self._axes.get(id(tensor), first_axis(tensor))
        self._keep(tensor, axis)
        return axis

    def _keep(self, tensor: torch.Tensor, axis: int) -> None:
        self._axes[id(tensor)] = axis
        self._alive.append(tensor)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        source = next((each for each in args if id(each) in self._axes), None)
        if source is not None and isinstance(output, torch.Tensor):
            axis = _followed(func, args, source, output, self._axes[id(source)])
            if axis is not None:
                self._keep(output, axis)
        return output


def _followed(
    function: Any, args: tuple[Any, ...], source: torch.Tensor, output: torch.Tensor, axis: int
) -> int | None:
    """Return where a function leaves the channels of its input; None where that cannot be told."""
    name = getattr(function, "__name__", "")
    if name == "permute":
        order = args[1] if isinstance(args[1], tuple | list) else args[1:]
        return [int(place) % source.dim() for place in order].index(axis)
    if name == "transpose":
        first, second = int(args[1]) % source.dim(), int(args[2]) % source.dim()
        return {first: second, second: first}.get(axis, axis)
    size = source.shape[axis]
    if output.dim() > axis and output.shape[axis] == size:
        return axis
    return output.dim() - 1 if output.dim() and output.shape[-1] == size else None


class _Consumers(TorchDispatchMode):  # type: ignore[no-untyped-call]
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
