"""The traced graph of a model, with a reduction inserted directly after every tapped layer."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from activarium.schemas.errors import UserError
from activarium.tasks.capture.capture import gather
from activarium.tasks.capture.model_output import ModelOutput
from activarium.tasks.capture.operations import (
    CallNames,
    function_kind,
    function_path,
    is_leaf,
    module_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from activarium.tasks.capture.reductions import Reduce


NUMBER_METHODS = frozenset({"size", "dim", "numel", "stride", "item", "tolist", "nelement"})
NUMBER_ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device", "layout", "is_cuda"})
"""What of a tensor is no tensor."""


class UntraceableError(Exception):
    """A model whose graph cannot be had, or not with all its layers; carries the reason."""


@dataclass(frozen=True)
class Position:
    """Where a call's output is in the graph."""

    output: Any
    """A node, or the structure of nodes that a module returned."""
    last: fx.Node
    """The node after which the output is there, and nothing has overwritten it yet."""


class _InPlaceProxy(fx.Proxy):
    """A stand-in of a tensor that keeps `+=` in place, as the model has it."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class LayerTracer(fx.Tracer):
    """Traces a model and notes every call by the name that hooks would give it."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=())
        self.calls: dict[str, Position] = {}
        self._names = CallNames()
        self._owners: list[str] = [""]
        self._modules: set[str] = set()
        self._numbers: set[fx.Node] = set()
        """Nodes that are no tensors: sizes, and what is reckoned of them."""

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Return the graph of the model's forward pass."""
        self._modules = {module_path(path) for path, _ in root.named_modules()}
        return super().trace(root, concrete_args)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether the module stays one node."""
        del module_qualified_name
        return is_leaf(m)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace one call of a module."""
        path = module_path(self.path_of_module(m))
        self._owners.append(path)
        try:
            output = super().call_module(m, forward, args, kwargs)
        finally:
            self._owners.pop()
        self._note(self._names.next(path), output)
        return output

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the stand-in of a node's output."""
        return _InPlaceProxy(node, self)

    def create_proxy(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Proxy:
        """Trace one operation."""
        proxy = super().create_proxy(kind, target, *args, **kwargs)
        if self._is_number(proxy.node):
            self._numbers.add(proxy.node)
        elif kind in ("call_function", "call_method") and function_kind(target) is not None:
            path = function_path(self._owners[-1], target, self._modules)
            self._note(self._names.next(path), proxy)
        return proxy

    def _is_number(self, node: fx.Node) -> bool:
        """Tell whether a node is a size or reckoned of sizes, which hooks see no call of."""
        if node.op == "call_method" and node.target in NUMBER_METHODS:
            return True
        if node.op != "call_function":
            return False
        if node.target is getattr:
            return node.args[1] in NUMBER_ATTRIBUTES
        plain = getattr(node.target, "__module__", "") in ("_operator", "math", "builtins")
        inputs = node.all_input_nodes
        return plain and bool(inputs) and self._numbers.issuperset(inputs)

    def _note(self, name: str, output: Any) -> None:
        def node(value: Any) -> Any:
            return value.node if isinstance(value, fx.Proxy) else value

        last = next(iter(reversed(self.graph.nodes)))
        self.calls[name] = Position(pytree.tree_map(node, output), last)


class Output(nn.Module):
    """Puts the reductions of all layers and the model's output side by side.

    Parameters
    ----------
    output
        Which of what the model returns is its output.
    """

    def __init__(self, output: ModelOutput) -> None:
        super().__init__()
        self._output = output

    def forward(
        self, reduced: Sequence[Sequence[torch.Tensor]], output: Any, inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return (image, column)."""
        return gather(reduced, self._output.matrix(output, len(inputs)))


@dataclass(frozen=True)
class TappedGraph:
    """A graph whose output is all that is captured, before it is made a module."""

    graph: fx.Graph
    modules: dict[str, nn.Module]
    """What the graph calls that the model does not have, by path."""
    taps: dict[str, fx.Node]
    """The node of each layer's reducer, by layer name."""


def tap_graph(
    model: nn.Module, reducers: Sequence[Reduce], output: ModelOutput | None = None
) -> TappedGraph:
    """Trace the model and insert its reducers.

    Raises
    ------
    UntraceableError
        If the model cannot be traced, or a layer is not in its graph.
    """
    tracer = LayerTracer()
    try:
        graph = tracer.trace(model)
    except UserError:
        raise
    except Exception as error:  # whatever the model's code does with a stand-in of a tensor
        reason = str(error).strip().splitlines()
        raise UntraceableError(reason[0] if reason else type(error).__name__) from error
    inputs = next(node for node in graph.nodes if node.op == "placeholder")
    modules: dict[str, nn.Module] = {}
    taps: dict[str, fx.Node] = {}
    for place, reducer in enumerate(reducers):
        path = f"_reduce_{place}"
        modules[path] = reducer
        position = _position(tracer.calls, reducer)
        with graph.inserting_after(position.last):
            node = graph.call_module(path, (_value(position, reducer), inputs))
        taps[reducer.tap.layer.name] = node
    modules["_output"] = Output(output or ModelOutput())
    _set_output(graph, [*taps.values()], inputs)
    return TappedGraph(graph, modules, taps)


def _position(calls: Mapping[str, Position], reducer: Reduce) -> Position:
    name = reducer.tap.call
    if name not in calls:
        raise UntraceableError(f"layer {name!r} is not in the traced graph")
    return calls[name]


def _value(position: Position, reducer: Reduce) -> fx.Node:
    """Return the node that the reducer takes: the call's own, or the one of its place in it."""
    leaves = pytree.tree_leaves(position.output)
    if isinstance(position.output, fx.Node):
        return position.output
    leaf = leaves[reducer.tap.leaf] if reducer.tap.leaf < len(leaves) else None
    if not isinstance(leaf, fx.Node):
        raise UntraceableError(f"layer {reducer.tap.layer.name!r} returns no traced tensor")
    return leaf


def _set_output(graph: fx.Graph, taps: Sequence[fx.Node], inputs: fx.Node) -> None:
    end = next(node for node in reversed(graph.nodes) if node.op == "output")
    with graph.inserting_before(end):
        everything = graph.call_module("_output", (list(taps), end.args[0], inputs))
    end.args = (everything,)
