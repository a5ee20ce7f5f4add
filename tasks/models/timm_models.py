"""timm's models as a source of models, where timm is installed."""

from __future__ import annotations

import math
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.entry_points import one_line
from activarium.tasks.models.model_sources import (
    DEFAULT,
    ModelSource,
    agreed_colours,
    refuse_settings_in_options,
    require_size,
    seeded,
    size_in_options,
)

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm:"
COLOURS = 3
SETTINGS = {
    "num_classes": "model.outputs",
    "in_chans": "model.colours",
    "pretrained": "model.weights",
    "checkpoint_path": "model.weights",
    "model_name": "model.architecture",
}
"""Arguments of timm's function that settings decide."""

SIZE = "img_size"
"""Argument of timm's models that are made for one size of image."""

_OF_OPTIONS = (TypeError, AttributeError, AssertionError)
"""What constructors raise that get arguments which they do not take."""

USUAL_CROP = 0.875
"""Share of the resized side that timm crops where the configuration does not say."""


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            "model.architecture: timm's models need timm, which is not installed: "
            "pip install 'activarium[timm]'"
        ) from error
    return timm


def _source_and_cache(settings: Any) -> tuple[str, str]:
    """Return where weights are fetched from, and where timm looks for them before."""
    if settings.hf_hub_id:
        from huggingface_hub import constants

        hub, name = settings.hf_hub_id, settings.hf_hub_filename or "model.safetensors"
        folder = f"models--{hub.replace('/', '--')}"
        return (
            f"{name} of the repository {hub} of the Hugging Face Hub, with `hf download "
            f"{hub}`, which makes the folder {folder} in its cache",
            f"{constants.HF_HUB_CACHE} (HF_HUB_CACHE) as that whole folder",
        )
    return str(settings.url), str(Path(torch.hub.get_dir()) / "checkpoints")


class TimmModel(ModelSource):
    """One of timm's models, as `timm:<name>` or `timm:<name>.<tag>`.

    Its preprocessing is the one of timm's configuration for the tag, or for the model's default
    tag, whatever the weights.
    """

    @cached_property
    def _parts(self) -> tuple[str, str]:
        """Name and tag of the configured model; the tag is empty where none is named."""
        timm = _timm()
        full = self.config.architecture.removeprefix(PREFIX)
        base, _, tag = full.partition(".")
        if not timm.is_model(base):
            close = get_close_matches(base.lower(), timm.list_models(), n=3)
            meant = f"did you mean {', '.join(PREFIX + name for name in close)}?"
            raise UserError(
                f"timm {timm.__version__} has no model {base!r}; "
                f"{meant if close else 'timm.list_models() names them'}"
            )
        if tag and tag not in self._tags(base):
            tags = ", ".join(self._tags(base)) or "none"
            raise UserError(f"timm has no weights {tag!r} of {base}; it has {tags}")
        return base, tag

    def _tags(self, base: str) -> list[str]:
        found = _timm().list_pretrained(f"{base}.*")
        return [name.partition(".")[2] for name in found]

    @cached_property
    def _full_name(self) -> str:
        """Name and tag of the weights that are meant; the name alone for the default tag."""
        base, tag = self._parts
        weights = self.config.weights
        tag = weights if weights in self._tags(base) else tag
        return f"{base}.{tag}" if tag else base

    @cached_property
    def _settings(self) -> Any:
        return _timm().get_pretrained_cfg(self._full_name)

    @property
    def name(self) -> str:
        """The name that timm has for it, without the tag."""
        return f"timm-{self._parts[0]}"

    @property
    def own_weights(self) -> str | None:
        """The tag of the weights."""
        base, _ = self._parts
        tags = self._tags(base)
        if self.config.weights not in (DEFAULT, *tags):
            return None
        if not tags:
            raise UserError(
                f"timm has no weights of {base}; set model.weights to untrained or a file"
            )
        return str(self._settings.tag or DEFAULT.lower())

    @property
    def offers(self) -> str:
        """The tags of the model's weights."""
        tags = self._tags(self._parts[0])
        return f", DEFAULT, timm's weights by tag ({', '.join(tags)})" if tags else ""

    @property
    def preprocessing(self) -> PreprocessingConfig | None:
        """The preprocessing of timm's configuration.

        Raises
        ------
        UserError
            If it pads images, or crops them to a rectangle.
        """
        settings = self._settings
        height, width = size_in_options(self.config, SIZE) or settings.input_size[1:]
        if settings.crop_mode == "border" or height != width:
            raise UserError(
                f"timm's {self._full_name} pads images or crops them to {height}x{width} pixels; "
                "only square crops are supported: choose another model"
            )
        return PreprocessingConfig(
            resize=math.floor(height / (settings.crop_pct or USUAL_CROP)),
            size=height,
            squash=settings.crop_mode == "squash",
            interpolation=settings.interpolation,
            mean=tuple(settings.mean),
            sd=tuple(settings.std),
        )

    def colours(self, of_images: int) -> int:
        """Return the configured colours, else 3: timm's first layers adapt to grey images."""
        del of_images
        return agreed_colours(self.config, None, COLOURS)

    def _create(self, *, colours: int, **options: Any) -> nn.Module:
        timm = _timm()
        refuse_settings_in_options(self.config, SETTINGS)
        arguments = {"in_chans": colours, **options, **self.config.options}
        try:
            model: nn.Module = timm.create_model(self._full_name, **arguments)
        except Exception as error:  # constructors and downloads raise what they like
            if arguments["pretrained"] and not isinstance(error, _OF_OPTIONS):
                raise self._not_downloaded(error) from error
            raise UserError(f"timm could not make {self._full_name}: {one_line(error)}") from error
        return model

    def _not_downloaded(self, error: Exception) -> UserError:
        """Return what to do where weights cannot be fetched: which file goes where."""
        settings = self._settings
        source, cache = _source_and_cache(settings)
        return UserError(
            f"could not download or read timm's weights of {self._full_name} ({one_line(error)}); "
            f"where there is a network, fetch {source}; here, put it into {cache}, or name the file "
            f"of weights in model.weights, with model.outputs={settings.num_classes}"
        )

    def build(self, *, classes: int, colours: int, size: tuple[int, int]) -> nn.Module:
        """Return timm's model with random weights."""
        require_size(self.config, SIZE, size)
        sized = {SIZE: size} if self._settings.fixed_input_size else {}
        outputs = self.config.outputs or classes
        return self._create(colours=colours, pretrained=False, num_classes=outputs, **sized)

    def load(self) -> nn.Module:
        """Return the pretrained model, downloading its weights where they are not cached."""
        outputs = self._settings.num_classes
        if self.config.outputs not in (None, outputs):
            raise UserError(
                f"timm's weights {self._full_name} have {outputs} outputs, model.outputs asks for "
                f"{self.config.outputs}"
            )
        with seeded(self.config.seed):
            return self._create(colours=self.config.colours or COLOURS, pretrained=True)

    def control(self) -> dict[str, object]:
        """Return the changes for the model at its start, with the same outputs."""
        outputs = self._settings.num_classes if self.own_weights else None
        return {**super().control(), "outputs": self.config.outputs or outputs}
