"""The model that a training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.models.frozen_modules import head_name
from activarium.tasks.models.model_sources import seeded
from activarium.tasks.models.model_weights import fill, load_weights
from activarium.tasks.models.models import load_own, load_start, model_source

if TYPE_CHECKING:
    from torch import nn

    from activarium.schemas.config import ModelConfig, TrainingConfig
    from activarium.tasks.models.model_sources import ModelSource


def initial_source(config: ModelConfig, training: TrainingConfig) -> ModelSource | None:
    """Return the source of the weights that a training starts from, where it brings them by name.

    Parameters
    ----------
    config
        The model that is trained.
    training
        Its training; None is returned where `initial_weights` is a file or not set.
    """
    if training.initial_weights is None or Path(training.initial_weights).is_file():
        return None
    source = model_source(config.model_copy(update={"weights": training.initial_weights}))
    if source.own_weights is None:
        raise UserError(
            f"training.initial_weights: expected a file{source.offers}, got "
            f"{training.initial_weights!r}, and there is no such file"
        )
    return source


def load_training_start(  # noqa: PLR0913 - what a model is built for, and how it starts
    source: ModelSource,
    config: ModelConfig,
    training: TrainingConfig,
    *,
    classes: int,
    colours: int,
    size: tuple[int, int],
) -> nn.Module:
    """Return the model at its start, or with the weights that its training starts from.

    Parameters
    ----------
    source
        Source of the untrained model.
    config
        The model.
    training
        `initial_weights`, and whether the head is drawn anew: then weights of another number of
        outputs fit too.
    classes, colours, size
        As for `build_model`.

    Returns
    -------
    nn.Module
        In float32 and eval mode, on the CPU.

    Raises
    ------
    UserError
        Where the weights are not there or do not fit the model.
    """
    model = load_start(source, classes=classes, colours=colours, size=size).model
    head = head_name(model) if training.train_only == "head" else ""
    own = initial_source(config, training)
    if own is not None:
        state = load_own(own).model.state_dict()
        fill(model, state, origin=f"training.initial_weights {own.own_weights}", except_module=head)
    elif training.initial_weights is not None:
        load_weights(
            model, Path(training.initial_weights), except_module=head, key=config.weights_key
        )
    if head:
        with seeded(config.seed):
            model.get_submodule(head).reset_parameters()  # type: ignore[operator]
    return model
