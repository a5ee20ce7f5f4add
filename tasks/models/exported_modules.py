"""An exported program given back as modules: the tree of modules it was exported from.

`torch.export.unflatten` knows the path, the class name and the operations of every module that was
called. Those that stand for one operation become the module of `torch.nn` again, the others a
module that runs its part of the graph; so layers have their original names, and forward hooks,
`torch.fx.symbolic_trace` and `torch.compile` work as on the original.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.export import unflatten
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from activarium.tasks.models.exported_functions import follow_inputs, name_functions
from activarium.tasks.models.exported_layers import WHOLE, layer_class, restore_layer

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph

CALL_MARK = re.compile(r"@\d+")
"""Ends the path of a module's later call, where its graph is not that of the first call."""

_CHECKS = re.compile(r"\b(_assert\w*|sym_constrain_range\w*)")
"""Operations that only check what they are given."""


class ExportedModule(nn.Module):
    """A module of an exported program that runs its part of the program's graph.

    Each is of a class of its own, named as the class it was exported from. A convolution or linear
    layer that does more than its one operation, as one that pads by reflection, is an instance of
    `nn.Conv2d` or `nn.Linear` too where its class is named after it, and attention and recurrent
    layers of their classes; but none has their attributes.
    """

    def extra_repr(self) -> str:
        """Return nothing: the attributes of the original are not known."""
        return ""

    # Recurrent layers have their own of these, for attributes that are not there.
    _apply = nn.Module._apply  # noqa: SLF001
    __setstate__ = nn.Module.__setstate__

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self))


def module_tree(program: ExportedProgram) -> nn.Module:
    """Return an exported program as a module with the submodules it was exported from.

    Parameters
    ----------
    program
        A program of one input tensor.

    Returns
    -------
    nn.Module
        Its forward takes that tensor. Paths, parameter names and class names are the original's;
        modules that return what they are given (identity, stochastic depth) are never called.
    """
    tree = unflatten(program)
    signature = program.module_call_graph[0].signature
    assert signature is not None  # noqa: S101 - the root has one in every program
    _return_structure(tree.graph, signature.out_spec)
    return _Restoring(_class_names(program)).module(tree, "")


def _class_names(program: ExportedProgram) -> dict[str, str]:
    """Return the class, with its package, of every module that was called, by its path."""
    names = {}
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            for path, kind in node.meta.get("nn_module_stack", {}).values():
                is_text = isinstance(kind, str)
                names[path] = kind if is_text else f"{kind.__module__}.{kind.__qualname__}"
    return names


def _return_structure(graph: Graph, structure: Any) -> None:
    """Let a graph return what the original returned, instead of a flat tuple of tensors."""
    (end,) = (node for node in graph.nodes if node.op == "output")
    flat = list(end.args[0]) if isinstance(end.args[0], tuple | list) else [end.args[0]]
    whole = _plain(pytree.tree_unflatten(flat, structure))
    end.args = (tuple(flat) if whole is None else whole,)


def _plain(value: Any) -> Any:
    """Return the value in plain dicts and tuples; None where it is of a class of its own."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if type(value) in (tuple, list):
        return tuple(_plain(each) for each in value)
    return value if isinstance(value, Node) else None


class _Restoring:
    """Makes the modules of an unflattened program anew; shared modules stay shared."""

    def __init__(self, class_names: dict[str, str]) -> None:
        self._class_names = class_names
        self._done: dict[int, nn.Module] = {}

    def module(self, module: nn.Module, path: str) -> nn.Module:
        """Return what the module at a path becomes."""
        if id(module) not in self._done:
            children = {
                name: self.module(child, f"{path}.{name}".lstrip("."))
                for name, child in module._modules.items()  # noqa: SLF001 - one may have two names
                if child is not None
            }
            self._done[id(module)] = self._made(module, path, children)
        return self._done[id(module)]

    def _made(self, module: nn.Module, path: str, children: dict[str, nn.Module]) -> nn.Module:
        graph = getattr(module, "graph", None)
        if graph is None or isinstance(module, GraphModule):
            # It only holds parameters and modules, or is the body of a higher-order operation.
            for name, child in children.items():
                setattr(module, name, child)
            return module
        class_name = self._class_names.get(path, "Module")
        layer = None if children else restore_layer(module, graph, class_name)
        if layer is not None:
            return layer
        found = _exported_module(module, graph, children, class_name)
        return _as_sequential(found, graph) or found


def _exported_module(
    module: nn.Module, graph: Graph, children: dict[str, nn.Module], class_name: str
) -> ExportedModule:
    package, _, name = class_name.rpartition(".")
    layer = WHOLE.get(class_name)
    if layer is None and not children:
        layer = layer_class(graph, name)
    bases: tuple[Any, ...] = (ExportedModule,) if layer is None else (ExportedModule, layer)
    kind: Any = type(name, bases, {})
    found: ExportedModule = kind.__new__(kind)
    nn.Module.__init__(found)
    for own in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
        setattr(found, own, getattr(module, own))
    for field, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            found.register_buffer(field, value, persistent=False)
    for field, child in children.items():
        found.add_module(field, child)
    _drop_checks(graph)
    _merge_calls(found, graph)
    follow_inputs(graph)
    name_functions(graph)
    # torch.fx takes modules of torch.nn as a whole, which containers are not.
    kind.__module__ = "exported" if package.endswith(".container") else package
    kind.forward = type(GraphModule(found, graph)).forward
    return found


def _drop_checks(graph: Graph) -> None:
    """Leave out the operations that only check: they hold the device and dtype of the export."""
    for node in reversed(graph.nodes):
        name = getattr(node.target, "__name__", str(node.target))
        if node.op == "call_function" and not node.users and _CHECKS.search(name):
            graph.erase_node(node)


def _merge_calls(module: nn.Module, graph: Graph) -> None:
    """Let later calls of a module go to the module, where it is the same for any input."""
    for node in graph.nodes:
        if node.op != "call_module" or not CALL_MARK.search(node.target):
            continue
        first, again = CALL_MARK.sub("", node.target), node.target
        if isinstance(module.get_submodule(again), ExportedModule):
            continue
        node.target = first
        parent, _, name = again.rpartition(".")
        module.get_submodule(parent)._modules.pop(name, None)  # noqa: SLF001


def _as_sequential(module: ExportedModule, graph: Graph) -> nn.Sequential | None:
    """Return an `nn.Sequential` for a chain of all submodules in their order, else None."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    if type(module).__name__ != "Sequential" or own:
        return None
    *calls, end = graph.nodes
    before, names = calls[0], []
    for node in calls[1:]:
        if node.op != "call_module" or node.args != (before,) or node.kwargs:
            return None
        before = node
        names.append(node.target)
    children = OrderedDict(module.named_children())
    return nn.Sequential(children) if end.args == (before,) and names == [*children] else None
