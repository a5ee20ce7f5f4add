"""The two architectures of our own: ResNet-18 for small images and a CNN of two blocks."""

from __future__ import annotations

import torch
from torch import nn

from activarium.schemas.errors import UserError

POOLED_TWICE = 4
"""Factor by which two max-pools of 2 shrink height and width."""


def initialise(model: nn.Module) -> None:
    """Set He weights as torchvision's ResNet does; linear layers keep PyTorch's own start.

    Parameters
    ----------
    model
        Changed in place: convolutions are normal with variance 2 / fan-out, batch norms 1 and 0.

    References
    ----------
    He et al. 2015, Delving deep into rectifiers, equation 14.
    """
    for module in model.modules():
        if any(each.is_meta for each in module.parameters(recurse=False)):
            continue  # has no values, and drawing none takes a second
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock  # brings in the compiler: more than a second

    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(outputs),
        )
    return nn.Sequential(
        BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs)
    )


class SmallImageResNet18(nn.Module):
    """ResNet-18 with the CIFAR stem: a 3x3 first convolution of stride 1 and no max-pool.

    Modules and state-dict names are torchvision's. torchvision's class fixes the four widths, so
    only its block is used.

    Parameters
    ----------
    colours
        Channels of the input.
    outputs
        Number of outputs.
    width
        Channels of the first stage; the four stages have w, 2w, 4w and 8w.

    References
    ----------
    He et al. 2016, Deep residual learning for image recognition, section 4.2.
    """

    def __init__(self, *, colours: int = 3, outputs: int = 10, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(colours, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * width, outputs)
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (image, output) of images (image, colour, height, width)."""
        maps = self.relu(self.bn1(self.conv1(images)))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(maps), 1))
        return logits


def resnet18(*, colours: int = 3, outputs: int = 10, width: int = 64) -> SmallImageResNet18:
    """Return an untrained ResNet-18 for small images; see `SmallImageResNet18`."""
    return SmallImageResNet18(colours=colours, outputs=outputs, width=width)


class TwoBlockCNN(nn.Module):
    """Two blocks of convolution, batch norm, ReLU and max-pool, then three linear layers.

    Parameters
    ----------
    colours
        Channels of the input.
    outputs
        Number of outputs.
    size
        Height and width of the input in pixels; they size `fc1`.
    width
        Channels of the first convolution; the second has half as many.

    Raises
    ------
    UserError
        Where an image is smaller than 4 pixels, or the width smaller than 2.
    """

    def __init__(
        self, *, colours: int = 3, outputs: int = 10, size: tuple[int, int], width: int = 64
    ) -> None:
        super().__init__()
        if min(size) < POOLED_TWICE or width < 2:
            raise UserError(
                f"two-block-cnn needs images of at least {POOLED_TWICE}x{POOLED_TWICE} pixels and "
                f"a width of at least 2, got {size[0]}x{size[1]} and width {width}"
            )
        positions = (size[0] // POOLED_TWICE) * (size[1] // POOLED_TWICE)
        self.conv1 = nn.Conv2d(colours, width, kernel_size=5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(width, width // 2, kernel_size=5, padding=2, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(width // 2 * positions, 64)
        self.relu3 = nn.ReLU()
        self.dropout1 = nn.Dropout(0.2)
        self.fc2 = nn.Linear(64, 32)
        self.relu4 = nn.ReLU()
        self.dropout2 = nn.Dropout(0.2)
        self.fc3 = nn.Linear(32, outputs)
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (image, output) of images (image, colour, height, width)."""
        maps = self.pool1(self.relu1(self.bn1(self.conv1(images))))
        maps = self.pool2(self.relu2(self.bn2(self.conv2(maps))))
        features = self.dropout1(self.relu3(self.fc1(torch.flatten(maps, 1))))
        features = self.dropout2(self.relu4(self.fc2(features)))
        logits: torch.Tensor = self.fc3(features)
        return logits
