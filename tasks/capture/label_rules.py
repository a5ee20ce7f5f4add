"""What each operation of aten does to the labels of channels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from activarium.tasks.capture.label_moves import (
    MOVES,
    RESHAPES,
    joined,
    moved,
    placed,
    reshaped,
    unfolded,
)
from activarium.tasks.capture.label_products import (
    PRODUCTS,
    attended,
    convolved,
    deconvolved,
    looked_up,
    multiplied,
)
from activarium.tasks.capture.labels import MOST, UNKNOWN, agree, anchored, count, varies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from activarium.tasks.capture.labels import Lookup

    Rule = Callable[[Any, tuple[Any, ...], dict[str, Any], Any, Lookup], Any]


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


SAME_SHAPE = _named(
    "_softmax _log_softmax _safe_softmax native_group_norm native_dropout "
    "cumsum cumprod logcumsumexp _to_copy clone alias detach contiguous "
    "lift_fresh as_strided hardswish rrelu_with_noise log_sigmoid_forward bernoulli tril triu "
    "masked_scatter scatter scatter_add select_scatter slice_scatter fill zero "
    "fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask "
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams"
)
"""Operations whose output keeps its input's shape, each value in its place."""

SUMS = frozenset({"add", "sub", "rsub"})

UNTAGGED = _named("_conj conj resolve_conj complex prelu _prelu_kernel rsub floor_divide")
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

SPATIAL = re.compile(
    r"(max|avg)_(?:un)?pool([123])d|upsample_\w*?([123])d|grid_sampler(?:_([23])d)?"
)
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


def _by_value(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep the labels on which all operands that have any agree."""
    if not isinstance(output, torch.Tensor):
        return None
    inputs = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    if function.overloadpacket.__name__.rstrip("_") in SUMS and any(
        of(each) == () and each.shape == output.shape for each in inputs
    ):
        return None  # half of a sum is of channels that are not known
    operands = [each for each in inputs if of(each)]
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
    return (torch.full(output.shape, UNKNOWN, dtype=torch.float64, device=output.device),)


def _in_place_of(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep the labels of the first argument, for each output of its shape."""
    del function, kwargs
    shape, labels = args[0].shape, of(args[0]) or ()
    if isinstance(output, torch.Tensor):
        return labels if output.shape == shape else None
    return [labels if getattr(each, "shape", None) == shape else None for each in output]


def _normalised(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep the labels of a norm's input; where it has none, the norm itself settles them."""
    kept = _in_place_of(function, args, kwargs, output, of)
    if of(args[0]):
        return kept
    is_batch = function.overloadpacket.__name__.rstrip("_") in BATCH_NORMS
    if not is_batch and len(args[1]) != 1:
        return kept
    settled = (anchored(args[0].shape, 1 if is_batch else -1, args[0].device),)
    return settled if isinstance(output, torch.Tensor) else [settled, *[None] * (len(output) - 1)]


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
    given = _given(function, args, kwargs)
    dims = given.get("dim")
    if dims is None or dims == []:
        return None, False
    axes = [dims] if isinstance(dims, int) else [*dims]
    return [axis % source.dim() for axis in axes], bool(given.get("keepdim", False))


def _given(function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    names = [argument.name for argument in function._schema.arguments]  # noqa: SLF001
    return {**dict(zip(names, args, strict=False)), **kwargs}


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


def _transformed(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow Fourier transforms, which mix along some axes."""
    del function, kwargs
    axes = [axis % output.dim() for axis in args[1]]
    return tuple(
        _first_of(labels, axes).expand(output.shape)
        for labels in of(args[0]) or ()
        if not any(varies(labels, axis) for axis in axes)
    )


def _paired(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow complex numbers to pairs and back."""
    del kwargs
    to_pairs = function.overloadpacket.__name__ == "view_as_real"
    return tuple(
        labels.unsqueeze(-1).expand(output.shape) if to_pairs else labels[..., 0]
        for labels in of(args[0]) or ()
    )


def _ordered(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Keep labels that do not change along the axis that is sorted."""
    given = _given(function, args, kwargs)
    axis = int(given.get("dim", -1)) % args[0].dim()
    kept = tuple(
        labels.narrow(axis, 0, 1).expand(output[0].shape)
        for labels in of(args[0]) or ()
        if not varies(labels, axis)
    )
    return [kept] * len(output)


def _halved(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow `glu`, which multiplies one half of an axis by gates made of the other."""
    del function
    dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    return tuple(labels.narrow(dim, 0, output.shape[dim]) for labels in of(args[0]) or ())


_RULES: tuple[tuple[frozenset[str], Rule], ...] = (
    (RESHAPES, reshaped),
    (MOVES, moved),
    (frozenset({"cat", "stack"}), joined),
    (frozenset({"im2col"}), unfolded),
    (frozenset({"copy", "index_put"}), placed),
    (SAME_SHAPE, _in_place_of),
    (BLANKS, _blank),
    (frozenset({"glu"}), _halved),
    (frozenset({"sort", "topk", "cummax", "cummin"}), _ordered),
    (frozenset({"_fft_c2c", "_fft_r2c", "_fft_c2r"}), _transformed),
    (frozenset({"view_as_real", "view_as_complex"}), _paired),
    (BATCH_NORMS | {"native_layer_norm", "_fused_rms_norm"}, _normalised),
    (REDUCTIONS, _reduced),
    (frozenset({"convolution", "_convolution", "convolution_overrideable"}), convolved),
    (frozenset({"deform_conv2d"}), convolved),
    (frozenset({"col2im", "pixel_shuffle"}), deconvolved),
    (frozenset({"embedding"}), looked_up),
    (frozenset(PRODUCTS), multiplied),
)
