"""What counts as a layer: the kinds of modules and of functions, and how their calls are named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Collection

    from activarium.schemas.layers import Kind

BLOCK_CLASSES = re.compile(
    r"Block|Bottleneck|Residual|Inception(?!3)|MBConv|DenseLayer|MaxVitLayer"
)
"""Class names of the building blocks of torchvision's models, and of most others."""

RESHAPES = ("Flatten", "Unflatten", "Permute", "PixelShuffle", "PixelUnshuffle")
"""Modules that only order values anew; their outputs are no responses of their own."""

_GLOBAL_POOLS = ("AdaptiveAvgPool", "AdaptiveMaxPool")

_FUNCTION_KINDS: dict[str, Kind] = {
    **dict.fromkeys(["add", "sub"], "sum"),
    **dict.fromkeys(["mul", "div", "cat", "interpolate", "dropout", "stack"], "other"),
    **dict.fromkeys(["conv1d", "conv2d", "conv3d", "conv_transpose2d"], "conv"),
    "linear": "linear",
    "scaled_dot_product_attention": "attention",
    **dict.fromkeys(["layer_norm", "batch_norm", "group_norm", "instance_norm"], "norm"),
    **dict.fromkeys(["relu", "relu6", "elu", "celu", "selu", "leaky_relu", "prelu"], "activation"),
    **dict.fromkeys(["gelu", "silu", "mish", "softplus", "softmax"], "activation"),
    **dict.fromkeys(["sigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh"], "activation"),
    **dict.fromkeys(["max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"], "window_pool"),
    **dict.fromkeys(["adaptive_avg_pool2d", "adaptive_max_pool2d", "mean"], "pool"),
}
"""Functions that a model calls without a module, by their name; others are not recorded."""

_ALIASES = {"concat": "cat", "concatenate": "cat", "truediv": "div", "clip": "hardtanh"}


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module is one operation, whose inner functions are no layers of their own."""
    inside_torch = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    return inside_torch and (
        isinstance(module, nn.MultiheadAttention) or next(module.children(), None) is None
    )


def settled_axis(module: nn.Module) -> int | None:
    """Return the axis of the channels that the module's class settles; None where it does not.

    A class that computes its output in a way of its own settles nothing.
    """
    for axis, classes in _SETTLED.items():
        for each in classes:
            if isinstance(module, each) and type(module).forward is each.forward:
                return axis
    quantised = type(module).__module__.startswith("torch.ao.nn")
    return -1 if quantised and type(module).__name__ == "Linear" else None


def module_kind(module: nn.Module) -> Kind | None:
    """Return what kind of layer a module is; None where it is none, as a reshape."""
    for kind, classes in _MODULE_KINDS.items():
        if isinstance(module, classes):
            return kind
    name = type(module).__name__
    if name in RESHAPES:
        return None
    named = _kind_by_name(module, name)
    if named is not None:
        return named
    own = not type(module).__module__.startswith("torch.nn.")
    if own and BLOCK_CLASSES.search(name):
        return "block"
    return "container" if next(module.children(), None) is not None else "other"


_SETTLED: dict[int, tuple[type[nn.Module], ...]] = {
    1: (
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm),
    ),
    -1: (
        *(nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNN, nn.LSTM, nn.GRU),
        *(nn.RNNCell, nn.LSTMCell, nn.GRUCell),
    ),
}
"""Classes of torch that say themselves where their channels are."""

_MODULE_KINDS: dict[Kind, tuple[type[nn.Module], ...]] = {
    "conv": (nn.modules.conv._ConvNd,),  # noqa: SLF001 - the base of all convolutions
    "linear": (nn.Linear, nn.Bilinear),
    "norm": (
        nn.modules.batchnorm._NormBase,  # noqa: SLF001 - the base of batch and instance norms
        nn.LayerNorm,
        nn.GroupNorm,
        nn.LocalResponseNorm,
    ),
    "recurrent": (nn.RNNBase, nn.RNNCellBase),
    "attention": (nn.MultiheadAttention,),
}


def _kind_by_name(module: nn.Module, name: str) -> Kind | None:
    if "Pool" in name and next(module.children(), None) is None:
        size = getattr(module, "output_size", getattr(module, "pool_size", None))
        to_one = name.startswith(_GLOBAL_POOLS) and size in (1, (1,), (1, 1), (1, 1, 1))
        return "pool" if to_one or "Global" in name or "SelectAdaptive" in name else "window_pool"
    if type(module).__module__ == "torch.nn.modules.activation":
        return "activation"
    if "Norm" in name and next(module.children(), None) is None:
        return "norm"
    return None


def operation(function: Any) -> str:
    """Return the plain name of a function or method: `__iadd__`, `add_` and `iadd` are `add`."""
    name = function if isinstance(function, str) else getattr(function, "__name__", "")
    # An operator of torch.ops is called relu.default.
    plain = str(name).partition(".")[0].strip("_")
    if plain in _FUNCTION_KINDS:
        return plain
    if plain[:1] in ("i", "r") and plain[1:] in ("add", "sub", "mul", "truediv"):
        plain = plain[1:]
    return _ALIASES.get(plain, plain)


def function_kind(function: Any) -> Kind | None:
    """Return what kind of layer a call of this function is; None where it is not recorded."""
    return _FUNCTION_KINDS.get(operation(function))


class CallNames:
    """Numbers the calls of each module and function within one forward pass."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}

    def reset(self) -> None:
        """Start a new forward pass."""
        self._calls.clear()

    def next(self, path: str) -> str:
        """Return the layer name of the next call of what lies at `path`."""
        count = self._calls[path] = self._calls.get(path, 0) + 1
        return path if count == 1 else f"{path}:{count}"


def module_path(path: str) -> str:
    """Return the path by which a module's calls are named.

    Exported programs hold a module twice, as `block` and `block@1`, where its calls differ.
    """
    return re.sub(r"@\d+", "", path)


def function_path(owner: str, function: Any, modules: Collection[str]) -> str:
    """Return where a function is called: the path of the module that calls it, and its name.

    Where a module has that very path, the function is told from it by `()`.
    """
    path = f"{owner}.{operation(function)}" if owner else operation(function)
    return f"{path}()" if path in modules else path
