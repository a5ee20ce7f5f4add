"""A layer's output as maps: (image, channel, row, column), wherever images and channels lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from activarium.schemas.layers import Layer


@dataclass(frozen=True)
class Layout:
    """Which axes of a tensor hold images, channels and tokens."""

    channels: tuple[int, ...] = (1,)
    """Axes of the channels: several where heads and their features make them together."""
    image: int = 0
    """Axis of the images."""
    outer: int = 1
    """Rows that come before the images along their axis, such as views stacked one after the other;
    what else that axis holds beside the images, such as windows, is inside of each image."""
    inner: int = 1
    """Rows of each image that follow one another along that axis."""
    tokens: tuple[int, int, int] | None = None
    """Axis, first and number of the positions that count; None for all."""

    @property
    def is_usual(self) -> bool:
        """Whether the tensor is (image, channel, ...) already."""
        return self == USUAL

    def units(self, shape: tuple[int, ...] | torch.Size) -> int:
        """Return the number of channels of a tensor of this shape."""
        units = 1
        for axis in self.channels:
            units *= shape[axis]
        return units

    def fits(self, tensor: torch.Tensor, images: int) -> bool:
        """Tell whether a tensor can be laid out like this for so many images."""
        axes = tensor.dim() > max(self.image, *self.channels)
        return axes and tensor.shape[self.image] == self.outer * images * self.inner

    def maps(self, tensor: torch.Tensor, images: int) -> torch.Tensor:
        """Return a tensor as (image, channel, row, column), as a view wherever that is possible.

        All axes between images and channels become rows, as tokens do.
        """
        if self.tokens is not None:
            tensor = tensor.narrow(*self.tokens)
        channels = self.channels
        if self.image:
            tensor = tensor.movedim(self.image, 0)
            channels = tuple(axis + (axis < self.image) for axis in channels)
        if self.outer * self.inner == 1 and len(channels) == 1:
            return _as_maps(tensor, channels[0])
        sizes = (self.outer, images, self.inner)
        several = tensor.reshape(*sizes, *tensor.shape[1:]).movedim(1, 0)
        last = several.dim() - len(channels)
        axes = tuple(range(last, several.dim()))
        rows = several.movedim(tuple(axis + 2 for axis in channels), axes).flatten(last)
        return rows.reshape(images, -1, rows.shape[-1]).movedim(2, 1).unsqueeze(-1)


USUAL = Layout()
"""(image, channel, ...), as convolutions return it."""


def _as_maps(tensor: torch.Tensor, channel: int) -> torch.Tensor:
    if tensor.dim() == 2:
        return tensor[:, :, None, None]
    maps = tensor.movedim(channel, 1)
    if maps.dim() == 3:
        return maps.unsqueeze(-1)
    return maps if maps.dim() == 4 else maps.flatten(2, -2)


@dataclass(frozen=True)
class Tap:
    """Where a layer's maps come from: which tensor of which call, and how it is laid out."""

    layer: Layer
    call: str
    """Name of the call."""
    leaf: int
    """Place among all that the call's output holds."""
    layout: Layout = USUAL

    @property
    def path(self) -> str:
        """Path of the module, or of the function within it."""
        return self.call.partition(":")[0]

    def maps(self, output: Any, images: int) -> torch.Tensor:
        """Return the layer's maps of one call, (image, channel, row, column).

        Raises
        ------
        UserError
            If the output is not of the layout that the trial showed.
        """
        tensor = self._tensor(output)
        fits = (
            tensor is not None
            and self.layout.fits(tensor, images)
            and self.layout.units(tensor.shape) == self.layer.units
        )
        if tensor is None or not fits:
            got = tuple(tensor.shape) if tensor is not None else type(output).__name__
            raise UserError(
                f"layer {self.layer.name!r} changed between batches: expected {self.layer.units} "
                f"channels for {images} images, got {got}; leave it out with record.layers"
            )
        return self.layout.maps(tensor, images)

    def _tensor(self, output: Any) -> torch.Tensor | None:
        if isinstance(output, torch.Tensor):
            return output
        return next((each for _, place, each in tensors_of(output) if place == self.leaf), None)


def tensors_of(output: Any) -> list[tuple[str, int, torch.Tensor]]:
    """Return the tensors of a call's output that may hold responses.

    Each comes with its path in the output, such as `[0]` or `[out]`, and its place among all that
    the output holds.
    """
    leaves, _ = pytree.tree_flatten_with_path(output)
    return [
        (pytree.keystr(path).replace("'", ""), place, leaf)
        for place, (path, leaf) in enumerate(leaves)
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.dim() >= 2
    ]
