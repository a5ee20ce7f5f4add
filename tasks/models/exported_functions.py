"""The functions of an exported program: operations under the names that models call them by."""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from torch.fx import Graph, Node

aten = torch.ops.aten

OPERATORS: dict[Any, Any] = {
    aten.add.Tensor: operator.add,
    aten.add_.Tensor: operator.iadd,
    aten.sub.Tensor: operator.sub,
    aten.sub_.Tensor: operator.isub,
    aten.mul.Tensor: operator.mul,
    aten.mul_.Tensor: operator.imul,
    aten.div.Tensor: operator.truediv,
    aten.div_.Tensor: operator.itruediv,
}
"""Operations of two values; with a keyword argument, such as alpha, they stay what they are."""

IN_TORCH = (
    *("cat", "stack", "mean", "permute", "transpose", "flatten", "dropout", "conv1d", "conv2d"),
    *("conv3d", "layer_norm", "batch_norm", "group_norm", "instance_norm", "relu", "relu_"),
    *("sigmoid", "tanh", "softmax", "prelu", "selu", "celu", "max_pool1d", "max_pool2d"),
)
IN_FUNCTIONAL = (
    *("linear", "gelu", "leaky_relu", "hardtanh", "softplus", "scaled_dot_product_attention"),
    *("avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d"),
)
FUNCTIONS: dict[str, Any] = {
    **{f"aten::{name}": getattr(torch, name) for name in IN_TORCH},
    **{f"aten::{name}": getattr(functional, name) for name in IN_FUNCTIONAL},
}
"""Functions of the same arguments as the operation."""

RESIZES = {
    aten.upsample_bilinear2d.vec: ("bilinear", True),
    aten.upsample_bicubic2d.vec: ("bicubic", True),
    aten.upsample_nearest2d.vec: ("nearest", False),
}
"""Mode of each interpolation, and whether it can align corners."""

HALVES = (torch.float16, torch.bfloat16)


def follow_inputs(graph: Graph) -> None:
    """Let what a graph creates lie on its input's device, and be float32 where it was shorter.

    A program holds the device and the dtypes that it was exported with.
    """
    device: Node | None = None
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        node.args = pytree.tree_map_only(torch.dtype, _lengthened, node.args)
        node.kwargs = pytree.tree_map_only(torch.dtype, _lengthened, node.kwargs)
        named = pytree.tree_leaves((node.args, node.kwargs))
        if any(isinstance(each, torch.device) for each in named):
            device = device or _device_of_input(graph)
            if device is not None:
                follow = partial(_same, device)
                node.args = pytree.tree_map_only(torch.device, follow, node.args)
                node.kwargs = pytree.tree_map_only(torch.device, follow, node.kwargs)


def _lengthened(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALVES else dtype


def _same(node: Node, _: torch.device) -> Node:
    return node


def _device_of_input(graph: Graph) -> Node | None:
    """Insert the device of the graph's first tensor, None where it has none."""
    for node in graph.nodes:
        is_tensor = isinstance(node.meta.get("val"), torch.Tensor)
        if node.op == "get_attr" or (node.op == "placeholder" and is_tensor):
            with graph.inserting_after(node):
                return graph.call_function(getattr, (node, "device"))
    return None


def name_functions(graph: Graph) -> None:
    """Call what a graph does by the functions of torch, where there is one of that name."""
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001
            _name(node)


def _name(node: Node) -> None:
    target: Any = node.target
    if target in RESIZES:
        _, size, *more = node.args
        mode, aligns = RESIZES[target]
        corners, factors = (more[0], more[1:]) if aligns else (None, more)
        node.kwargs = {
            "size": size,
            "scale_factor": factors[0] if factors else None,
            "mode": mode,
            "align_corners": corners,
        }
        node.args = node.args[:1]
        node.target = functional.interpolate
    elif target in OPERATORS and not node.kwargs:
        node.target = OPERATORS[target]
    else:
        node.target = FUNCTIONS.get(target._schema.name, target)  # noqa: SLF001
