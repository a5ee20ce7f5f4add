"""How well a classifier does on images in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.memory_format import settle_format

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


def labelled(
    images: NDArray[np.uint8], labels: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the images (image, ...) and labels (image) of the images that have a label."""
    known = labels >= 0
    return (images, labels) if known.all() else (images[known], labels[known])


def accuracy(  # noqa: PLR0913 - the data are two arrays
    model: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    *,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
    batch_size: int = 512,
) -> float:
    """Return the share of labelled images classified rightly, from 0 to 1.

    Parameters
    ----------
    model
        Moved to the device and left there in eval mode.
    images
        (image, height, width, colour).
    labels
        (image); images of label -1 do not count.
    normalise
        From a batch like `images` on the device to (image, colour, height, width) in float32.
    device
        Where to run.
    batch_size
        Images per forward pass.

    Raises
    ------
    UserError
        Where no image has a label.
    """
    images, labels = labelled(images, labels)
    if len(labels) == 0:
        raise UserError("accuracy needs labelled images, all labels are -1")
    first = torch.from_numpy(images[:2].copy()).to(device)
    memory_format = settle_format(model.eval(), device, normalise(first))
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.inference_mode():
        for start in range(0, len(labels), batch_size):
            raw = torch.from_numpy(images[start : start + batch_size].copy()).to(device)
            inputs = normalise(raw).contiguous(memory_format=memory_format)
            truth = torch.from_numpy(labels[start : start + batch_size].copy()).to(device)
            right += (model(inputs).argmax(dim=1) == truth).sum()
    return int(right) / len(labels)
