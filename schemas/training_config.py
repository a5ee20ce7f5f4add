"""How a model is trained, as a run configures it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from activarium.schemas.settings import MOST_BATCH, MOST_IMAGES, MOST_SEED, Config

Schedule = Literal["cosine", "constant"]

_LATER = ("limit", "checkpoint_steps", "schedule", "frozen", "train_only")
"""Settings that trainings begun before them did not note; at their defaults they change nothing."""

_ELSEWHERE = ("initial_weights", "on_divergence")
"""Settings that are no part of a training's identity: its first weights are, and what is done at a
divergence changes no step before it."""


class TrainingConfig(Config):
    """SGD with momentum; one checkpoint per epoch, and more where that is asked."""

    split: str = "train"
    """Split to train on."""
    limit: int | None = Field(default=None, ge=2, le=MOST_IMAGES)
    """Train on this many images only, spread evenly over the split."""
    epochs: int = Field(default=15, ge=1, le=100_000)
    """Passes over the training images."""
    batch_size: int = Field(default=128, ge=1, le=MOST_BATCH)
    """Images per step."""
    learning_rate: float = Field(default=0.05, gt=0, le=1e6)
    """Learning rate, at the start of the cosine or throughout."""
    schedule: Schedule = "cosine"
    """cosine: from the learning rate to 0 along half a cosine; constant: the same at every step."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(default=5e-4, ge=0, le=1e6)
    """L2 penalty."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the order, the augmentation and dropout."""
    crop: int = Field(default=0, ge=0, le=1_024)
    """Random crop after padding by this many pixels on each side; 0 for none."""
    flip: bool = False
    """Mirror half of the images."""
    checkpoint_steps: int | None = Field(default=None, ge=1, le=MOST_IMAGES)
    """A checkpoint every so many steps too, before the first and after the last, beside those of
    the epochs."""
    initial_weights: str | None = None
    """Weights to start from: a file, or the name of weights that the model's source brings, such as
    DEFAULT; by default the model at its start, from model.seed."""
    frozen: Annotated[tuple[str, ...], Field(max_length=1_000)] = ()
    """Globs of modules that are not trained, with all that is in them: their weights stay, and their
    batch norms keep their statistics."""
    train_only: Literal["head"] | None = None
    """head: the last linear layer is drawn anew (from model.seed) and trained, all else is frozen."""
    on_divergence: Literal["stop", "continue"] = "stop"
    """When the loss is no longer finite. stop: end with an error, earlier checkpoints are kept;
    continue: take all steps and leave all checkpoints, broken as they are."""

    @model_validator(mode="after")
    def _head_is_alone(self) -> TrainingConfig:
        if self.train_only is not None and self.frozen:
            msg = "train_only: head freezes all other modules: leave frozen out"
            raise ValueError(msg)
        return self

    def identity(self) -> dict[str, Any]:
        """Return what tells this training from others, beside its model and images."""
        settings = self.model_dump(mode="json", exclude={*_ELSEWHERE})
        fields = type(self).model_fields
        return {
            name: value
            for name, value in settings.items()
            if name not in _LATER or getattr(self, name) != fields[name].default
        }
