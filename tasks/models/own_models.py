"""The architectures of our own as a source of models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.models.architectures import TwoBlockCNN, resnet18
from activarium.tasks.models.model_sources import ModelSource, agreed_colours

if TYPE_CHECKING:
    from torch import nn

OWN = ("resnet18", "two-block-cnn")
USUAL_WIDTH = 64


class OwnModel(ModelSource):
    """`resnet18` with the CIFAR stem, or `two-block-cnn`."""

    @property
    def name(self) -> str:
        """Architecture and width."""
        architecture, width = self.config.architecture, self.config.width
        if architecture == "two-block-cnn" and width == USUAL_WIDTH:
            return architecture
        return f"{architecture}-w{width}"

    @property
    def own_weights(self) -> str | None:
        """Return None: there are no pretrained ones."""
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", self.config.weights):
            raise UserError(
                f"model.weights {self.config.weights!r} names pretrained weights, but our own "
                f"{self.config.architecture} has none; use torchvision:resnet18, or a weights file"
            )
        return None

    def colours(self, of_images: int) -> int:
        """Return the configured colours, else the images'."""
        return agreed_colours(self.config, None, of_images)

    def build(self, *, classes: int, colours: int, size: tuple[int, int]) -> nn.Module:
        """Return the architecture with random weights."""
        self.refuse_options()
        outputs, width = self.config.outputs or classes, self.config.width
        if self.config.architecture == "resnet18":
            return resnet18(colours=colours, outputs=outputs, width=width)
        return TwoBlockCNN(colours=colours, outputs=outputs, size=size, width=width)
