"""Python functions of the user as a source of models: `package.module:function`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.parameter import is_lazy

from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.schemas.faults import told_faults
from activarium.tasks.entry_points import FOREIGN, load_entry_point, one_line
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.models.model_sources import (
    DEFAULT,
    RESTARTED,
    ReadyModelSource,
    agreed_colours,
    seeded,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIBRARIES = ("torch", "torchvision", "timm")
"""Packages whose code is told by their version, not by its text."""


class EntryPointModel(ReadyModelSource):
    """The model that a function of the user returns, called with `model.options`."""

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return load_entry_point(self.config.architecture, setting="model.architecture")

    @cached_property
    def _model(self) -> nn.Module:
        """The model as the function returns it; asked for its input, and given away once."""
        where = f"model.architecture {self.config.architecture}"
        function = self._function
        try:
            with seeded(self.config.seed):
                found = function(**self.config.options)
        except FOREIGN as error:  # the user's own code runs here
            options = ", ".join(self.config.options) or "none"
            raise UserError(
                f"{where} raised {one_line(error)} (called with model.options: {options})"
            ) from error
        if isinstance(found, torch.jit.ScriptModule):
            raise UserError(
                f"{where} returned a TorchScript module, which is not supported: return the "
                "nn.Module that was scripted"
            )
        if not isinstance(found, nn.Module):
            raise UserError(
                f"{where}: expected a torch.nn.Module to be returned, got {type(found).__name__}"
            )
        for path, parameter in found.named_parameters():
            if is_lazy(parameter) or parameter.is_meta:
                raise UserError(
                    f"{where}: parameter {path!r} of the model has no values yet; run a batch "
                    "through lazy modules, and load weights, before it is returned"
                )
        return _unwrapped(found)

    @property
    def name(self) -> str:
        """Module and function."""
        return self.config.architecture.replace(":", "-")

    @property
    def own_weights(self) -> str | None:
        """Name of the state in which the function returns the model, or restarted."""
        names = {DEFAULT: DEFAULT.lower(), RESTARTED: RESTARTED}
        return names.get(self.config.weights)

    @property
    def offers(self) -> str:
        """What an entry point's weights can be."""
        return ", DEFAULT (as the function returns the model), restarted (all weights drawn anew)"

    @cached_property
    def preprocessing(self) -> PreprocessingConfig | None:
        """What the model's attribute `preprocessing` holds, where that is a mapping."""
        offered = getattr(self._model, "preprocessing", None)
        if not isinstance(offered, Mapping):
            return None
        try:
            return PreprocessingConfig.model_validate(dict(offered))
        except ValidationError as error:
            raise UserError(
                f"the attribute `preprocessing` of the model of {self.config.architecture}: "
                f"{told_faults(PreprocessingConfig, error)}"
            ) from error

    @property
    def definition(self) -> str:
        """Checksum of the options, and of the code of the function and of the model's classes."""
        types = {type(module) for module in self._model.modules()}
        modules = {kind.__module__ for kind in types} | {self._function.__module__}
        return fingerprint({"options": self.config.options, "code": _code_sha256(modules)})

    def colours(self, of_images: int) -> int:
        """Return what the model's first convolution takes, else as configured or as the images."""
        return agreed_colours(self.config, input_channels(self._model), of_images)

    def build(self, *, classes: int, colours: int, size: tuple[int, int]) -> nn.Module:
        """Return the model as the function returns it."""
        del classes, colours, size
        if self.config.outputs is not None:
            raise UserError(
                "model.outputs is no setting of an entry point: give its function an argument for "
                "it, and model.options the value"
            )
        model = self._model
        del self._model
        return model

    def control(self) -> dict[str, object]:
        """Return the changes for the model at its start."""
        weights = RESTARTED if self.own_weights else "untrained"
        return {"weights": weights, "checkpoint": "untrained"}


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside of what `torch.compile` or `nn.DataParallel` made of it."""
    inner = getattr(model, "_orig_mod", None)
    if isinstance(model, nn.DataParallel):
        inner = model.module
    return _unwrapped(inner) if isinstance(inner, nn.Module) else model


def input_channels(model: nn.Module) -> int | None:
    """Return the channels that the model's first convolution takes, None where it has none."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return None


def _code_sha256(modules: set[str]) -> dict[str, str]:
    """Return the checksum of the files of Python modules, but for those of `LIBRARIES`."""
    found = {}
    for name in sorted(modules):
        file = getattr(sys.modules.get(name), "__file__", None)
        if name.partition(".")[0] not in LIBRARIES and file is not None and Path(file).is_file():
            found[name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return found
