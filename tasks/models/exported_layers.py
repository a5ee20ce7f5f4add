"""The layers of an exported program: one operation of its graph as the `torch.nn` module it was."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.fx import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import Graph

    Arguments = dict[str, Any]
    Builder = Callable[[Arguments, nn.Module], nn.Module]

aten = torch.ops.aten

CONVOLUTIONS: dict[Any, type[nn.Module]] = {
    aten.conv1d.default: nn.Conv1d,
    aten.conv1d.padding: nn.Conv1d,
    aten.conv2d.default: nn.Conv2d,
    aten.conv2d.padding: nn.Conv2d,
    aten.conv3d.default: nn.Conv3d,
    aten.conv3d.padding: nn.Conv3d,
}


def _convolution(of: Arguments, module: nn.Module, *, kind: Any) -> nn.Module:
    outputs, inputs, *kernel = _shape(module, "weight")
    layer: nn.Module = kind(
        inputs * of["groups"],
        outputs,
        tuple(kernel),
        stride=_per_axis(of["stride"], len(kernel)),
        padding=_per_axis(of["padding"], len(kernel)),
        dilation=_per_axis(of["dilation"], len(kernel)),
        groups=of["groups"],
        bias=of["bias"] is not None,
        device="meta",
    )
    return layer


def _linear(of: Arguments, module: nn.Module) -> nn.Module:
    outputs, inputs = _shape(module, "weight")
    return nn.Linear(inputs, outputs, bias=of["bias"] is not None, device="meta")


def _batch_norm(of: Arguments, module: nn.Module, *, kind: Any) -> nn.Module:
    layer: nn.Module = kind(
        _shape(module, "running_mean")[0],
        eps=of["eps"],
        momentum=of["momentum"],
        affine=of["weight"] is not None,
        device="meta",
    )
    return layer


def _layer_norm(of: Arguments, _: nn.Module) -> nn.Module:
    affine, bias = of["weight"] is not None, of["bias"] is not None
    return nn.LayerNorm(
        of["normalized_shape"], eps=of["eps"], elementwise_affine=affine, bias=bias, device="meta"
    )


def _max_pool(of: Arguments, _: nn.Module) -> nn.Module:
    return nn.MaxPool2d(
        _per_axis(of["kernel_size"]),
        stride=_per_axis(of["stride"] or of["kernel_size"]),
        padding=_per_axis(of["padding"]),
        dilation=_per_axis(of["dilation"]),
        ceil_mode=of["ceil_mode"],
    )


def _average_pool(of: Arguments, _: nn.Module) -> nn.Module:
    return nn.AvgPool2d(
        _per_axis(of["kernel_size"]),
        stride=_per_axis(of["stride"] or of["kernel_size"]),
        padding=_per_axis(of["padding"]),
        ceil_mode=of["ceil_mode"],
        count_include_pad=of["count_include_pad"],
        divisor_override=of["divisor_override"],
    )


BUILDERS: dict[Any, Builder] = {
    **{op: partial(_convolution, kind=kind) for op, kind in CONVOLUTIONS.items()},
    aten.linear.default: _linear,
    aten.layer_norm.default: _layer_norm,
    aten.max_pool2d.default: _max_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.adaptive_avg_pool2d.default: lambda of, _: nn.AdaptiveAvgPool2d(
        _per_axis(of["output_size"])
    ),
    aten.dropout.default: lambda of, _: nn.Dropout(of["p"]),
    aten.dropout_.default: lambda of, _: nn.Dropout(of["p"], inplace=True),
    aten.flatten.using_ints: lambda of, _: nn.Flatten(of["start_dim"], of["end_dim"]),
    aten.gelu.default: lambda of, _: nn.GELU(of["approximate"]),
    aten.relu.default: lambda _of, _: nn.ReLU(),
    aten.relu_.default: lambda _of, _: nn.ReLU(inplace=True),
    aten.silu.default: lambda _of, _: nn.SiLU(),
    aten.silu_.default: lambda _of, _: nn.SiLU(inplace=True),
    aten.hardswish.default: lambda _of, _: nn.Hardswish(),
    aten.hardswish_.default: lambda _of, _: nn.Hardswish(inplace=True),
    aten.hardsigmoid.default: lambda _of, _: nn.Hardsigmoid(),
    aten.hardsigmoid_.default: lambda _of, _: nn.Hardsigmoid(inplace=True),
    aten.sigmoid.default: lambda _of, _: nn.Sigmoid(),
    aten.tanh.default: lambda _of, _: nn.Tanh(),
}
"""Operations that a module of `torch.nn` stands for, and how that module is made of them."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

