"""Which axes of a tensor hold channels, followed from operation to operation by labels.

Beside every tensor goes one of the same shape that says which channel each value belongs to. What
makes channels (a convolution, a product with a matrix of weights) writes new labels; what moves
values moves their labels; what works value by value, or averages values of one channel, keeps them.
So no axis is guessed from its size, and a permutation is followed under any name that it is
called by, because all of them are a few operations of aten underneath.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from activarium.tasks.capture.forward import Watching
from activarium.tasks.capture.label_rules import BLANKS, rule_of
from activarium.tasks.capture.labels import UNKNOWN, anchored, compact, count, varies

if TYPE_CHECKING:
    from activarium.tasks.capture.labels import Labels


class ChannelLabels(Watching):
    """Follows the channels of all tensors of one forward pass, from its input on."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._labels = WeakTensorKeyDictionary()
        self._settled = WeakTensorKeyDictionary()
        self._labels[images] = (anchored(images.shape, 1, images.device),)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        inputs = [each for each in pytree.tree_leaves((args, kwargs)) if _is_tensor(each)]
        if any(each in self._labels for each in inputs) or _is_blank(func, output):
            self._keep(output, self._followed(func, args, kwargs or {}, output))
        return output

    def _followed(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        rule = rule_of(func)
        try:
            return None if rule is None else rule(func, args, kwargs, output, self._of)
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None  # labels that are lost are told of; the forward pass goes on

    def _of(self, tensor: Any) -> Labels | None:
        """Return a tensor's labels; None where it does not follow from the images."""
        if not _is_tensor(tensor) or tensor not in self._labels:
            return None
        found: Labels = self._labels[tensor]
        return found

    def _keep(self, output: Any, found: Any) -> None:
        """Keep the labels of an output, or of each where there are several; none where they are lost."""
        if isinstance(output, torch.Tensor):
            self._labels[output] = found if isinstance(found, tuple) else ()
        elif isinstance(output, tuple | list):
            each_found = found if isinstance(found, list) else [None] * len(output)
            for each, labels in zip(output, each_found, strict=False):
                self._keep(each, labels)

    def anchor(self, tensor: torch.Tensor, axis: int) -> None:
        """Say where the channels of a tensor are, because the module that made it settles it."""
        self._settled[tensor] = axis % tensor.dim()
        self._labels[tensor] = (
            anchored(tensor.shape, axis, tensor.device),
            *(self._of(tensor) or ()),
        )

    def release(self) -> None:
        """Let go of all labels."""
        self._labels.clear()
        self._settled.clear()

    def axes(self, tensor: torch.Tensor, *, image: int, rows: int) -> ChannelAxes | None:
        """Return the axes that hold the channels; None where they cannot be told.

        Parameters
        ----------
        tensor
            What a call returned.
        image
            Axis that holds the images: a label may follow from the image too.
        rows
            Rows of each image along that axis.
        """
        if tensor in self._settled and self._settled[tensor] != image:
            rows_differ = (_along(labels, image) for labels in self._of(tensor) or ())
            along = next((each for each in rows_differ if each is not None), None)
            return ChannelAxes((self._settled[tensor],), along)
        for labels in self._of(tensor) or ():
            axes = varying_axes(labels, image)
            if axes:
                return ChannelAxes(axes, _along(labels, image))
        rest = [axis for axis in range(tensor.dim()) if axis != image]
        if rows > 1 or not rest:
            return None
        longer = [axis for axis in rest if tensor.shape[axis] > 1]
        if len(longer) == 1 and tensor.dim() == 2:
            return ChannelAxes((longer[0],))
        if not longer:  # one value per image, of one channel
            return ChannelAxes((rest[0],))
        # Of one channel: the axis of size one is that of the channels, where there is only one.
        ones = [axis for axis in rest if tensor.shape[axis] == 1]
        is_one = any(count(labels) == 1 for labels in self._of(tensor) or ())
        return ChannelAxes((ones[0],)) if is_one and len(ones) == 1 else None


@dataclass(frozen=True)
class ChannelAxes:
    """Axes that hold channels."""

    axes: tuple[int, ...]
    along_images: torch.Tensor | None = None
    """A label for each row along the axis of the images, where labels differ along it."""

    def differ_within(self, outer: int, inner: int) -> bool:
        """Tell whether rows of one image are of other channels: then the axes are not all."""
        if self.along_images is None:
            return False
        rows = self.along_images.view(outer, -1, inner)
        return bool((rows != rows[:1, :, :1]).any())


def _along(labels: torch.Tensor, image: int) -> torch.Tensor | None:
    small = compact(labels)
    if small.shape[image] == 1:
        return None
    return small.movedim(image, 0).flatten(1).amax(1)


def varying_axes(labels: torch.Tensor, image: int) -> tuple[int, ...] | None:
    """Return the axes along which labels differ, beside that of images; None where mixed.

    Several axes hold the channels together, as heads and features do, only where each combination
    is another channel.
    """
    labels = compact(labels)
    axes = [axis for axis in range(labels.dim()) if axis != image and varies(labels, axis)]
    if len(axes) > 1:
        for axis in sorted({*range(labels.dim())}.difference(axes), reverse=True):
            labels = labels.amax(axis)
        if len(torch.unique(labels)) != labels.numel() or bool((labels == UNKNOWN).any()):
            return None
    return tuple(axes) or None


def _is_blank(func: Any, output: Any) -> bool:
    """Tell whether an operation made a tensor that may be filled with values of the images."""
    return (
        func.overloadpacket.__name__ in BLANKS
        and isinstance(output, torch.Tensor)
        and output.is_floating_point()
        and output.dim() > 1
    )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
