"""The files of one training: its checkpoints, the state to resume from, and the log."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from activarium.schemas.atlas import TRAINING_LOG as LOG
from activarium.schemas.atlas import TRAINING_STATE as STATE
from activarium.schemas.errors import UserError
from activarium.tasks.models.checkpoint_files import (
    epoch_file,
    safetensors_bytes,
    step_file,
)
from activarium.tasks.stores.checksum_files import (
    is_model_of_atlas,
    is_whole,
    refuse_damaged_model,
    remove_checked,
    write_checked,
)
from activarium.tasks.stores.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from activarium.schemas.training_config import TrainingConfig
    from activarium.tasks.models.checkpoint_files import Moment


@dataclass
class Standing:
    """How far a training is."""

    log: list[dict[str, Any]] = field(default_factory=list)
    """One line per finished epoch."""
    losses: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """(step) of the steps that were taken in the epoch after them."""
    right: int = 0
    """Images classified rightly in those steps."""
    seconds: float = 0.0
    """Time that those steps took."""
    generator: torch.Tensor | None = None
    """Random state after those steps, of the device that trains."""

    def steps(self, epoch_steps: int) -> int:
        """Return the steps that were taken, of epochs of so many steps."""
        return len(self.log) * epoch_steps + len(self.losses)


def _stored(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors to the host one by one: the format takes neither strides nor shared memory."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }


class TrainingFolder:
    """The files of one training. The state is the truth, the log is written after it.

    Parameters
    ----------
    path
        The folder.
    identity
        What the training depends on beside `config`, of JSON values.
    config
        How it is trained.
    epoch_steps
        Steps of one epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        identity: Mapping[str, object],
        config: TrainingConfig,
        epoch_steps: int,
    ) -> None:
        self.path = path
        self.epoch_steps = epoch_steps
        self.steps = config.epochs * epoch_steps
        self.every = config.checkpoint_steps
        self.head: dict[str, Any] = json.loads(
            json.dumps({"identity": dict(identity), "config": config.identity()}, default=str)
        )

    def files_at(self, step: int) -> list[Path]:
        """Return the checkpoints that are due after a step; that of the epoch comes last."""
        names = []
        if self.every is not None and (step % self.every == 0 or step == self.steps):
            names.append(step_file(step, self.steps))
        if step > 0 and step % self.epoch_steps == 0:
            names.append(epoch_file(step // self.epoch_steps))
        return [self.path / name for name in names]

    def checkpoints(self, steps: int | None = None) -> tuple[Path, ...]:
        """Return the checkpoints that are due in the first steps, by default in all, in order."""
        last = self.steps if steps is None else steps
        return tuple(path for step in range(last + 1) for path in self.files_at(step))

    def open(self) -> list[dict[str, Any]]:
        """Return the log of finished epochs, after checking that the folder is this training's."""
        log = self.path / LOG
        if not log.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self.forget_state()
            self.write_log([])
            return []
        refuse_damaged_model(log)
        try:
            held = json.loads(log.read_text(encoding="utf-8"))
            epochs: list[dict[str, Any]] = held["epochs"]
            head = {key: held[key] for key in self.head}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{log} is damaged ({error!r}); delete the folder to train anew"
            ) from error
        for key, ours in self.head.items():
            names = sorted({*ours, *head[key]})
            other = [name for name in names if ours.get(name) != head[key].get(name)]
            if other:
                raise UserError(
                    f"{self.path} holds another training: its {key} differs in {', '.join(other)}; "
                    "use another folder, or delete this one"
                )
        return epochs

    def write_log(self, epochs: list[dict[str, Any]]) -> None:
        """Write the log of the finished epochs; what is no number is null."""
        lines = [
            {
                k: v if not isinstance(v, float) or math.isfinite(v) else None
                for k, v in line.items()
            }
            for line in epochs
        ]
        said = {**self.head, "has_checksums": is_model_of_atlas(self.path / LOG), "epochs": lines}
        text = json.dumps(said, indent=2, allow_nan=False)
        self._write(self.path / LOG, f"{text}\n".encode())

    def forget_state(self) -> None:
        """Delete the state to resume from."""
        if is_model_of_atlas(self.path / STATE):
            remove_checked((self.path / STATE).absolute())
        (self.path / STATE).unlink(missing_ok=True)

    def cover(self) -> None:
        """Write the checksums that are lacking, after earlier versions or killed writers."""
        for path in (*self.checkpoints(), self.path / LOG):
            if is_model_of_atlas(path) and not is_whole(path.absolute()):
                self._write(path, path.read_bytes())

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        """Write a file; one of an atlas with its checksum."""
        if is_model_of_atlas(path):
            write_checked(path.absolute(), content)
        else:
            write_bytes(path, content)

    def save(
        self, model: nn.Module, optimiser: torch.optim.SGD, standing: Standing, moment: Moment
    ) -> None:
        """Store what is due after a step: checkpoints, then the state to resume from, then the log."""
        weights = _stored(model.state_dict())
        content = safetensors_bytes(weights, moment.metadata())
        for path in self.files_at(moment.step):
            self._write(path, content)
        momentum = {
            f"momentum.{name}": optimiser.state[parameter]["momentum_buffer"]
            for name, parameter in model.named_parameters()
            if optimiser.state.get(parameter, {}).get("momentum_buffer") is not None
        }
        under_way = {"losses": standing.losses}
        if standing.generator is not None:
            under_way["generator"] = standing.generator
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        tensors |= _stored(momentum | under_way)
        noted = {"right": standing.right, "seconds": standing.seconds}
        metadata = {"epochs": json.dumps(standing.log), "under_way": json.dumps(noted)}
        self._write(self.path / STATE, safetensors_bytes(tensors, metadata))
        if len(standing.losses) == 0:
            self.write_log(standing.log)

    def load(self, model: nn.Module, optimiser: torch.optim.SGD) -> Standing | None:
        """Restore model and momentum; return how far the state is, None where there is none.

        A state counts only where all checkpoints before it are there.
        """
        state = self.path / STATE
        if not state.exists():
            return None
        refuse_damaged_model(state)
        try:
            with safe_open(state, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                standing = _standing(file.metadata(), tensors)
            done = standing.steps(self.epoch_steps)
            if not all(path.exists() for path in self.checkpoints(done)):
                return None
            model.load_state_dict({name: tensors[f"model.{name}"] for name in model.state_dict()})
        except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{state} is damaged ({error}); delete it to train anew") from error
        for name, parameter in model.named_parameters():
            if f"momentum.{name}" in tensors:
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
                optimiser.state[parameter]["momentum_buffer"] = buffer.detach()
        return standing


def _standing(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> Standing:
    """Return how far a state is; states of trainings without steps say nothing of an epoch."""
    return Standing(
        log=json.loads(metadata["epochs"]),
        losses=tensors.get("losses", torch.zeros(0)),
        generator=tensors.get("generator"),
        **json.loads(metadata.get("under_way", "{}")),
    )
