"""Checkpoints: from a run's configuration to a model with weights, trained where that is asked."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activarium.schemas.atlas import Atlas, file_name
from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError, shortened
from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
from activarium.tasks.features.spaces import check_globs
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.images.kept_sets import kept_test_set
from activarium.tasks.images.preprocessing import read_images, resolve_preprocessing
from activarium.tasks.models.checkpoint_files import epoch_file
from activarium.tasks.models.lost_checkpoints import is_finished, lost_checkpoints
from activarium.tasks.models.model_sources import RESTARTED
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.models.models import (
    checkpoint_name,
    load_from_file,
    load_own,
    load_start,
    model_name,
    model_source,
)
from activarium.tasks.models.training import train
from activarium.tasks.models.training_start import initial_source, load_training_start
from activarium.tasks.progress import begin_work, silent
from activarium.tasks.recording.devices import resolve_device
from activarium.tasks.recording.normalising import normalise
from activarium.tasks.recording.record import check_subject, record
from activarium.tasks.recording.record_plan import ModelIdentity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from activarium.schemas.config import (
        EmbedConfig,
        Features,
        ModelConfig,
        RunConfig,
        TrainingConfig,
    )
    from activarium.tasks.images.preprocessing import Preprocessing
    from activarium.tasks.images.test_sets import TestSet
    from activarium.tasks.models.model_sources import ModelSource
    from activarium.tasks.models.models import LoadedModel
    from activarium.tasks.progress import Progress
    from activarium.tasks.recording.record_plan import RecordPlan
    from activarium.tasks.recording.share import Share

TRAINING_BYTES = 8 * 2**30
"""Training images are held in memory up to this size."""


@dataclass(frozen=True)
class Images:
    """A test set and how its images become inputs of the configured model."""

    test_set: TestSet
    preprocessing: Preprocessing
    source: ModelSource
    """Source of the model that they were fitted to."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.preprocessing.height, self.preprocessing.width


def load_images(
    atlas: Atlas, config: RunConfig, *, split: str | None = None, limit: int | None = None
) -> Images:
    """Return the configured test set, or another split of it, with the resolved preprocessing.

    What the configuration leaves open follows from pretrained weights, then from the source.
    `limit` is that of another split.
    """
    wanted = config.test_set
    if split is not None:
        wanted = wanted.model_copy(update={"split": split, "limit": limit})
    test_set = kept_test_set(wanted, datasets=atlas.datasets)
    source = model_source(config.model)
    settings = configured_preprocessing(config, source)
    colours = source.colours(test_set.colours)
    resolved = resolve_preprocessing(settings, test_set, source=wanted.source, colours=colours)
    return Images(test_set, resolved, source)


def configured_preprocessing(
    config: RunConfig, source: ModelSource | None = None
) -> PreprocessingConfig:
    """Return the configured preprocessing, completed by what the model's source offers.

    Where a size is configured that is larger than the shorter side of the weights' images, that
    side grows by the same ratio as the size.

    Parameters
    ----------
    config
        The run.
    source
        Source of its model, where that is at hand.

    Raises
    ------
    UserError
        If the configured shorter side is smaller than the weights' crop, and no size is configured.
    """
    offered = (source or model_source(config.model)).preprocessing
    if offered is None and config.training is not None:
        initial = initial_source(config.model, config.training)
        offered = None if initial is None else initial.preprocessing
    if offered is None:
        return config.preprocessing
    preset = offered.model_dump(exclude_none=True)
    chosen = preset | config.preprocessing.model_dump(exclude_none=True)
    size, resize = chosen.get("size"), chosen.get("resize")
    if size is not None and resize is not None and resize < size:
        if config.preprocessing.resize is not None:
            raise UserError(
                f"preprocessing.resize: the weights' images are cropped to {size} pixels, got a "
                f"resize to {resize}; set preprocessing.size to {resize} or less"
            )
        chosen["resize"] = round(size * preset["resize"] / preset.get("size", preset["resize"]))
    return PreprocessingConfig.model_validate(chosen)


def _inputs(images: Images) -> dict[str, Any]:
    """Return what a model is built for."""
    return {
        "classes": len(images.test_set.class_names),
        "colours": images.preprocessing.colours,
        "size": images.size,
    }


@dataclass(frozen=True)
class _Training:
    """A configured training, and where its checkpoints lie."""

    config: TrainingConfig
    name: str
    """Of the model."""
    model: nn.Module
    """At its start."""
    images: Images
    identity: dict[str, object]
    folder: Path

    @property
    def last(self) -> Path:
        """The file of the last checkpoint."""
        return self.folder / epoch_file(self.config.epochs)

    @property
    def is_finished(self) -> bool:
        """Whether its last checkpoint is there."""
        return is_finished(self.folder, self.config.epochs)


def _configured_training(atlas: Atlas, config: RunConfig) -> _Training:
    if config.training is None:
        raise UserError(f"run {config.name!r} has no `training` section: nothing to train")
    if config.model.weights != "trained":
        raise UserError(
            f"model.weights: expected trained, which is what a training makes, got "
            f"{shortened(config.model.weights, 300)!r}: leave it out, or set "
            "training.initial_weights to begin from it"
        )
    split, limit = config.training.split, config.training.limit
    images = load_images(atlas, config, split=split, limit=limit)
    if images.source.own_weights is not None:
        raise UserError(f"model.weights {config.model.weights!r} are there: nothing to train")
    source = model_source(config.model.model_copy(update={"weights": "untrained"}))
    definition = source.definition
    model = load_training_start(source, config.model, config.training, **_inputs(images))
    identity = _training_identity(config.training, images, model, definition)
    name = model_name(source)
    parts = (name, images.test_set.name, fingerprint(identity)[:12])
    folder = atlas.models / file_name(parts)
    return _Training(config.training, name, model, images, identity, folder)


