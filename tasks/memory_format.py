"""How maps lie in memory: channels last, which is fastest, unless the model cannot take it.

`view` fails on a map whose channels lie last, and a model that calls it is none the less right.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def place_model(
    model: nn.Module, device: torch.device, memory_format: torch.memory_format
) -> nn.Module:
    """Move a model to the device, with its weights of four axes in the memory format.

    Those of five axes, as of a convolution in three dimensions, have no such format.
    """
    model = model.to(device)

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(memory_format=memory_format) if tensor.dim() == 4 else tensor

    model._apply(convert)  # type: ignore[no-untyped-call] # noqa: SLF001 - as `to`, which takes no five axes
    return model


def settle_format(
    model: nn.Module, device: torch.device, inputs: torch.Tensor
) -> torch.memory_format:
    """Place a model and return the memory format in which it runs, in training as well.

    Parameters
    ----------
    model
        Left on the device.
    device
        Where it is to run.
    inputs
        Some images (image, colour, row, column) on the device, at least two for batch norms.

    Returns
    -------
    torch.memory_format
        Channels last where the model runs so, else contiguous, also where it does not run at all.
    """
    place_model(model, device, torch.channels_last)
    if _runs(model, inputs.contiguous(memory_format=torch.channels_last)):
        return torch.channels_last
    place_model(model, device, torch.contiguous_format)
    return torch.contiguous_format


def _runs(model: nn.Module, inputs: torch.Tensor) -> bool:
    """Tell whether both kinds of forward pass succeed; batch norms and counters stay as they are."""
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    try:
        tried = copy.deepcopy(model)
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            for training in (False, True):
                tried.train(training)(inputs)
    except Exception:  # noqa: BLE001 - the caller runs the model again, and tells of its error
        return False
    return True
