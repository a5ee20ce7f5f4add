"""What each operation of aten does to the labels of channels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from activarium.tasks.capture.label_products import PRODUCTS, attended, convolved, multiplied
from activarium.tasks.capture.labels import (
    MOST,
    UNKNOWN,
    agree,
    anchored,
    compact,
    count,
    varies,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from activarium.tasks.capture.labels import Lookup

    Rule = Callable[[Any, tuple[Any, ...], dict[str, Any], Any, Lookup], Any]


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


RESHAPES = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias"})

MOVES = _named(
    "permute transpose t expand squeeze unsqueeze slice select split split_with_sizes unbind "
    "unfold diagonal narrow flip roll repeat index index_select gather constant_pad_nd "
    "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d im2col "
    "pixel_shuffle pixel_unshuffle channel_shuffle rot90 swapaxes movedim chunk tile "
    "unsafe_split unsafe_split_with_sizes"
)
"""Operations that only move values, done to labels as to values."""

SAME_SHAPE = _named(
    "_softmax _log_softmax _safe_softmax native_layer_norm native_group_norm native_dropout "
    "_fused_rms_norm cumsum cumprod logcumsumexp _to_copy clone alias detach contiguous "
    "lift_fresh as_strided hardswish rrelu_with_noise log_sigmoid_forward bernoulli tril triu "
    "index_put masked_scatter scatter scatter_add select_scatter slice_scatter fill zero "
    "fake_quantize_per_tensor_affine"
)
"""Operations whose output keeps its input's shape, each value in its place."""

UNTAGGED = _named("prelu _prelu_kernel rsub floor_divide")
"""Operations value by value that torch does not mark as such."""

BATCH_NORMS = _named(
    "native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit "
    "_native_batch_norm_legit_no_training _batch_norm_impl_index _batch_norm_no_update"
)

BLANKS = _named(
    "zeros empty full ones new_zeros new_empty new_full new_ones zeros_like empty_like full_like "
    "ones_like"
)
"""Operations that make a tensor to be filled."""

REDUCTIONS = _named(
    "mean sum amax amin max min var std var_mean norm linalg_vector_norm prod logsumexp any "
    "all nansum nanmean median argmax argmin std_mean"
)

SPATIAL = re.compile(r"(max|avg)_pool([123])d|upsample_\w*?([123])d|grid_sampler_([23])d")
"""Operations on the last one to three axes, which leave those before them."""


def rule_of(function: Any) -> Rule | None:
    """Return what an operation does to labels; None where it loses them."""
    name = function.overloadpacket.__name__
    plain = name.rstrip("_")
    for names, rule in _RULES:
        if plain in names:
            return rule
    if name.startswith("_scaled_dot_product"):
        return attended
    if SPATIAL.search(name):
        return _pooled
    is_pointwise = torch.Tag.pointwise in function.tags or plain in UNTAGGED
    return _by_value if is_pointwise else None


