"""Models that answer otherwise to the same image are refused, or recorded and noted."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from activarium.schemas.errors import UserError
from activarium.schemas.layers import KINDS
from activarium.tasks.capture.layers import Reading, find_layers

EVERY_TIME = "gives other answers to the same images in every pass"
IN_COMPANY = "gives other answers to an image in other company"


class Plain(nn.Module):
    """A convolution, something in between, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.norm = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.BatchNorm2d(8)
        self.calls = 0

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Change the maps."""
        return maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.between(self.conv(images)).mean((2, 3)))


class DropoutOn(Plain):
    """Dropout that is not told to stop."""

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Drop half."""
        return functional.dropout(maps)


class Noise(Plain):
    """A little noise."""

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Add it."""
        return maps + 0.01 * torch.randn_like(maps)


class MonteCarlo(Plain):
    """A module that trains although the model evaluates."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def train(self, mode=True) -> nn.Module:  # noqa: FBT002 - as torch has it
        """Leave the dropout on."""
        super().train(mode)
        self.drop.training = True
        return self

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Drop some."""
        return self.drop(maps)


class Counter(Plain):
    """Counts its calls."""

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Grow with every call."""
        self.calls += 1
        return maps * self.calls


class BatchStatistics(Plain):
    """A batch norm without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Normalise over the batch."""
        return self.norm(maps) * maps


class Centred(Plain):
    """Takes the mean of the batch away."""

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Centre."""
        return maps - maps.mean(0, keepdim=True) * 0.5


class ByPlace(Plain):
    """Treats the images of a batch otherwise by their places."""

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Scale by the place."""
        return maps * torch.arange(1.0, len(maps) + 1).view(-1, 1, 1, 1)


MODELS = {
    DropoutOn: EVERY_TIME,
    Noise: EVERY_TIME,
    MonteCarlo: EVERY_TIME,
    Counter: EVERY_TIME,
    BatchStatistics: IN_COMPANY,
    Centred: IN_COMPANY,
    ByPlace: IN_COMPANY,
}
EXAMPLE = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", MODELS)
def test_image_alone__other_answers_to_one_image_are_refused(kind):
    with pytest.raises(UserError, match=MODELS[kind]) as caught:
        find_layers(kind().eval(), EXAMPLE, patterns=["*"], kinds=KINDS)
    assert "record.allow_random" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", MODELS)
def test_image_alone__allowed_they_are_noted(kind):
    found = find_layers(
        kind().eval(),
        EXAMPLE,
        patterns=["*"],
        kinds=KINDS,
        reading=Reading(allow_random=True),
    )
    assert "fc" in found.mixed
    assert "the model's output" in found.mixed
    assert "conv" not in found.mixed
    assert found.notes[-1].endswith("recorded although not of each image alone")
    assert {"conv", "fc"} <= {layer.name for layer in found.layers}


def test_image_alone__other_models_are_not_suspected():
    found = find_layers(Plain().eval(), EXAMPLE, patterns=["*"], kinds=KINDS)
    assert (found.mixed, found.notes) == ((), [])


class LastBits(Plain):
    """Differs in its last bits from pass to pass, as sums of a GPU may."""

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Add what rounding would."""
        return maps * torch.empty_like(maps).normal_(1, 1e-6)


def test_image_alone__last_bits_are_no_other_answer():
    found = find_layers(LastBits().eval(), EXAMPLE, patterns=["*"], kinds=KINDS)
    assert (found.mixed, found.left_out) == ((), {})


class Switches(Plain):
    """Notes how products are computed while it runs."""

    def between(self, maps: torch.Tensor) -> torch.Tensor:
        """Note the switches."""
        cudnn = torch.backends.cudnn
        self.seen = (cudnn.benchmark, cudnn.deterministic)
        return maps


def test_image_alone__the_trial_computes_the_same_way_every_time_and_leaves_switches(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    model = Switches().eval()
    find_layers(model, EXAMPLE, patterns=["*"], kinds=KINDS)
    assert model.seen == (False, True)
    cudnn = torch.backends.cudnn
    assert (cudnn.benchmark, cudnn.deterministic) == (True, False)


def test_image_alone__a_forward_without_a_count_of_changes_has_layers():
    model = Plain().eval()
    model.forward = torch.inference_mode()(model.forward)
    found = find_layers(model, EXAMPLE, patterns=["*"], kinds=KINDS)
    assert {"conv", "fc"} <= {layer.name for layer in found.layers}


def test_image_alone__a_blank_example_hides_nothing():
    with pytest.raises(UserError, match=IN_COMPANY):
        find_layers(Centred().eval(), torch.zeros(1, 3, 9, 9), patterns=["*"], kinds=KINDS)
