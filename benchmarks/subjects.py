"""What is recorded: models with random weights, and their layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torchvision
from torch import nn

from activarium.tasks.capture.layers import ModelLayers, find_layers
from activarium.tasks.models.architectures import resnet18

if TYPE_CHECKING:
    from collections.abc import Callable

    from activarium.schemas.layers import Kind

KINDS: tuple[Kind, ...] = ("conv", "linear", "norm", "activation", "pool", "window_pool")
"""Every operation that is a layer of its own; sums and containers repeat what these return."""


@dataclass(frozen=True)
class Architecture:
    """A model as a benchmark builds it."""

    name: str
    size: int
    """Height and width of its images."""
    build: Callable[[], nn.Module]


def _googlenet() -> nn.Module:
    model: nn.Module = torchvision.models.googlenet(
        weights=None, aux_logits=False, init_weights=False
    )
    return model


def _resnet50() -> nn.Module:
    model: nn.Module = torchvision.models.resnet50(weights=None)
    return model


RESNET18 = Architecture("ResNet-18 32x32", 32, resnet18)
GOOGLENET = Architecture("GoogLeNet 224x224", 224, _googlenet)
RESNET50 = Architecture("ResNet-50 224x224", 224, _resnet50)


@dataclass(frozen=True)
class Subject:
    """A model in place with its layers."""

    name: str
    size: int
    model: nn.Module
    layers: ModelLayers


def place(architecture: Architecture, device: torch.device) -> Subject:
    """Build a model, channels_last and in evaluation mode, and find its layers.

    Batch norms get statistics of their own, as in a trained model: with mean 0 and variance 1
    there would be nothing to fold.
    """
    torch.manual_seed(0)
    model = architecture.build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    model = model.eval().to(device)
    model = model.to(memory_format=torch.channels_last)
    example = torch.randn(1, 3, architecture.size, architecture.size, device=device)
    layers = find_layers(model, example, patterns=["*"], kinds=KINDS)
    return Subject(architecture.name, architecture.size, model, layers)


def random_batches(size: int, *, images: int, batch_size: int) -> list[torch.Tensor]:
    """Return batches of random images (image, colour, row, column) in channels_last."""
    torch.manual_seed(1)
    return [
        torch.randn(batch_size, 3, size, size).to(memory_format=torch.channels_last)
        for _ in range(max(1, images // batch_size))
    ]