def _moved(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Do to the labels what is done to the values; what is filled in is of no channel."""
    name = function.overloadpacket.__name__
    if name == "constant_pad_nd":
        args = (args[0], args[1], UNKNOWN)
    results = [function(labels, *args[1:], **kwargs) for labels in of(args[0]) or ()]
    if isinstance(output, torch.Tensor):
        return tuple(results)
    return [tuple(each) for each in zip(*results, strict=True)] if results else None


def _reshaped(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Lay the labels out anew, which may need a copy where that of the values does not."""
    del function, kwargs
    if output.dtype != args[0].dtype:
        return None
    return tuple(labels.reshape(output.shape) for labels in of(args[0]) or ())


def _joined(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow `cat` and `stack`: along the axis of the channels, each part has channels of its own."""
    name = function.overloadpacket.__name__
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % output.dim()
    parts = [part for part in args[0] if part.dim() == output.dim() or name == "stack"]
    labelled = [labels for labels in map(of, parts) if labels]
    if not labelled:
        return None
    if name == "cat" and any(varies(labels[0], dim) for labels in labelled):
        return (_counted(parts, of, dim, output.shape),)
    depth = range(min(map(len, labelled)))
    if name == "stack":
        filled = [[(of(part) or labelled[0])[at] for part in parts] for at in depth]
        return tuple(function(each, dim) for each in filled)
    return tuple(
        _side_by_side(
            [
                _part(part, (of(part) or (None,) * len(depth))[at], labelled[0][at], dim)
                for part in parts
            ],
            dim,
            output.shape,
        )
        for at in depth
    )


def _part(
    part: torch.Tensor, labels: torch.Tensor | None, filling: torch.Tensor, dim: int
) -> torch.Tensor:
    """Return the labels of one part; those of its neighbours where it has none, as a class token."""
    if labels is not None:
        return labels
    shape = [-1 if axis != dim else part.shape[dim] for axis in range(part.dim())]
    return filling.narrow(dim, 0, 1).expand(shape)


def _side_by_side(parts: Sequence[torch.Tensor], dim: int, shape: Sequence[int]) -> torch.Tensor:
    """Return labels one after the other, stored once along the axes along which all of them are."""
    axes = range(len(shape))
    small = [compact(part) for part in parts]
    sizes = [max(part.shape[axis] for part in small) for axis in axes]
    widened = [
        part.expand([own.shape[dim] if axis == dim else sizes[axis] for axis in axes])
        for part, own in zip(small, parts, strict=True)
    ]
    return torch.cat(widened, dim).expand(tuple(shape))


def _counted(
    parts: Sequence[torch.Tensor], of: Lookup, dim: int, shape: Sequence[int]
) -> torch.Tensor:
    """Number the channels of all parts one after the other."""
    numbered, start = [], 0
    for part in parts:
        own = next((labels for labels in of(part) or () if varies(labels, dim)), None)
        base = anchored(part.shape, dim, part.device) if own is None else own
        numbered.append((compact(base) + start).expand(base.shape))
        start += int(compact(base).max()) + 1
    return _side_by_side(numbered, dim, shape)


def _by_value(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep the labels on which all operands that have any agree."""
    del function
    if not isinstance(output, torch.Tensor):
        return None
    operands = [each for each in pytree.tree_leaves((args, kwargs)) if of(each)]
    # A single channel that is spread over many says nothing of theirs.
    telling = [each for each in operands if count((of(each) or ())[0]) > 1] or operands
    first, *others = [
        [labels.expand(output.shape) for labels in of(each) or ()] for each in telling
    ]
    kept = [
        labels
        for labels in first
        if all(any(agree(labels, other) for other in each) for each in others)
    ]
    return tuple(kept[:MOST])


def _blank(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Give labels to be filled, in memory of their own, to a tensor that is to be filled."""
    del function, args, kwargs, of
    return (torch.full(output.shape, UNKNOWN, device=output.device),)


def _copied(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Copy labels with values, into those of the whole where this is a part of it."""
    del function, kwargs
    into, source = of(args[0]) or (), of(args[1]) or ()
    if into and source and 0 not in into[0].stride():
        into[0].copy_(source[0].expand(output.shape))
    return into or tuple(labels.expand(output.shape) for labels in source)


def _in_place_of(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep the labels of the first argument, for each output of its shape."""
    del function, kwargs
    shape, labels = args[0].shape, of(args[0]) or ()
    if isinstance(output, torch.Tensor):
        return labels if output.shape == shape else None
    return [labels if getattr(each, "shape", None) == shape else None for each in output]


def _normalised(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep the labels of a batch norm's input; where it has none, the norm itself settles them."""
    if of(args[0]):
        return _in_place_of(function, args, kwargs, output, of)
    return [(anchored(args[0].shape, 1, args[0].device),), *[None] * (len(output) - 1)]


def _reduced(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep what labels still tell; values of several channels become one channel."""
    first = output if isinstance(output, torch.Tensor) else output[0]
    dims, keeps = _reduced_axes(function, args, kwargs, args[0])
    if dims is None or not first.dim():
        return None
    kept = tuple(labels.amax(dims, keepdim=keeps) for labels in of(args[0]) or ())
    return kept if isinstance(output, torch.Tensor) else [kept] * len(output)


def _reduced_axes(
    function: Any, args: Any, kwargs: Any, source: torch.Tensor
) -> tuple[list[int] | None, bool]:
    """Return which axes a reduction takes together, and whether they stay with size one."""
    names = [argument.name for argument in function._schema.arguments]  # noqa: SLF001
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    dims = given.get("dim")
    if dims is None or dims == []:
        return None, False
    axes = [dims] if isinstance(dims, int) else [*dims]
    return [axis % source.dim() for axis in axes], bool(given.get("keepdim", False))


def _pooled(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep labels that do not change along the axes that are pooled or enlarged."""
    del kwargs
    found = SPATIAL.search(function.overloadpacket.__name__)
    groups = [each for each in (found.groups() if found else ()) if each and each.isdigit()]
    axes = int(groups[0]) if groups else 2
    first = output if isinstance(output, torch.Tensor) else output[0]
    kept = tuple(
        _first_of(labels, range(-axes, 0)).expand(first.shape)
        for labels in of(args[0]) or ()
        if not any(varies(labels, labels.dim() + axis) for axis in range(-axes, 0))
    )
    return kept if isinstance(output, torch.Tensor) else [kept, *[None] * (len(output) - 1)]


def _first_of(labels: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    for axis in axes:
        labels = labels.narrow(axis, 0, 1)
    return labels


def _halved(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow `glu`, which multiplies one half of an axis by gates made of the other."""
    del function
    dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    return tuple(labels.narrow(dim, 0, output.shape[dim]) for labels in of(args[0]) or ())


_RULES: tuple[tuple[frozenset[str], Rule], ...] = (
    (RESHAPES, _reshaped),
    (MOVES, _moved),
    (frozenset({"cat", "stack"}), _joined),
    (SAME_SHAPE, _in_place_of),
    (BLANKS, _blank),
    (frozenset({"glu"}), _halved),
    (frozenset({"copy"}), _copied),
    (BATCH_NORMS, _normalised),
    (REDUCTIONS, _reduced),
    (frozenset({"convolution", "_convolution", "convolution_overrideable"}), convolved),
    (frozenset(PRODUCTS), multiplied),
)
