"""Labels of what moves values, joins tensors, or writes into a part of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from activarium.tasks.capture.labels import (
    UNKNOWN,
    anchored,
    are_equal,
    compact,
    count,
    ranked,
    varies,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.tasks.capture.labels import Labels, Lookup

RESHAPES = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias"})

MOVES = frozenset(
    [
        "permute",
        "transpose",
        "t",
        "expand",
        "squeeze",
        "unsqueeze",
        "slice",
        "select",
        "split",
        "split_with_sizes",
        "unbind",
        "unfold",
        "diagonal",
        "narrow",
        "flip",
        "roll",
        "repeat",
        "index",
        "index_select",
        "gather",
        "constant_pad_nd",
        "reflection_pad1d",
        "reflection_pad2d",
        "replication_pad1d",
        "replication_pad2d",
        "pixel_unshuffle",
        "channel_shuffle",
        "rot90",
        "swapaxes",
        "movedim",
        "chunk",
        "tile",
        "unsafe_split",
        "unsafe_split_with_sizes",
    ]
)
"""Operations that only move values, done to labels as to values."""


def moved(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Do to the labels what is done to the values; what is filled in is of no channel."""
    name = function.overloadpacket.__name__
    if name == "constant_pad_nd":
        args = (args[0], args[1], UNKNOWN)
    results = [function(labels, *args[1:], **kwargs) for labels in of(args[0]) or ()]
    if isinstance(output, torch.Tensor):
        return tuple(results)
    return [tuple(each) for each in zip(*results, strict=True)] if results else None


def reshaped(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Lay the labels out anew, which may need a copy where that of the values does not."""
    del function, kwargs
    if output.dtype != args[0].dtype:
        return None
    return tuple(labels.reshape(output.shape) for labels in of(args[0]) or ())


def joined(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow `cat` and `stack`: along the axis of the channels, each part has channels of its own."""
    name = function.overloadpacket.__name__
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % output.dim()
    parts = [part for part in args[0] if part.dim() == output.dim() or name == "stack"]
    labelled = [labels for labels in map(of, parts) if labels]
    if not labelled:
        return None
    if name == "stack":
        parts = [part.unsqueeze(dim) for part in parts]
        depth = min(len(labels) for labels in labelled)
        each = [[labels.unsqueeze(dim) for labels in found] for found in map(of, args[0]) if found]
        same = [are_equal(each[0][at], own[at]) for at in range(depth) for own in each]
        if not all(same):
            return (_numbered([own[0] for own in each], dim, output.shape),)
        return tuple(labels.expand(output.shape) for labels in each[0][:depth])
    if any(_makes_channels(part, labels[0], dim) for part in parts if (labels := of(part))):
        own = [_along(part, of(part), dim) for part in parts]
        return (_numbered(own, dim, output.shape),)
    return tuple(
        _side_by_side(
            [_part(part, of(part), at, labelled[0][at], dim) for part in parts], dim, output.shape
        )
        for at in range(min(map(len, labelled)))
    )


def _makes_channels(part: torch.Tensor, labels: torch.Tensor, dim: int) -> bool:
    """Tell whether an axis along which parts are joined is that of their channels."""
    return varies(labels, dim) or (part.shape[dim] == 1 and part.dim() > 2 and count(labels) == 1)


def _along(part: torch.Tensor, labels: Labels | None, dim: int) -> torch.Tensor:
    """Return a part's labels along an axis, counted where it has none that differ there."""
    own = next((each for each in labels or () if varies(each, dim)), None)
    return anchored(part.shape, dim, part.device) if own is None else own


def _part(
    part: torch.Tensor, labels: Labels | None, at: int, filling: torch.Tensor, dim: int
) -> torch.Tensor:
    """Return the labels of one part; those of its neighbours where it has none, as a class token."""
    if labels:
        return labels[at]
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


def _numbered(parts: Sequence[torch.Tensor], dim: int, shape: Sequence[int]) -> torch.Tensor:
    """Number the channels of all parts one after the other."""
    numbered, start = [], 0
    for part in parts:
        own, kinds = ranked(part)
        numbered.append(torch.where(own == UNKNOWN, UNKNOWN, own + start).expand(part.shape))
        start += kinds
    return _side_by_side(numbered, dim, shape)


def unfolded(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow `im2col`; what it fills in at the border is of no channel."""
    del output
    return tuple(function(labels + 1, *args[1:], **kwargs) - 1 for labels in of(args[0]) or ())


def placed(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Put labels with values into those of the whole, where these have memory of their own."""
    del kwargs
    by_index = function.overloadpacket.__name__.startswith("index_put")
    into, source = of(args[0]) or (), of(args[2 if by_index else 1]) or ()
    if into and source and 0 not in into[0].stride():
        if by_index:
            into[0].index_put_(args[1], source[0])
        else:
            into[0].copy_(source[0].expand(output.shape))
    return into or tuple(labels.expand(output.shape) for labels in source)
