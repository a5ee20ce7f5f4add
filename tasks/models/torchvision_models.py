"""torchvision's classification and segmentation models as a source of models."""

from __future__ import annotations

import pickle
import re
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.model_sources import (
    ModelSource,
    agreed_colours,
    refuse_settings_in_options,
    require_size,
    seeded,
)
from activarium.tasks.models.own_models import OWN
from activarium.tasks.models.weights_fit import AUXILIARY

if TYPE_CHECKING:
    from torch import nn

PREFIX = "torchvision:"
TRANSFORMING = ("googlenet", "inception_v3")
"""Models that can normalise their input once more; their state dict does not tell."""

COLOURS = 3

SETTINGS = {
    "num_classes": "model.outputs",
    "weights": "model.weights",
    "pretrained": "model.weights",
    "transform_input": "model.transform_input",
    "name": "model.architecture",
}
"""Arguments of torchvision's functions that settings decide."""


def _models() -> Any:
    # Brings in torch's compiler: more than a second that models of other sources do without.
    import torchvision

    return torchvision.models


def torchvision_names() -> list[str]:
    """Return the names of torchvision's models that take images and return values or maps."""
    models = _models()
    parts = (models, models.segmentation)
    return [name for part in parts for name in models.list_models(module=part)]


def torchvision_name(architecture: str) -> str | None:
    """Return the name of torchvision's model, None where it has no such model.

    The prefix `torchvision:` may be there, and a segmentation model may be named by its module,
    such as `segmentation/fcn_resnet50`.
    """
    name = architecture.removeprefix(PREFIX).removeprefix("segmentation/")
    return name if name in torchvision_names() else None


class TorchvisionModel(ModelSource):
    """One of torchvision's models."""

    @cached_property
    def _name(self) -> str:
        name = torchvision_name(self.config.architecture)
        if name is None:
            raise UserError(f"torchvision has no model {self.config.architecture!r}")
        return name

    @cached_property
    def _entry(self) -> Any:
        """The entry of torchvision's weights, None where the configured weights are no such name."""
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", self.config.weights):
            return None
        entries = _models().get_model_weights(self._name).__members__
        if self.config.weights not in entries:
            raise UserError(
                f"{self._name} has no pretrained weights {self.config.weights!r}; it has "
                f"{', '.join(entries)}"
            )
        return entries[self.config.weights]

    @property
    def _is_segmentation(self) -> bool:
        return self._name in _models().list_models(module=_models().segmentation)

    @property
    def name(self) -> str:
        """The name that torchvision has for it, with a prefix where we have a model of that name."""
        return f"torchvision-{self._name}" if self._name in OWN else self._name

    @property
    def own_weights(self) -> str | None:
        """Name of torchvision's weights, in small letters."""
        return None if self._entry is None else str(self._entry.name).lower()

    @property
    def offers(self) -> str:
        """The names of torchvision's weights."""
        names = _models().get_model_weights(self._name).__members__
        return f", torchvision's weights by name ({', '.join(names)})" if names else ""

    @property
    def preprocessing(self) -> PreprocessingConfig | None:
        """The preprocessing that torchvision's weights were measured with."""
        if self._entry is None:
            return None
        preset = self._entry.transforms()
        resize = preset.resize_size[0]
        return PreprocessingConfig(
            resize=resize,
            size=preset.crop_size[0] if hasattr(preset, "crop_size") else resize,
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            sd=tuple(preset.std),
        )

    def colours(self, of_images: int) -> int:
        """Return 3."""
        return agreed_colours(self.config, COLOURS, of_images)

    def _outputs(self) -> int | None:
        return None if self._entry is None else len(self._entry.meta["categories"])

    def _transforms_input(self) -> bool:
        """Tell whether the model normalises its input once more: as configured, else if pretrained.

        Raises
        ------
        UserError
            Where it is asked of a model that cannot.
        """
        if self._name in TRANSFORMING:
            chosen = self.config.transform_input
            return self._entry is not None if chosen is None else chosen
        refuse_input_transform(self.config.architecture, asked=self.config.transform_input)
        return False

    def build(self, *, classes: int, colours: int, size: tuple[int, int]) -> nn.Module:
        """Return torchvision's model with random weights."""
        del colours
        refuse_settings_in_options(self.config, SETTINGS)
        for argument in ("image_size", "input_size"):
            require_size(self.config, argument, size)
        options = self._size_options(size) | dict(self.config.options)
        outputs = self.config.outputs or self._outputs() or classes
        try:
            model: nn.Module = _models().get_model(
                self._name, weights=None, num_classes=outputs, **options
            )
        except (AssertionError, ValueError) as error:
            raise UserError(
                f"{self._name} cannot be built for images of {size[0]}x{size[1]} pixels: {error}; "
                "set preprocessing.size"
            ) from error
        except TypeError as error:
            raise UserError(f"model.options of {self._name}: {error}") from error
        return model

    def _size_options(self, size: tuple[int, int]) -> dict[str, Any]:
        """Return the constructor's arguments that only some architectures take."""
        transform = self._transforms_input()
        if self._name in TRANSFORMING:
            return {"aux_logits": False, "init_weights": True, "transform_input": transform}
        if self._is_segmentation:
            return {"weights_backbone": None}
        if self._name.startswith("vit_"):
            return {"image_size": size[0]}
        return {"input_size": size} if self._name.startswith("maxvit") else {}

    def load(self) -> nn.Module:
        """Return the pretrained model, downloading its weights where they are not cached."""
        entry, outputs = self._entry, self._outputs()
        refuse_settings_in_options(self.config, SETTINGS)
        if self.config.outputs not in (None, outputs):
            raise UserError(
                f"{entry} has {outputs} outputs, model.outputs asks for {self.config.outputs}"
            )
        transform = self._transforms_input()
        options = {"transform_input": transform} if self._name in TRANSFORMING else {}
        try:
            with seeded(self.config.seed):
                model: nn.Module = _models().get_model(
                    self._name, weights=entry, progress=False, **options, **self.config.options
                )
        except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(
                f"could not download or read {entry} ({error}); fetch {entry.url} where there is a "
                f"network and put it into {Path(torch.hub.get_dir()) / 'checkpoints'}, or name the "
                "file in model.weights"
            ) from error
        except (TypeError, ValueError) as error:
            raise UserError(f"model.options of {self._name}: {error}") from error
        _remove_auxiliary_heads(model)
        return model

    def control(self) -> dict[str, object]:
        """Return the changes for the architecture at its start, with the same outputs."""
        outputs = self.config.outputs or self._outputs()
        transform = self._transforms_input()
        return {**super().control(), "outputs": outputs, "transform_input": transform}


def _remove_auxiliary_heads(model: nn.Module) -> None:
    for head in AUXILIARY:
        if getattr(model, head, None) is not None:
            setattr(model, head, None)
            if hasattr(model, "aux_logits"):
                model.aux_logits = False  # type: ignore[assignment]


def refuse_input_transform(architecture: str, *, asked: bool | None) -> None:
    """Say that only some models can transform their input, where another one is to."""
    if asked:
        raise UserError(
            f"model.transform_input: expected {' or '.join(TRANSFORMING)}, {architecture!r} "
            "cannot transform its input; leave the setting out"
        )
