"""A model of one's own, for own_model.yaml: any function or class that returns a module."""

from __future__ import annotations

import torch
from torch import nn


class SmallNet(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, kernel_size=3, padding=1, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (image, class) of images (image, colour, height, width)."""
        maps = self.relu(self.conv2(self.relu(self.conv1(images))))
        logits: torch.Tensor = self.fc(maps.mean(dim=(2, 3)))
        return logits


def build(width: int = 16) -> nn.Module:
    """Return the model; its preprocessing is taken where the configuration says nothing else."""
    model = SmallNet(width)
    model.preprocessing = {"size": 16, "mean": [0.5], "sd": [0.25]}  # type: ignore[assignment]
    return model
