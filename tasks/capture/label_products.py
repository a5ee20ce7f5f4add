"""Labels of what makes new channels: convolutions, products of matrices, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from activarium.tasks.capture.labels import MOST, anchored, varies

if TYPE_CHECKING:
    from activarium.tasks.capture.labels import Lookup

PRODUCTS = {"mm": 0, "addmm": 1, "bmm": 0, "baddbmm": 1, "_addmm_activation": 1}
"""Products of matrices, and which argument is the left one."""


def convolved(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Make new labels; older ones stay where a kernel of one position does not reach along them."""
    del function, kwargs
    made = anchored(output.shape, 1, output.device)
    is_pointwise = all(size == 1 for size in args[1].shape[2:]) and (
        args[0].shape[2:] == output.shape[2:]
    )
    kept = [
        labels.narrow(1, 0, 1).expand(output.shape)
        for labels in of(args[0]) or ()
        if is_pointwise and not varies(labels, 1)
    ]
    return (made, *kept)[:MOST]


def multiplied(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow a product of matrices: labels stay where they are the same for all that is summed."""
    del kwargs
    place = PRODUCTS[function.overloadpacket.__name__]
    left, right = args[place], args[place + 1]
    # What is summed is mostly the right side's, weighted by the left's, as in attention.
    kept = [
        labels.narrow(-2, 0, 1).expand(output.shape)
        for labels in of(right) or ()
        if not varies(labels, labels.dim() - 2)
    ]
    kept += [
        labels.narrow(-1, 0, 1).expand(output.shape)
        for labels in of(left) or ()
        if not varies(labels, labels.dim() - 1)
    ]
    if of(left) is not None and of(right) is not None:
        return tuple(kept[:MOST])
    # One side is weights: its own axis of the output counts the channels that they make.
    axis = -2 if of(left) is None else -1
    return (anchored(output.shape, axis, output.device), *kept)[:MOST]


def attended(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow attention: each position gets a mixture of the values, whose channels stay apart."""
    del function, kwargs
    first = output if isinstance(output, torch.Tensor) else output[0]
    kept = tuple(
        labels.narrow(-2, 0, 1).expand(first.shape)
        for labels in of(args[2]) or ()
        if not varies(labels, labels.dim() - 2) and labels.shape[-1] == first.shape[-1]
    )
    return kept if isinstance(output, torch.Tensor) else [kept, *[None] * (len(output) - 1)]
