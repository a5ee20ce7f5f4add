"""The steps of a training: batches, gradients, and what is kept along the way.

Everything random is drawn anew per epoch from (seed, epoch), so that an epoch does not depend on
whether the ones before it ran in the same process; within an epoch, the state that is resumed from
holds the random state.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from activarium.schemas.errors import UserError
from activarium.tasks.models.checkpoint_files import Moment
from activarium.tasks.models.epoch_plan import EpochPlan, learning_rate, plan_epoch, shifted
from activarium.tasks.models.training_folder import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from activarium.schemas.training_config import TrainingConfig
    from activarium.tasks.models.training_folder import TrainingFolder

CHECK_STEPS = 20
"""Steps between looks at the loss: each look waits for the device."""


@dataclass
class TrainingRun:
    """One training under way."""

    model: nn.Module
    optimiser: torch.optim.SGD
    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    normalise: Callable[[torch.Tensor], torch.Tensor]
    config: TrainingConfig
    device: torch.device
    batches: list[slice]
    """Places in an epoch's order, per step."""
    files: TrainingFolder
    memory_format: torch.memory_format = torch.channels_last
    """Of the model's weights and its inputs."""
    standing: Standing = field(default_factory=Standing)

    @property
    def steps_done(self) -> int:
        """Steps that were taken."""
        return self.standing.steps(len(self.batches))

    def run(self, advance: Callable[[int], None]) -> None:
        """Take all steps that are not taken yet."""
        advance(self.steps_done)
        if self.steps_done == 0 and self.files.files_at(0):
            self.files.save(self.model, self.optimiser, self.standing, Moment(0, 0))
        for epoch in range(len(self.standing.log) + 1, self.config.epochs + 1):
            plan = plan_epoch(len(self.labels), epoch=epoch, config=self.config)
            with self._generator(plan.dropout_seed):
                self._epoch(epoch, plan, advance)
        self.files.write_log(self.standing.log)

    def _epoch(self, epoch: int, plan: EpochPlan, advance: Callable[[int], None]) -> None:
        """Take the steps of one epoch, from 1, that are not taken yet."""
        count, done = len(self.batches), len(self.standing.losses)
        began = time.perf_counter() - self.standing.seconds
        losses = torch.zeros(count, device=self.device)
        losses[:done] = self.standing.losses.to(self.device)
        right = torch.tensor(self.standing.right, dtype=torch.int64, device=self.device)
        checked = done
        for place in range(done, count):
            step = (epoch - 1) * count + place
            rate = learning_rate(step, steps=self.files.steps, config=self.config)
            self.optimiser.param_groups[0]["lr"] = rate
            losses[place], correct = self._step(*self._batch(plan, self.batches[place]))
            right += correct
            is_due = bool(self.files.files_at(step + 1))
            if is_due or (place + 1) % CHECK_STEPS == 0:
                self._check(losses[checked : place + 1], epoch=epoch, first=checked)
                checked = place + 1
            if is_due:
                seconds = time.perf_counter() - began
                self._stand(epoch, losses[: place + 1].cpu(), int(right), seconds)
                moment = Moment(step + 1, epoch, rate, float(losses[place]))
                self.files.save(self.model, self.optimiser, self.standing, moment)
            advance(1)

    def _stand(self, epoch: int, losses: torch.Tensor, right: int, seconds: float) -> None:
        """Note how far the training is: within an epoch, or after it."""
        log = self.standing.log
        if len(losses) < len(self.batches):
            self.standing = Standing(log, losses, right, seconds, self._random_state())
        else:
            self.standing = Standing([*log, self._line(epoch, losses, right, seconds)])

    def _line(self, epoch: int, losses: torch.Tensor, right: int, seconds: float) -> dict[str, Any]:
        """Return what the log says of a finished epoch."""
        sizes = torch.tensor([part.stop - part.start for part in self.batches])
        return {
            "epoch": epoch,
            "loss": float((losses.cpu().double() * sizes).sum() / sizes.sum()),
            "accuracy": right / int(sizes.sum()),
            "seconds": round(seconds, 3),
        }

    def _batch(self, plan: EpochPlan, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return augmented inputs (image, colour, height, width) and labels (image)."""
        chosen = plan.order[part]
        raw = torch.from_numpy(self.images[chosen]).to(self.device)
        if self.config.crop or self.config.flip:
            offsets = torch.from_numpy(plan.offsets[part]).to(self.device)
            mirrored = torch.from_numpy(plan.mirrored[part]).to(self.device)
            raw = shifted(raw, offsets, mirrored, padding=self.config.crop)
        inputs = self.normalise(raw).contiguous(memory_format=self.memory_format)
        return inputs, torch.from_numpy(self.labels[chosen]).to(self.device, torch.int64)

    def _step(
        self, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step; return the mean loss and the number of images classified rightly."""
        logits = self.model(inputs)
        loss = functional.cross_entropy(logits, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()

    def _check(self, losses: torch.Tensor, *, epoch: int, first: int) -> None:
        """Refuse a loss that is not finite, unless the training is to go on with it."""
        finite = torch.isfinite(losses)
        if self.config.on_divergence == "continue" or bool(finite.all()):
            return
        place, count = first + int(torch.argmin(finite.to(torch.uint8))), len(self.batches)
        step = (epoch - 1) * count + place
        rate = learning_rate(step, steps=self.files.steps, config=self.config)
        raise UserError(
            f"the loss is not finite in epoch {epoch}, step {place + 1} of {count}, at learning "
            f"rate {rate:.3g}; set training.learning_rate lower, such as {rate / 5:.1g}, or "
            "training.on_divergence to continue"
        )

    @contextmanager
    def _generator(self, seed: int) -> Iterator[None]:
        """Draw dropout from a seed, or as it was; leave the global random state alone."""
        cuda = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[self.device] if cuda else []):
            torch.default_generator.manual_seed(seed)
            if cuda:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            held = self.standing.generator
            # Another kind of device has a state of another size.
            if held is not None and held.shape == self._random_state().shape:
                if cuda:
                    torch.cuda.set_rng_state(held, self.device)
                else:
                    torch.set_rng_state(held)
            yield

    def _random_state(self) -> torch.Tensor:
        if self.device.type == "cuda":
            return torch.cuda.get_rng_state(self.device)
        return torch.get_rng_state()
