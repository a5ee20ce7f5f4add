"""What one epoch of training draws at random, and the learning rate of each of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.training_config import TrainingConfig


def cosine_rate(step: int, *, steps: int, start: float) -> float:
    """Return the learning rate of a step from 0, falling to 0 along half a cosine.

    References
    ----------
    Loshchilov and Hutter 2017, SGDR, equation 5 without restarts.
    """
    return start * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def learning_rate(step: int, *, steps: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step from 0, as the schedule says."""
    if config.schedule == "constant":
        return config.learning_rate
    return cosine_rate(step, steps=steps, start=config.learning_rate)


def shifted(
    images: torch.Tensor, offsets: torch.Tensor, mirrored: torch.Tensor, *, padding: int
) -> torch.Tensor:
    """Cut each image out of itself padded with zeros, and mirror some.

    Parameters
    ----------
    images
        (image, height, width, colour), of any dtype.
    offsets
        (image, 2) rows and columns of the cut's corner, each from 0 to 2 * padding.
    mirrored
        (image) true where left and right are exchanged, after the cut.
    padding
        Rows and columns added on each side.

    Returns
    -------
    torch.Tensor
        (image, height, width, colour).
    """
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    rows = torch.arange(height, device=images.device) + offsets[:, :1]
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + offsets[:, 1:]
    each = torch.arange(count, device=images.device)
    return padded[each[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class EpochPlan:
    """What is random in one epoch."""

    order: NDArray[np.int64]
    """(image) indices into the training images."""
    offsets: NDArray[np.int64]
    """(image, 2) corner of each crop, in the order's order."""
    mirrored: NDArray[np.bool_]
    """(image) in the order's order."""
    dropout_seed: int


def plan_epoch(images: int, *, epoch: int, config: TrainingConfig) -> EpochPlan:
    """Draw an epoch's order, crops, flips and dropout seed from (seed, epoch).

    Parameters
    ----------
    images
        Number of training images.
    epoch
        From 1.
    config
        Seed, crop and flip.
    """
    # Separate streams: switching the crop on does not change the order.
    streams = np.random.SeedSequence([config.seed, epoch]).spawn(4)
    order, crop, flip = (np.random.default_rng(stream) for stream in streams[:3])
    return EpochPlan(
        order=order.permutation(images),
        offsets=crop.integers(0, 2 * config.crop + 1, size=(images, 2)),
        mirrored=flip.random(images) < (0.5 if config.flip else 0.0),
        dropout_seed=int(streams[3].generate_state(1)[0]),
    )
