"""The files of one training: a checkpoint per epoch, the state to resume from, and the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from activarium.schemas.errors import UserError
from activarium.tasks.stores.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from activarium.schemas.config import TrainingConfig

LOG = "training.json"
STATE = "state-last.safetensors"


def _stored(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors to the host one by one: the format takes neither strides nor shared memory."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }


class TrainingFolder:
    """The files of one training. The state is the truth, the log is written after it."""

    def __init__(
        self, path: Path, *, identity: Mapping[str, object], config: TrainingConfig
    ) -> None:
        self.path = path
        self.epochs = config.epochs
        self.head: dict[str, Any] = json.loads(
            json.dumps(
                {"identity": dict(identity), "config": config.model_dump(mode="json")}, default=str
            )
        )

    def checkpoint(self, epoch: int) -> Path:
        """Return the file of an epoch's weights."""
        return self.path / f"epoch-{epoch:03d}.safetensors"

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """Files of all epochs' weights, in order."""
        return tuple(self.checkpoint(epoch) for epoch in range(1, self.epochs + 1))

    def open(self) -> list[dict[str, float]]:
        """Return the log of finished epochs, after checking that the folder is this training's."""
        log = self.path / LOG
        if not log.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / STATE).unlink(missing_ok=True)
            self.write_log([])
            return []
        try:
            held = json.loads(log.read_text(encoding="utf-8"))
            epochs: list[dict[str, float]] = held["epochs"]
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

    def write_log(self, epochs: list[dict[str, float]]) -> None:
        """Write the log of the finished epochs."""
        text = json.dumps({**self.head, "epochs": epochs}, indent=2)
        write_bytes(self.path / LOG, f"{text}\n".encode())

    def save(
        self, model: nn.Module, optimiser: torch.optim.SGD, epochs: list[dict[str, float]]
    ) -> None:
        """Store a finished epoch: checkpoint, then the state to resume from, then the log."""
        weights = _stored(model.state_dict())
        metadata = {"epoch": str(len(epochs))}
        write_bytes(self.checkpoint(len(epochs)), save(weights, metadata=metadata))
        momentum = {
            f"momentum.{name}": optimiser.state[parameter]["momentum_buffer"]
            for name, parameter in model.named_parameters()
            if optimiser.state.get(parameter, {}).get("momentum_buffer") is not None
        }
        tensors = {**{f"model.{name}": t for name, t in weights.items()}, **_stored(momentum)}
        write_bytes(self.path / STATE, save(tensors, metadata={"epochs": json.dumps(epochs)}))
        self.write_log(epochs)

    def load(self, model: nn.Module, optimiser: torch.optim.SGD) -> list[dict[str, float]]:
        """Restore model and momentum; return the log of the epochs that the state contains."""
        state = self.path / STATE
        if not state.exists():
            return []
        try:
            with safe_open(state, "pt") as file:
                epochs: list[dict[str, float]] = json.loads(file.metadata()["epochs"])
                if not all(path.exists() for path in self.checkpoints[: len(epochs)]):
                    return []
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            model.load_state_dict({name: tensors[f"model.{name}"] for name in model.state_dict()})
        except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{state} is damaged ({error}); delete it to train anew") from error
        for name, parameter in model.named_parameters():
            if f"momentum.{name}" in tensors:
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
                optimiser.state[parameter]["momentum_buffer"] = buffer.detach()
        return epochs
