"""Checkpoints: from a run's configuration to a model with weights, trained where that is asked."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from activarium.schemas.atlas import Atlas, slug
from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.models import (
    build_model,
    checkpoint_name,
    input_colours,
    is_pretrained,
    load_pretrained,
    load_weights,
    model_name,
    pretrained_classes,
    pretrained_preprocessing,
    transforms_input,
    weights_sha256,
)
from activarium.tasks.preprocessing import normalise, read_images, resolve_preprocessing
from activarium.tasks.progress import silent
from activarium.tasks.record import record, resolve_device
from activarium.tasks.record_plan import ModelIdentity
from activarium.tasks.test_sets import load_test_set
from activarium.tasks.training import train

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from activarium.schemas.config import ModelConfig, RunConfig, TrainingConfig
    from activarium.tasks.preprocessing import Preprocessing
    from activarium.tasks.progress import Progress
    from activarium.tasks.test_sets import TestSet

TRAINING_BYTES = 8 * 2**30
"""Training images are held in memory up to this size."""


@dataclass(frozen=True)
class Images:
    """A test set and how its images become inputs of the configured model."""

    test_set: TestSet
    preprocessing: Preprocessing

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.preprocessing.height, self.preprocessing.width


def load_images(atlas: Atlas, config: RunConfig, *, split: str | None = None) -> Images:
    """Return the configured test set, or another split of it, with the resolved preprocessing.

    What the configuration leaves open follows from pretrained weights, then from the source.
    """
    wanted = config.test_set
    if split is not None:
        wanted = wanted.model_copy(update={"split": split, "limit": None})
    test_set = load_test_set(wanted, datasets=atlas.datasets)
    settings = configured_preprocessing(config)
    colours = input_colours(config.model, test_set.colours)
    resolved = resolve_preprocessing(settings, test_set, source=wanted.source, colours=colours)
    return Images(test_set, resolved)


def configured_preprocessing(config: RunConfig) -> PreprocessingConfig:
    """Return the configured preprocessing, completed by that of pretrained weights.

    Where a size is configured that is larger than the shorter side of the weights' images, that
    side grows by the same ratio as the size.

    Raises
    ------
    UserError
        If the configured shorter side is smaller than the weights' crop, and no size is configured.
    """
    pretrained = pretrained_preprocessing(config.model)
    if pretrained is None:
        return config.preprocessing
    preset = pretrained.model_dump()
    chosen = preset | config.preprocessing.model_dump(exclude_none=True)
    size, resize = chosen["size"], chosen["resize"]
    if resize < size:
        if config.preprocessing.resize is not None:
            raise UserError(
                f"preprocessing.resize: the weights' images are cropped to {size} pixels, got a "
                f"resize to {resize}; set preprocessing.size to {resize} or less"
            )
        chosen["resize"] = round(size * preset["resize"] / preset["size"])
    return PreprocessingConfig.model_validate(chosen)


def _build(config: ModelConfig, images: Images) -> nn.Module:
    return build_model(
        config,
        classes=len(images.test_set.class_names),
        colours=images.preprocessing.colours,
        size=images.size,
    )


def train_checkpoint(
    atlas: Atlas, config: RunConfig, *, progress: Progress = silent
) -> CheckpointReceipt:
    """Train the configured model, unless its last checkpoint is there already.

    Raises
    ------
    UserError
        If there is no training section, the images do not fit in memory, or training diverges.
    """
    if config.training is None:
        raise UserError(f"run {config.name!r} has no `training` section: nothing to train")
    images = load_images(atlas, config, split=config.training.split)
    settings = config.model.model_copy(update={"weights": "untrained"})
    model = _build(settings, images)
    identity = _training_identity(config.training, images, model)
    parts = (model_name(settings), images.test_set.name, fingerprint(identity)[:12])
    folder = atlas.models / "-".join(slug(part) for part in parts)
    last = folder / f"epoch-{config.training.epochs:03d}.safetensors"
    if not last.exists():
        pixels, valid = _all_images(images)
        train(
            model,
            pixels[valid],
            images.test_set.labels[valid],
            normalise=partial(normalise, preprocessing=images.preprocessing),
            config=config.training,
            device=resolve_device(config.record.device),
            folder=folder,
            identity=identity,
            progress=progress,
        )
        made = True
    else:
        made = False
    name = config.model.checkpoint or last.stem
    return CheckpointReceipt(model=model_name(settings), checkpoint=name, path=last, made=made)


def _training_identity(
    training: TrainingConfig, images: Images, model: nn.Module
) -> dict[str, object]:
    return {
        "images_sha256": images.test_set.identity,
        "preprocessing": asdict(images.preprocessing),
        "initial_weights_sha256": weights_sha256(model),
        "model": type(model).__name__,
        "training": training.model_dump(mode="json"),
    }


def _all_images(images: Images) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    test_set, preprocessing = images.test_set, images.preprocessing
    height, width = images.size
    needed = len(test_set) * height * width * preprocessing.colours
    if needed > TRAINING_BYTES:
        raise UserError(
            f"training holds its images in memory: {test_set.name} needs {needed / 2**30:.0f} GiB, "
            f"the limit is {TRAINING_BYTES // 2**30}; set a smaller preprocessing.size, or train "
            "elsewhere and give model.weights a file"
        )
    return read_images(test_set, preprocessing, 0, len(test_set), threads=os.cpu_count() or 1)


def choose_checkpoint(config: ModelConfig) -> CheckpointReceipt:
    """Return the receipt of weights that need no training: a file, pretrained, or untrained."""
    is_file = config.weights != "untrained" and not is_pretrained(config)
    path = Path(config.weights) if is_file else None
    if path is not None and not path.is_file():
        raise UserError(
            f"model.weights: expected a file, trained, untrained or the name of torchvision's "
            f"weights, got {config.weights!r}, and there is no such file"
        )
    return CheckpointReceipt(
        model=model_name(config), checkpoint=checkpoint_name(config), path=path, made=False
    )


def untrained_control(config: RunConfig) -> RunConfig:
    """Return the same run with the same architecture at its start, and the same inputs."""
    classes = pretrained_classes(config.model)
    outputs = config.model.outputs if classes is None else len(classes)
    update = {
        "weights": "untrained",
        "checkpoint": None,
        "outputs": outputs,
        "transform_input": transforms_input(config.model),
    }
    model = config.model.model_copy(update=update)
    inputs = configured_preprocessing(config)
    return config.model_copy(update={"model": model, "preprocessing": inputs})


def load_checkpoint(
    config: ModelConfig, checkpoint: CheckpointReceipt, images: Images
) -> tuple[nn.Module, ModelIdentity]:
    """Return the model with the checkpoint's weights, and its identity.

    Raises
    ------
    UserError
        If the weights do not fit the architecture, or a download fails.
    """
    if checkpoint.path is None and is_pretrained(config):
        model = load_pretrained(config)
    else:
        model = _build(config, images)
        if checkpoint.path is not None:
            load_weights(model, checkpoint.path)
    identity = ModelIdentity(
        name=checkpoint.model,
        checkpoint=checkpoint.checkpoint,
        architecture=config.architecture,
        weights_sha256=weights_sha256(model),
    )
    return model, identity


def record_checkpoint(
    atlas: Atlas, config: RunConfig, checkpoint: CheckpointReceipt, *, progress: Progress = silent
) -> RecordingReceipt:
    """Record one checkpoint over the configured test set, or finish what was begun."""
    images = load_images(atlas, config)
    model, identity = load_checkpoint(config.model, checkpoint, images)
    return record(
        atlas,
        model,
        images.test_set,
        preprocessing=images.preprocessing,
        config=config.record,
        identity=identity,
        progress=progress,
    )
