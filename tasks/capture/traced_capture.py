"""Capture by the traced graph of a model, its batch norms folded, compiled where that pays."""

from __future__ import annotations

import copy
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from activarium.tasks.capture.batch_norm_folding import fold
from activarium.tasks.capture.capture import Capture
from activarium.tasks.capture.forward import AUTOCAST, run_forward
from activarium.tasks.capture.graph_taps import TappedGraph, tap_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from activarium.schemas.config import Precision
    from activarium.tasks.capture.capture import Wanted
    from activarium.tasks.capture.density import DensityCounter


class TracedCapture(Capture):
    """Captures inside the model's graph.

    Parameters
    ----------
    model
        The model, in evaluation mode, on its device.
    wanted
        What is captured.
    density
        Counts activations; such a graph is not compiled.
    unfolded
        Convolutions whose batch norm is not folded; None folds nothing.
    batch_size
        Images of a full batch. A compiled graph runs smaller batches filled up to it, because it
        would be compiled anew for every other size.
    compiled
        Compile the graph.

    Raises
    ------
    UntraceableError
        If the model cannot be traced, or a layer is not in its graph.
    """

    def __init__(  # noqa: PLR0913 - a capture's settings
        self,
        model: nn.Module,
        wanted: Wanted,
        density: DensityCounter | None = None,
        *,
        unfolded: Collection[str] | None = (),
        batch_size: int | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__(wanted, density)
        self.engine = "compiled" if compiled else "traced"
        model = _with_its_own_state(model)
        tapped = tap_graph(model, wanted.reducers(density), wanted.layers.output)
        self.folded = () if unfolded is None else fold(model, tapped, unfolded=unfolded)
        if not compiled and _is_on_cpu(model):
            _use_kernels(model, tapped, wanted.precision)
        module = _module(model, tapped, wanted.precision)
        self._batch_size = batch_size if compiled else None
        # Called as a module, fx would print the lines of a graph that fails.
        self._module: Callable[[torch.Tensor], Any] = (
            _compile(module, _is_on_cpu(model)) if compiled else module.forward
        )

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        count = len(images)
        if self._batch_size is not None and count < self._batch_size:
            last = images.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last else torch.contiguous_format
            fill = images[-1:].expand(self._batch_size - count, -1, -1, -1)
            with torch.inference_mode(mode=False):  # as full batches are, or it compiles once more
                images = torch.cat([images, fill]).contiguous(memory_format=layout)
        result: torch.Tensor = run_forward(self._module, images)
        return result[:count]


def _with_its_own_state(model: nn.Module) -> nn.Module:
    """Return a copy that shares all weights, for the tracer.

    A model that keeps what it has computed would keep the tracer's stand-ins, and hand them out in
    its next forward pass. A model that cannot be copied is traced itself.
    """
    tensors = chain(model.parameters(), model.buffers())
    try:
        return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    except Exception:  # noqa: BLE001 - whatever the model holds
        return model


def _compile(module: fx.GraphModule, on_cpu: bool) -> Callable[[torch.Tensor], Any]:  # noqa: FBT001
    """Return the compiled graph, on a GPU without reductions that are chosen by the clock.

    What is fastest differs from run to run, and with it the last bits.
    """
    from torch._inductor import config

    settles = not on_cpu and hasattr(config, "deterministic")
    options: dict[str, Any] | None = {"deterministic": True} if settles else None
    compiled: Callable[[torch.Tensor], Any] = torch.compile(module, dynamic=False, options=options)
    return compiled


def _is_on_cpu(model: nn.Module) -> bool:
    return all(parameter.device.type == "cpu" for parameter in model.parameters())


def _use_kernels(model: nn.Module, tapped: TappedGraph, precision: Precision) -> None:
    """Let kernels for the CPU do what they can of the graph."""
    try:
        from activarium.tasks.capture.elementwise_chains import fuse_chains
        from activarium.tasks.capture.max_pooling import replace_pools
    except ModuleNotFoundError:  # the benchmark of GPUs runs without numba
        return
    replace_pools(model, tapped)
    if precision not in AUTOCAST:
        fuse_chains(model, tapped)


def _module(model: nn.Module, tapped: TappedGraph, precision: Precision) -> fx.GraphModule:
    """Return the graph as a module; the model itself stays as it is."""
    parts: dict[str, Any] = dict(tapped.modules)
    for node in tapped.graph.nodes:
        target = str(node.target)
        if node.op in ("call_module", "get_attr") and target not in parts:
            parts[target] = attrgetter(target)(model)
    dtype = AUTOCAST.get(precision)
    if dtype is not None:
        # Autocast would convert these weights in every batch.
        for path, part in parts.items():
            if isinstance(part, nn.Conv2d | nn.Linear):
                parts[path] = _in_type(part, dtype)
    return fx.GraphModule(parts, tapped.graph).eval()


def _in_type(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the module with its weights in another type; the module itself keeps its own."""
    own = copy.copy(module)
    own._parameters = {  # noqa: SLF001
        name: None if each is None else nn.Parameter(each.detach().to(dtype), requires_grad=False)
        for name, each in module._parameters.items()  # noqa: SLF001
    }
    return own
