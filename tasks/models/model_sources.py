"""Where a model comes from: what every source of models can tell and do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.models.model_weights import draw_anew

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from activarium.schemas.config import ModelConfig, PreprocessingConfig

DEFAULT = "DEFAULT"
"""Configured for the weights that a source brings."""

RESTARTED = "restarted"
"""Configured for a ready model whose weights are all drawn anew."""

IMAGE_COLOURS = (1, 3)
"""Colours that images can have as inputs: grey, and red, green and blue."""


class ModelSource(ABC):
    """A source of models, asked about one configured model.

    Weights of its own are those that it brings by a name, such as a library's pretrained ones.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in the atlas, where none is configured."""

    @property
    def architecture(self) -> str:
        """The architecture as recordings note it, wherever its file may lie."""
        return self.config.architecture

    @property
    def own_weights(self) -> str | None:
        """Name of the configured weights, where the source brings them itself, else None."""
        return None

    @property
    def offers(self) -> str:
        """What model.weights may be, beside a file, trained and untrained."""
        return ""

    @property
    def preprocessing(self) -> PreprocessingConfig | None:
        """The preprocessing that belongs to the model, None where there is none."""
        return None

    @property
    def definition(self) -> str:
        """Checksum of what decides the output beside architecture and weights; empty for none."""
        return fingerprint({"options": self.config.options}) if self.config.options else ""

    @abstractmethod
    def colours(self, of_images: int) -> int:
        """Return the channels of the input, for a test set of images of so many colours."""

    @abstractmethod
    def build(self, *, classes: int, colours: int, size: tuple[int, int]) -> nn.Module:
        """Return a model at its start; the caller has set the seed.

        Parameters
        ----------
        classes
            Number of classes of the test set.
        colours
            Channels of the input.
        size
            Height and width of the input, in pixels.
        """

    def load(self) -> nn.Module:
        """Return the model with the weights that the source brings."""
        raise UserError(
            f"model.weights {self.config.weights!r} names weights that {self.config.architecture} "
            f"does not bring; it takes a file, trained{self.offers} or untrained"
        )

    def control(self) -> dict[str, object]:
        """Return what to change in the configuration for the same model at its start."""
        return {"weights": "untrained", "checkpoint": None}

    def refuse_options(self) -> None:
        """Say that there is no function that could take `model.options`."""
        if self.config.options:
            raise UserError(
                f"model.options are keyword arguments of a model's function; "
                f"{self.config.architecture} takes none: leave them out"
            )


class ReadyModelSource(ModelSource):
    """A source that gives a model with its weights, not an architecture to be filled."""

    def load(self) -> nn.Module:
        """Return the model as the source gives it, or with all weights drawn anew."""
        model = self.build(classes=0, colours=0, size=(0, 0))
        if self.config.weights == RESTARTED:
            draw_anew(model, self.config.seed)
        return model


def refuse_settings_in_options(config: ModelConfig, settings: Mapping[str, str]) -> None:
    """Say which setting gives an argument that `model.options` names.

    Parameters
    ----------
    config
        The model.
    settings
        The setting that decides each argument, by the argument's name.

    Raises
    ------
    UserError
        If one of them is among the options.
    """
    for argument, setting in settings.items():
        if argument in config.options:
            raise UserError(
                f"model.options: {argument} of {config.architecture} is given by {setting}, got "
                f"{config.options[argument]!r}: set that, and leave {argument} out of the options"
            )


def size_in_options(config: ModelConfig, argument: str) -> tuple[int, int] | None:
    """Return height and width of the images where `model.options` give them, None where not.

    Raises
    ------
    UserError
        If they are no size.
    """
    given = config.options.get(argument)
    sides = given if isinstance(given, list) else [given, given]
    if given is None:
        return None
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(
            f"model.options: {argument} of {config.architecture}: expected pixels, such as 224, or "
            f"height and width, got {given!r}"
        )
    height, width = sides
    return int(str(height)), int(str(width))


def require_size(config: ModelConfig, argument: str, size: tuple[int, int]) -> None:
    """Check that a size in `model.options` is that of the images.

    Raises
    ------
    UserError
        If it is another.
    """
    given = size_in_options(config, argument)
    if given not in (None, size):
        raise UserError(
            f"model.options: {argument} of {config.architecture} is {config.options[argument]!r}, but "
            f"the images are {size[0]}x{size[1]} pixels: set preprocessing.size, which gives both"
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights from a seed, also on a GPU, leaving the global random state alone."""
    # A GPU that nobody has used yet is not woken to keep its state: there is none to lose.
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    used = range(torch.cuda.device_count()) if is_used else ()
    with torch.random.fork_rng(devices=used):
        torch.manual_seed(seed)
        yield


def agreed_colours(config: ModelConfig, taken: int | None, of_images: int) -> int:
    """Return the channels of the input: what the model takes, else as configured or as the images.

    Parameters
    ----------
    config
        The model, and the colours that are configured for it.
    taken
        Channels that the model takes, None where that is not known.
    of_images
        Colours of the test set's images.

    Raises
    ------
    UserError
        If the model takes neither 1 nor 3 channels, or others than configured.
    """
    if taken is None:
        return config.colours or of_images
    if taken not in IMAGE_COLOURS:
        raise UserError(
            f"{config.architecture} takes images of {taken} channels; images have 1 or 3 colours"
        )
    if config.colours not in (None, taken):
        hint = ", grey images are given to all three" if taken == 3 else ""
        raise UserError(
            f"model.colours: {config.architecture} takes {taken} colours, got {config.colours}; "
            f"leave the setting out{hint}"
        )
    return taken
