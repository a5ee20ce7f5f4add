"""Training a classifier: one checkpoint per epoch, resumed where it was interrupted.

Everything random is drawn anew per epoch from (seed, epoch), so that an epoch does not depend on
whether the ones before it ran in the same process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from activarium.schemas.errors import UserError
from activarium.tasks.models.epoch_plan import EpochPlan, cosine_rate, plan_epoch, shifted
from activarium.tasks.models.model_weights import load_weights
from activarium.tasks.models.training_folder import STATE, TrainingFolder
from activarium.tasks.progress import silent
from activarium.tasks.stores.locking import only_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from activarium.schemas.config import TrainingConfig
    from activarium.tasks.progress import Progress

CHECK_STEPS = 20
"""Steps between looks at the loss: each look waits for the device."""


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


def _check_losses(losses: torch.Tensor, *, epoch: int, first: int, rates: list[float]) -> None:
    finite = torch.isfinite(losses[first : len(rates)])
    if not bool(finite.all()):
        step = first + int(torch.argmin(finite.to(torch.uint8)))
        rate = rates[step]
        raise UserError(
            f"the loss is not finite in epoch {epoch}, step {step + 1} of {len(losses)}, at learning "
            f"rate {rate:.3g}; set training.learning_rate lower, such as {rate / 5:.1g}"
        )


@dataclass(frozen=True)
class _Run:
    """The parts of a training that stay the same in all epochs."""

    model: nn.Module
    optimiser: torch.optim.SGD
    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    normalise: Callable[[torch.Tensor], torch.Tensor]
    config: TrainingConfig
    device: torch.device
    batches: list[slice]

    def batch(self, plan: EpochPlan, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return augmented inputs (image, colour, height, width) and labels (image)."""
        chosen = plan.order[part]
        raw = torch.from_numpy(self.images[chosen]).to(self.device)
        if self.config.crop or self.config.flip:
            offsets = torch.from_numpy(plan.offsets[part]).to(self.device)
            mirrored = torch.from_numpy(plan.mirrored[part]).to(self.device)
            raw = shifted(raw, offsets, mirrored, padding=self.config.crop)
        inputs = self.normalise(raw).contiguous(memory_format=torch.channels_last)
        return inputs, torch.from_numpy(self.labels[chosen]).to(self.device, torch.int64)

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step; return the mean loss and the number of images classified rightly."""
        logits = self.model(inputs)
        loss = functional.cross_entropy(logits, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()

    def epoch(
        self, epoch: int, plan: EpochPlan, advance: Callable[[int], None]
    ) -> dict[str, float]:
        """Train for one epoch, from 1; return its line of the log."""
        began = time.perf_counter()
        count = len(self.batches)
        losses = torch.zeros(count, device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        rates: list[float] = []
        checked = 0
        for step, part in enumerate(self.batches):
            done, total = (epoch - 1) * count + step, self.config.epochs * count
            rates.append(cosine_rate(done, steps=total, start=self.config.learning_rate))
            self.optimiser.param_groups[0]["lr"] = rates[-1]
            losses[step], correct = self.step(*self.batch(plan, part))
            right += correct
            if (step + 1) % CHECK_STEPS == 0 or step + 1 == count:
                _check_losses(losses, epoch=epoch, first=checked, rates=rates)
                checked = step + 1
            advance(1)
        sizes = torch.tensor([part.stop - part.start for part in self.batches])
        return {
            "epoch": epoch,
            "loss": float((losses.cpu().double() * sizes).sum() / sizes.sum()),
            "accuracy": int(right) / int(sizes.sum()),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def seeded_epoch(self, epoch: int, advance: Callable[[int], None]) -> dict[str, float]:
        """Train for one epoch with its own dropout, leaving the global random state alone."""
        plan = plan_epoch(len(self.labels), epoch=epoch, config=self.config)
        cuda = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[self.device] if cuda else []):
            torch.default_generator.manual_seed(plan.dropout_seed)
            if cuda:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(plan.dropout_seed)
            return self.epoch(epoch, plan, advance)


def _labelled(
    images: NDArray[np.uint8], labels: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    known = labels >= 0
    return (images, labels) if known.all() else (images[known], labels[known])


def accuracy(  # noqa: PLR0913 - the data are two arrays
    model: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    *,
    normalise: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
    batch_size: int = 512,
) -> float:
    """Return the share of labelled images classified rightly, from 0 to 1.

    Parameters
    ----------
    model
        Moved to the device and left there in eval mode.
    images
        (image, height, width, colour).
    labels
        (image); images of label -1 do not count.
    normalise
        From a batch like `images` on the device to (image, colour, height, width) in float32.
    device
        Where to run.
    batch_size
        Images per forward pass.

    Raises
    ------
    UserError
        Where no image has a label.
    """
    images, labels = _labelled(images, labels)
    if len(labels) == 0:
        raise UserError("accuracy needs labelled images, all labels are -1")
    model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.inference_mode():
        for start in range(0, len(labels), batch_size):
            raw = torch.from_numpy(images[start : start + batch_size].copy()).to(device)
            inputs = normalise(raw).contiguous(memory_format=torch.channels_last)
            truth = torch.from_numpy(labels[start : start + batch_size].copy()).to(device)
            right += (model(inputs).argmax(dim=1) == truth).sum()
    return int(right) / len(labels)


def _check_labels(run: _Run) -> None:
    """Refuse labels beyond the outputs, which CUDA would answer with an abort."""
    run.model.eval()
    with torch.inference_mode():
        raw = torch.from_numpy(run.images[:1].copy()).to(run.device)
        outputs = run.model(run.normalise(raw)).shape[1]
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
    """Train a classifier by SGD with a cosine schedule, or go on where it was interrupted.

    Parameters
    ----------
    model
        Trained in place; left on the device in eval mode and channels_last, with the weights of
        the last epoch, also where the training was finished before.
    images
        (image, height, width, colour).
    labels
        (image) class indices; images of label -1 are left out.
    normalise
        From a batch like `images` on the device to (image, colour, height, width) in float32.
    config
        Epochs, batch size, learning rate, momentum, weight decay, seed, crop and flip.
    device
        Where to train. On the CPU a resumed training ends bit-identical to an uninterrupted one.
    folder
        Holds `epoch-001.safetensors` and so on, `training.json`, and until the end the state to
        resume from. One process at a time.
    identity
        What the training depends on beside `config`, of JSON values; a folder is used again only
        for the same.
    progress
        Told of every step.

    Returns
    -------
    tuple of Path
        One checkpoint per epoch, in order.

    Raises
    ------
    UserError
        Where the folder holds another training or is damaged, no image is labelled, a label is
        beyond the outputs, the model is too narrow for the CPU, another process trains the same,
        or the loss is not finite (finished epochs are kept).
    """
    images, labels = _labelled(images, labels)
    files = TrainingFolder(folder, identity=identity, config=config)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with only_process(folder.with_name(f"{folder.name}.lock"), f"training {folder.name}"):
        log = files.open()
        if len(log) == config.epochs and all(path.exists() for path in files.checkpoints):
            load_weights(model, files.checkpoints[-1])
            model.eval()
        else:
            _check_gradients(model, device)
            batches = _slices(len(labels), batch_size=config.batch_size, model=model)
            optimiser = _sgd(model, config)
            run = _Run(model, optimiser, images, labels, normalise, config, device, batches)
            _check_labels(run)
            _run_epochs(run, files, progress)
        (folder / STATE).unlink(missing_ok=True)
    return files.checkpoints


def _sgd(model: nn.Module, config: TrainingConfig) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def _run_epochs(run: _Run, files: TrainingFolder, progress: Progress) -> None:
    """Run the epochs that the folder's state does not hold yet."""
    steps = len(run.batches)
    log = files.load(run.model, run.optimiser)
    with progress("training", run.config.epochs * steps) as advance:
        advance(len(log) * steps)
        run.model.train()
        try:
            for epoch in range(len(log) + 1, run.config.epochs + 1):
                log.append(run.seeded_epoch(epoch, advance))
                files.save(run.model, run.optimiser, log)
        finally:
            run.model.eval()
    files.write_log(log)
