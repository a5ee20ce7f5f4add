"""Labels of what makes new channels: convolutions, products of matrices, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from activarium.tasks.capture.labels import MOST, anchored, count, ranked, varies

if TYPE_CHECKING:
    from activarium.tasks.capture.labels import Labels, Lookup

PRODUCTS = {"mm": 0, "addmm": 1, "bmm": 0, "baddbmm": 1, "_addmm_activation": 1}
"""Products of matrices, and which argument is the left one."""


def convolved(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Make new labels; older ones stay where the kernel reaches no other label."""
    del function, kwargs
    made = anchored(output.shape, 1, output.device, weights=args[1])
    is_pointwise = all(size == 1 for size in args[1].shape[2:])
    is_pointwise &= args[0].shape[2:] == output.shape[2:]
    kept = []
    for labels in of(args[0]) or ():
        axes = range(1, 2 if is_pointwise else labels.dim())
        if not any(varies(labels, axis) for axis in axes):
            for axis in axes:
                labels = labels.narrow(axis, 0, 1)  # noqa: PLW2901 - the same label, smaller
            kept.append(labels.expand(output.shape))
    # One channel made of rows that are channels each, as a blur does, is no new one.
    ordered = [*kept, made] if output.shape[1] == 1 else [made, *kept]
    return tuple(ordered[:MOST])


def deconvolved(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Count the channels of what puts patches together, or spreads channels over positions."""
    axis = -3 if function.overloadpacket.__name__ == "pixel_shuffle" else 1
    del args, kwargs, of
    return (anchored(output.shape, axis, output.device),)


def looked_up(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Count the features of an embedding."""
    del function, kwargs, of
    return (anchored(output.shape, -1, output.device, weights=args[0]),)


def multiplied(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow a product of matrices: labels stay where they are the same for all that is summed."""
    del kwargs
    place = PRODUCTS[function.overloadpacket.__name__]
    left, right = args[place], args[place + 1]
    kept_right, kept_left = (
        [
            labels.narrow(axis, 0, 1).expand(output.shape)
            for labels in of(side) or ()
            if not varies(labels, labels.dim() + axis)
        ]
        for side, axis in ((right, -2), (left, -1))
    )
    if of(left) is None or of(right) is None:
        # What the image's side keeps goes first: a sum over its positions makes no channels.
        made = _made(left, right, output, weights_right=of(right) is None)
        return (*kept_right, *kept_left, made)[:MOST]
    # What is summed is mostly the right side's, weighted by the left's, as in attention.
    if kept_right:
        return (_with(kept_right[0], of(left), -1), *kept_right[1:], *kept_left)[:MOST]
    return tuple([_with(labels, of(right), -2) for labels in kept_left][:MOST])


def _made(
    left: torch.Tensor, right: torch.Tensor, output: torch.Tensor, *, weights_right: bool
) -> torch.Tensor:
    """Count the channels that a matrix of weights makes, or several matrices side by side."""
    weights, axis = (right, -1) if weights_right else (left, -2)
    made = anchored(output.shape, axis, output.device, weights=weights)
    if weights.dim() < 3 or weights.shape[0] == 1 or weights.stride(0) == 0:
        return made
    each = anchored(output.shape, 0, output.device)
    return made + each * output.shape[axis]


def _with(labels: torch.Tensor, others: Labels | None, axis: int) -> torch.Tensor:
    """Return labels with those of the other side that its sum leaves apart, such as heads."""
    if not others:
        return labels
    rest = others[0].amax(axis, keepdim=True).expand(labels.shape)
    if count(rest) < 2:
        return labels
    (own, _), (other, kinds) = ranked(labels), ranked(rest)
    return own * kinds + other


def attended(function: Any, args: Any, kwargs: Any, output: Any, of: Lookup) -> Any:
    """Follow attention: each position gets a mixture of the values, whose channels stay apart."""
    del function, kwargs
    first = output if isinstance(output, torch.Tensor) else output[0]
    kept = []
    for labels in of(args[2]) or ():
        if not varies(labels, labels.dim() - 2) and labels.shape[-1] == first.shape[-1]:
            one = labels.narrow(-2, 0, 1)
            if one.dim() > 3 and one.shape[-3] not in (1, first.shape[-3]):
                # Heads of queries share those of values.
                one = one.repeat_interleave(first.shape[-3] // one.shape[-3], -3)
                one = one + anchored(one.shape, -3, one.device) * 2.0**-20
            kept.append(one.expand(first.shape))
    found = tuple(kept)
    return found if isinstance(output, torch.Tensor) else [found, *[None] * (len(output) - 1)]
