"""A layer's output as maps: (image, channel, row, column), wherever the channels lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from activarium.schemas.layers import Layer

CHANNELS_LAST_CLASSES = re.compile(r"Swin\w*Block|PatchMerging")
"""Blocks whose maps are (image, row, column, channel)."""

_CHANNELS_FIRST = re.compile(r"Conv(Transpose)?[123]d|(Batch|Instance)Norm|GroupNorm|Pool[123]d")


def first_axis(tensor: torch.Tensor) -> int:
    """Return the usual axis of channels: the last of sequences of tokens, else the second."""
    return 2 if tensor.dim() == 3 else 1


def settled_axis(module: nn.Module, tensor: torch.Tensor) -> int | None:
    """Return the axis of the channels that the module's class settles; None where it does not."""
    name, last = type(module).__name__, tensor.dim() - 1
    if isinstance(module, nn.Linear | nn.RNNBase | nn.MultiheadAttention):
        return last
    if _CHANNELS_FIRST.search(name):
        return 1
    if CHANNELS_LAST_CLASSES.search(name):
        return last
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        fits = tensor.shape[-1] == module.normalized_shape[0]
        return last if fits and type(module) is nn.LayerNorm else None
    return None


@dataclass(frozen=True)
class Tap:
    """Where a layer's maps come from: which tensor of which call, and how it is laid out."""

    layer: Layer
    call: str
    """Name of the call."""
    leaf: int
    """Place among all that the call's output holds."""
    channel: int
    """Axis of the channels."""
    image: int
    """Axis of the images: 1 for sequences that put time first, else 0."""

    @property
    def path(self) -> str:
        """Path of the module, or of the function within it."""
        return self.call.partition(":")[0]

    def maps(self, output: Any, images: int) -> torch.Tensor:
        """Return the layer's maps of one call, (image, channel, row, column).

        All axes between images and channels become rows, as tokens do; windows of attention that
        are folded into the first axis become rows too.

        Raises
        ------
        UserError
            If the output is not of the layout that the trial showed.
        """
        tensor = self._tensor(output)
        fits = (
            tensor is not None
            and tensor.dim() > max(self.channel, 1)
            and tensor.shape[self.channel] == self.layer.units
            and tensor.shape[self.image] % images == 0
        )
        if tensor is None or not fits:
            got = tuple(tensor.shape) if tensor is not None else type(output).__name__
            raise UserError(
                f"layer {self.layer.name!r} changed between batches: expected {self.layer.units} "
                f"channels for {images} images, got {got}; leave it out with record.layers"
            )
        return as_maps(tensor, images, channel=self.channel, image=self.image)

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


def as_maps(tensor: torch.Tensor, images: int, *, channel: int, image: int = 0) -> torch.Tensor:
    """Return a tensor as (image, channel, row, column), as a view wherever that is possible.

    Parameters
    ----------
    tensor
        A layer's output.
    images
        Number of images.
    channel, image
        Axes of the channels and of the images.
    """
    if image:
        tensor = tensor.movedim(image, 0)
    if tensor.shape[0] != images:  # windows of one image follow one another
        windows = tensor.movedim(channel, -1)
        tensor, channel = windows.reshape(images, -1, windows.shape[-1]), 2
    if tensor.dim() == 2:
        return tensor[:, :, None, None]
    maps = tensor.movedim(channel, 1)
    if maps.dim() == 3:
        return maps.unsqueeze(-1)
    return maps if maps.dim() == 4 else maps.flatten(2, -2)