def check_before_training(atlas: Atlas, config: RunConfig) -> None:
    """Find before a training begins what would stop the recording after it: images, layers, output.

    Raises
    ------
    UserError
        What `record_checkpoint` would raise for the model as it is before the training.
    """
    training = _configured_training(atlas, config)
    if training.is_finished:
        return
    images = load_images(atlas, config)
    start = CheckpointReceipt(model=training.name, checkpoint="start", path=None, made=False)
    model, identity = load_checkpoint(config.model, start, images)
    plan = check_subject(
        model,
        images.test_set,
        preprocessing=images.preprocessing,
        config=config.record,
        identity=identity,
    )
    check_embedded_layers(config.embed, plan)


def check_embedded_layers(config: EmbedConfig, plan: RecordPlan) -> None:
    """Refuse globs of `embed.layers` that match no layer of what is going to be recorded."""
    known: dict[Features, list[str]] = {
        "pooled": [each.layer.name for each in plan.pooled],
        "means": [layer.name for layer in plan.model_layers.layers],
    }
    check_globs(config.layers, {kind: known[kind] for kind in config.features if kind in known})


def train_checkpoint(
    atlas: Atlas, config: RunConfig, *, progress: Progress = silent
) -> CheckpointReceipt:
    """Train the configured model, unless its last checkpoint is there already.

    Raises
    ------
    UserError
        If there is no training section, the images do not fit in memory, training diverges, or the
        last checkpoint is damaged.
    """
    training = _configured_training(atlas, config)
    made = not training.is_finished
    notices: tuple[str, ...] = ()
    if made:
        begin_work(progress)
        images = training.images
        pixels, valid = _all_images(images)
        train(
            training.model,
            pixels[valid],
            images.test_set.labels[valid],
            normalise=partial(normalise, preprocessing=images.preprocessing),
            config=training.config,
            device=resolve_device(config.record.device),
            folder=training.folder,
            identity=training.identity,
            progress=progress,
        )
    else:
        notices = lost_checkpoints(training.folder, training.config.epochs)
    checkpoint = config.model.checkpoint or training.last.stem
    return CheckpointReceipt(
        model=training.name, checkpoint=checkpoint, path=training.last, made=made, notices=notices
    )


def _training_identity(
    training: TrainingConfig, images: Images, model: nn.Module, definition: str
) -> dict[str, object]:
    defined = {"definition": definition} if definition else {}
    return {
        **defined,
        "images_sha256": images.test_set.identity,
        "preprocessing": asdict(images.preprocessing),
        "initial_weights_sha256": weights_sha256(model),
        "model": type(model).__name__,
        "training": training.identity(),
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
    """Return the receipt of weights that need no training: a file, the source's own, or untrained.

    Raises
    ------
    UserError
        If the weights are neither a file nor known to the model's source.
    """
    source = model_source(config)
    is_file = config.weights != "untrained" and source.own_weights is None
    path = Path(config.weights) if is_file else None
    if path is not None and not path.is_file():
        folder = "; it is a folder: name the file of weights in it" if path.is_dir() else ""
        raise UserError(
            f"model.weights: expected a file, trained{source.offers} or untrained, got "
            f"{config.weights!r}, and there is no such file{folder}"
        )
    if path is None and config.weights_key is not None:
        raise UserError(
            f"model.weights_key chooses within a file of weights, got weights {config.weights!r}: "
            "leave it out"
        )
    return CheckpointReceipt(
        model=model_name(source), checkpoint=checkpoint_name(source), path=path, made=False
    )


def untrained_control(config: RunConfig) -> RunConfig:
    """Return the same run with the same architecture at its start, and the same inputs."""
    source = model_source(config.model)
    model = config.model.model_copy(
        update={**source.control(), "checkpoints": None, "series": None, "weights_key": None}
    )
    inputs = configured_preprocessing(config, source)
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
    source = images.source if images.source.config == config else model_source(config)
    definition = source.definition
    loaded = _load(source, checkpoint, images)
    is_drawn = checkpoint.path is None and source.own_weights in {None, RESTARTED}
    identity = ModelIdentity(
        name=checkpoint.model,
        checkpoint=checkpoint.checkpoint,
        architecture=source.architecture,
        weights_sha256=weights_sha256(loaded.model),
        definition=definition,
        notes=loaded.notes,
        output=config.output,
        tokens=config.tokens,
        series=checkpoint.series,
        step=checkpoint.step,
        seed=config.seed if is_drawn else None,
    )
    return loaded.model, identity


def _load(source: ModelSource, checkpoint: CheckpointReceipt, images: Images) -> LoadedModel:
    if checkpoint.path is not None:
        return load_from_file(source, checkpoint.path, **_inputs(images))
    if source.own_weights is not None:
        return load_own(source)
    return load_start(source, **_inputs(images))


def record_checkpoint(  # noqa: PLR0913 - a whole stage
    atlas: Atlas,
    config: RunConfig,
    checkpoint: CheckpointReceipt,
    *,
    progress: Progress = silent,
    share: Share | None = None,
    repair: bool = False,
    images: Images | None = None,
) -> RecordingReceipt:
    """Record one checkpoint over the configured test set, or finish what was begun.

    `images` are the configured test set where it is loaded already.
    """
    images = images or load_images(atlas, config)
    model, identity = load_checkpoint(config.model, checkpoint, images)
    return record(
        atlas,
        model,
        images.test_set,
        preprocessing=images.preprocessing,
        config=config.record,
        identity=identity,
        progress=progress,
        share=share,
        repair=repair,
        check=partial(check_embedded_layers, config.embed),
    )