STANDS_FOR: dict[Any, type[nn.Module]] = {**CONVOLUTIONS, aten.linear.default: nn.Linear}


WHOLE: dict[str, type[nn.Module]] = {
    "torch.nn.modules.activation.MultiheadAttention": nn.MultiheadAttention,
    "torch.nn.modules.rnn.RNN": nn.RNN,
    "torch.nn.modules.rnn.GRU": nn.GRU,
    "torch.nn.modules.rnn.LSTM": nn.LSTM,
}
"""Layers of many operations, which are one layer nonetheless."""


def layer_class(graph: Graph, name: str) -> type[nn.Module] | None:
    """Return the class of `torch.nn` that a class of this name extends.

    It is the one whose operation makes the output of the graph, where the name holds its name;
    None for others.
    """
    last = _output(graph)
    found = None if last is None else STANDS_FOR.get(last.target)
    return found if found is not None and found.__name__ in name else None


def restore_layer(module: nn.Module, graph: Graph, class_name: str) -> nn.Module | None:
    """Return the `torch.nn` module that an unflattened module was, with the same tensors.

    Parameters
    ----------
    module
        A module of an unflattened program, without submodules.
    graph
        What it does.
    class_name
        The class that it was of, with its package.

    Returns
    -------
    nn.Module | None
        None where it was of another class, does more than one operation, or takes a tensor from
        elsewhere.
    """
    node, original = _output(graph), _torch_class(class_name)
    if node is None or original is None or not _is_alone(graph, node):
        return None
    builder = BUILDERS.get(node.target)
    if node.target is aten.batch_norm.default and original in BATCH_NORMS:
        builder = partial(_batch_norm, kind=original)
    if builder is None:
        return None
    layer = builder(_arguments(node), module)
    own = {**module._parameters, **module._buffers}  # noqa: SLF001
    expected = {name for name, _ in layer.named_parameters()}
    if not issubclass(original, type(layer)) or not expected <= set(own):
        return None
    layer._parameters.update(module._parameters)  # noqa: SLF001
    layer._buffers.update(module._buffers)  # noqa: SLF001
    return layer.eval()


def _torch_class(class_name: str) -> type[nn.Module] | None:
    package, _, name = class_name.rpartition(".")
    if not package.startswith("torch.nn."):
        return None
    found = getattr(importlib.import_module(package), name, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _output(graph: Graph) -> Node | None:
    """Return the call of the operation whose output a graph returns, else None."""
    (end,) = (node for node in graph.nodes if node.op == "output")
    last = end.args[0]
    if not isinstance(last, Node):
        return None
    return last if isinstance(last.target, torch._ops.OpOverload) else None  # noqa: SLF001


def _is_alone(graph: Graph, node: Node) -> bool:
    """Tell whether a call is all that a graph does, on one input and the module's own tensors."""
    inputs = [each for each in graph.nodes if each.op == "placeholder"]
    calls = [each for each in graph.nodes if each.op in ("call_function", "call_module")]
    tensors = all(
        value.op == "get_attr" and value.target == name
        for name, value in _arguments(node).items()
        if isinstance(value, Node) and value not in inputs
    )
    return calls == [node] and len(inputs) == 1 and node.args[:1] == (inputs[0],) and tensors


def _arguments(node: Node) -> Arguments:
    """Return all arguments of an operation by their names, defaults included."""
    schema: Any = node.target._schema  # type: ignore[union-attr]  # noqa: SLF001
    given = dict(zip((each.name for each in schema.arguments), node.args, strict=False))
    defaults = {each.name: each.default_value for each in schema.arguments}
    return {**defaults, **given, **node.kwargs}


def _shape(module: nn.Module, name: str) -> tuple[int, ...]:
    return tuple(getattr(module, name).shape)


def _per_axis(value: Any, axes: int = 2) -> Any:
    """Return a size as a tuple of one number per axis; text such as `same` stays."""
    if isinstance(value, str):
        return value
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * axes if len(values) == 1 else values
