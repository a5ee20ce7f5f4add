"""Models by configuration: which source they come from, their names, and loading them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.device_errors import first_line, is_out_of_memory
from activarium.tasks.entry_points import is_entry_point, one_line
from activarium.tasks.models import export_models, timm_models
from activarium.tasks.models.entry_point_models import EntryPointModel
from activarium.tasks.models.export_models import ExportedModelFile
from activarium.tasks.models.model_sources import seeded
from activarium.tasks.models.model_weights import conversion_notes, load_weights
from activarium.tasks.models.own_models import OWN, OwnModel
from activarium.tasks.models.timm_models import TimmModel
from activarium.tasks.models.torchvision_models import (
    PREFIX,
    TorchvisionModel,
    refuse_input_transform,
    torchvision_name,
    torchvision_names,
)
from activarium.tasks.models.weights_notes import quantisation_notes
from activarium.tasks.processes import usable_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from activarium.schemas.config import ModelConfig
    from activarium.tasks.models.model_sources import ModelSource


WEIGHTS_HELD = 3
"""Times that weights lie in memory at once: as made, as placed, and as folded in the graph."""
TOO_LARGE = re.compile(r"overflow|too large|out of range|exceeds", re.IGNORECASE)
"""What torch says of sizes that no machine has."""
SMALLER = "use a smaller model.width, model.outputs or model.options"


def model_source(config: ModelConfig) -> ModelSource:
    """Return the source of the configured model.

    Raises
    ------
    UserError
        Where no source has the architecture.
    """
    name = config.architecture
    source: ModelSource
    if name not in OWN and torchvision_name(name) is not None:
        return TorchvisionModel(config)
    if name in OWN:
        source = OwnModel(config)
    elif name.startswith(timm_models.PREFIX):
        source = TimmModel(config)
    elif name.startswith(export_models.PREFIX):
        source = ExportedModelFile(config)
    elif is_entry_point(name) and not name.startswith(PREFIX):
        source = EntryPointModel(config)
    else:
        raise _unknown(name)
    refuse_input_transform(name, asked=config.transform_input)
    return source


def _unknown(architecture: str) -> UserError:
    if Path(architecture).suffix == ".pt2":
        return UserError(f"model.architecture: a torch.export file is named export:{architecture}")
    name = architecture.removeprefix(PREFIX)
    close = get_close_matches(name.lower(), [*OWN, *torchvision_names()], n=3) or list(OWN)
    return UserError(
        f"unknown model.architecture {architecture!r}; did you mean {', '.join(close)}? known are "
        f"{', '.join(OWN)}, torchvision's classification and segmentation models, timm:<name>, "
        "export:<file> and package.module:function"
    )


def model_name(source: ModelSource) -> str:
    """Return the model's name in the atlas: the configured one, or the source's."""
    return source.config.name or source.name


def checkpoint_name(source: ModelSource) -> str:
    """Return the name of the model's state: configured, untrained, file stem or weights' name.

    Raises
    ------
    UserError
        For `trained` weights: the training names its checkpoints itself.
    """
    config = source.config
    if config.checkpoint is not None:
        return config.checkpoint
    if config.weights == "trained":
        raise UserError("model.weights 'trained' has no checkpoint name before it is trained")
    if config.weights == "untrained":
        return config.weights
    return source.own_weights or Path(config.weights).stem


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights, in float32 and eval mode, on the CPU."""

    model: nn.Module
    notes: tuple[str, ...] = ()
    """What there is to say about it, a line each."""


def build_model(
    config: ModelConfig, *, classes: int, colours: int, size: tuple[int, int]
) -> nn.Module:
    """Return a model at its start, from its seed, leaving the global random state alone.

    Parameters
    ----------
    config
        Architecture, width, seed, and the number of outputs where it is not `classes`.
    classes
        Number of classes of the test set.
    colours
        Channels of the input.
    size
        Height and width of the input, in pixels.

    Returns
    -------
    nn.Module
        In float32 and eval mode, on the CPU.

    Raises
    ------
    UserError
        Where the architecture is unknown or does not take images of this size.
    """
    return load_start(model_source(config), classes=classes, colours=colours, size=size).model


def load_start(
    source: ModelSource, *, classes: int, colours: int, size: tuple[int, int]
) -> LoadedModel:
    """Return the model at its start; arguments as for `build_model`."""
    build = partial(source.build, classes=classes, colours=colours, size=size)
    if isinstance(source, OwnModel | TorchvisionModel):
        _check_size(source.config, build)
    with seeded(source.config.seed):
        try:
            model = build()
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, OverflowError):
                what = f"does not fit into memory ({first_line(error)}): {SMALLER}"
            elif source.config.options:
                what = f"cannot be built with these model.options: {one_line(error)}"
            else:
                raise
            raise UserError(f"{source.config.architecture} {what}") from error
    return _ready(model)


def _check_size(config: ModelConfig, build: Callable[[], nn.Module]) -> None:
    """Refuse a model whose weights take more memory than is free, before they are made.

    Raises
    ------
    UserError
        If they do, or no memory could hold them.
    """
    try:
        with seeded(config.seed), torch.device("meta"):
            model = build()
        size = sum(each.numel() * each.element_size() for each in model.parameters())
    except UserError:
        raise
    except (RuntimeError, OverflowError) as error:
        if TOO_LARGE.search(str(error)):
            raise UserError(f"{config.architecture} does not fit into memory: {SMALLER}") from error
        return  # what cannot be built without values is built with them
    except Exception:  # noqa: BLE001 - likewise
        return
    free = usable_memory()
    if free is not None and WEIGHTS_HELD * size > free:
        raise UserError(
            f"{config.architecture} takes {WEIGHTS_HELD * size / 2**30:,.1f} GiB of memory, "
            f"{math.floor(free / 2**30 * 10) / 10:,.1f} GiB are free: {SMALLER}"
        )


def load_own(source: ModelSource) -> LoadedModel:
    """Return the model with the weights that its source brings.

    Raises
    ------
    UserError
        Where there are no such weights, they have another number of outputs than asked for, or a
        download fails.
    """
    return _ready(source.load())


def load_from_file(
    source: ModelSource, path: Path, *, classes: int, colours: int, size: tuple[int, int]
) -> LoadedModel:
    """Return the model with the weights of a file; other arguments as for `build_model`.

    Raises
    ------
    UserError
        Where the weights do not fit the model.
    """
    model = load_start(source, classes=classes, colours=colours, size=size).model
    return LoadedModel(model, load_weights(model, path, key=source.config.weights_key))


def _ready(model: nn.Module) -> LoadedModel:
    entries = model.state_dict().values()
    notes = conversion_notes(each.dtype for each in entries if isinstance(each, torch.Tensor))
    return LoadedModel(model.float().eval().cpu(), (*notes, *quantisation_notes(model)))
