"""Training a classifier: checkpoints along the way, resumed where it was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from activarium.schemas.errors import UserError
from activarium.tasks.capture.forward import run_forward
from activarium.tasks.memory_format import settle_format
from activarium.tasks.models.accuracy import labelled
from activarium.tasks.models.frozen_modules import freeze, frozen_modules, set_training
from activarium.tasks.models.model_weights import load_weights
from activarium.tasks.models.training_folder import Standing, TrainingFolder
from activarium.tasks.models.training_run import TrainingRun
from activarium.tasks.progress import silent
from activarium.tasks.stores.locking import only_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from activarium.schemas.training_config import TrainingConfig
    from activarium.tasks.progress import Progress


def _check_gradients(model: nn.Module, device: torch.device) -> None:
    """Refuse what torch 2.15 gets wrong: gradients that differ from run to run, or a crash."""
    narrow = any(
        module.in_channels < 8 and module.kernel_size == (1, 1) and module.stride != (1, 1)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
    if narrow and device.type == "cpu":
        raise UserError(
            "the model has a strided 1x1 convolution of fewer than 8 channels, whose gradient on "
            "the CPU cannot be trusted in channels_last; set model.width to at least 8"
        )


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())  # noqa: SLF001


def _slices(images: int, *, batch_size: int, model: nn.Module) -> list[slice]:
    """Return the batches of an epoch; batch norm has no variance over a batch of one image."""
    starts = range(0, images, batch_size)
    batches = [slice(start, min(start + batch_size, images)) for start in starts]
    if _has_batch_norm(model):
        batches = [batch for batch in batches if batch.stop - batch.start > 1]
    if not batches:
        raise UserError(
            f"training needs batches of at least 2 labelled images, got {images} images"
        )
    return batches


def _check_labels(run: TrainingRun) -> None:
    """Refuse labels beyond the outputs, which CUDA would answer with an abort."""
    run.model.eval()
    with torch.inference_mode():
        raw = torch.from_numpy(run.images[:1].copy()).to(run.device)
        inputs = run.normalise(raw).contiguous(memory_format=run.memory_format)
        returned = run_forward(run.model, inputs)
    if not isinstance(returned, torch.Tensor) or returned.dim() != 2:
        shape = getattr(returned, "shape", None)
        got = type(returned).__name__ if shape is None else f"a tensor of shape {tuple(shape)}"
        raise UserError(
            f"training needs a model that returns logits (image, class), got {got}: return those alone "
            "from model.architecture"
        )
    outputs = returned.shape[1]
    if outputs <= int(run.labels.max()):
        raise UserError(
            f"the model has {outputs} outputs, but labels go up to {int(run.labels.max())}; set "
            "model.outputs to the number of classes"
        )


def train(  # noqa: PLR0913 - a whole stage, called from one place
    model: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    *,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    config: TrainingConfig,
    device: torch.device,
    folder: Path,
    identity: Mapping[str, object],
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Train a classifier by SGD, or go on where it was interrupted.

    Parameters
    ----------
    model
        Trained in place; left on the device in eval mode, with the weights of the last epoch, also
        where the training was finished before; in channels_last where it runs so.
    images
        (image, height, width, colour).
    labels
        (image) class indices; images of label -1 are left out.
    normalise
        From a batch like `images` on the device to (image, colour, height, width) in float32.
    config
        Epochs, batch size, learning rate and its schedule, momentum, weight decay, seed, crop,
        flip, checkpoints, and what is frozen.
    device
        Where to train. On the CPU a resumed training ends bit-identical to an uninterrupted one.
    folder
        Holds `epoch-001.safetensors` and so on, `step-000000.safetensors` and so on where
        `checkpoint_steps` asks for them, `training.json`, and until the end the state to resume
        from. One process at a time.
    identity
        What the training depends on beside `config`, of JSON values; a folder is used again only
        for the same.
    progress
        Told of every step.

    Returns
    -------
    tuple of Path
        All checkpoints in the order of their steps, the last epoch's last.

    Raises
    ------
    UserError
        Where the folder holds another training or is damaged, no image is labelled, a label is
        beyond the outputs, nothing is left to train, the model is too narrow for the CPU, another
        process trains the same, or the loss is not finite (earlier checkpoints are kept).
    """
    images, labels = labelled(images, labels)
    batches = _slices(len(labels), batch_size=config.batch_size, model=model)
    files = TrainingFolder(folder, identity=identity, config=config, epoch_steps=len(batches))
    first = torch.from_numpy(images[:2].copy()).to(device)
    memory_format = settle_format(model, device, normalise(first))
    with only_process(folder.with_name(f"{folder.name}.lock"), f"training {folder.name}"):
        log = files.open()
        if len(log) == config.epochs and all(path.exists() for path in files.checkpoints()):
            load_weights(model, files.checkpoints()[-1])
            model.eval()
        else:
            _check_gradients(model, device)
            frozen = frozen_modules(model, config)
            optimiser = _sgd(freeze(model, frozen), config)
            run = TrainingRun(
                model, optimiser, images, labels, normalise, config, device, batches, files,
                memory_format=memory_format,
            )  # fmt: skip
            _check_labels(run)
            _run_from_state(run, frozen, progress)
        files.cover()
        files.forget_state()
    return files.checkpoints()


def _sgd(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def _run_from_state(run: TrainingRun, frozen: frozenset[str], progress: Progress) -> None:
    """Take the steps that the folder's state does not hold yet."""
    run.standing = run.files.load(run.model, run.optimiser) or Standing()
    with progress("training", run.files.steps) as advance:
        set_training(run.model, frozen)
        try:
            run.run(advance)
        finally:
            run.model.eval()
