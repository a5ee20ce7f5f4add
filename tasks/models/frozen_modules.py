"""Which modules of a model a training leaves as they are."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from activarium.schemas.training_config import TrainingConfig


def head_name(model: nn.Module) -> str:
    """Return the name of a model's last linear layer.

    Raises
    ------
    UserError
        Where it has none.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UserError(
            "training.train_only: head is the last linear layer, and the model has none; name the "
            "modules that are not trained in training.frozen"
        )
    return str(names[-1])


def _is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def frozen_modules(model: nn.Module, config: TrainingConfig) -> frozenset[str]:
    """Return the names of the modules that are not trained, with all that is in them.

    Parameters
    ----------
    model
        The model; its own name is empty.
    config
        `frozen` or `train_only`.

    Raises
    ------
    UserError
        Where a pattern matches no module, or there is no head.
    """
    names = [name for name, _ in model.named_modules()]
    if config.train_only == "head":
        head = head_name(model)
        return frozenset(name for name in names if not _is_within(name, head))
    matching: set[str] = set()
    for pattern in config.frozen:
        found = {name for name in names if name and fnmatchcase(name, pattern)}
        if not found:
            known = ", ".join(name for name, _ in model.named_children())
            raise UserError(
                f"training.frozen: no module matches {pattern!r}; the model's outermost are {known}"
            )
        matching |= found
    return frozenset(name for name in names if any(_is_within(name, each) for each in matching))


def freeze(model: nn.Module, frozen: frozenset[str]) -> list[nn.Parameter]:
    """Let frozen modules have no gradient, all others one; return the parameters that are trained.

    Raises
    ------
    UserError
        Where nothing is left to train.
    """
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(name not in frozen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("training.frozen: every parameter is frozen, nothing is left to train")
    return trained


def set_training(model: nn.Module, frozen: frozenset[str]) -> None:
    """Put a model into training mode, but for its frozen modules: they stay in evaluation mode."""
    model.train()
    for name, module in model.named_modules():
        if name in frozen:
            module.training = False
