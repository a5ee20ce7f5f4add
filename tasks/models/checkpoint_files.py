"""Files of weights that a training leaves: their names, and what they say of their step."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save

from activarium.tasks.models.inert_pickle import read_notes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

_ALIGNMENT = 8
"""Bytes to a multiple of which the header is filled up, so that tensors lie aligned."""


def epoch_file(epoch: int) -> str:
    """Return the name of the weights after an epoch, from 1."""
    return f"epoch-{epoch:03d}.safetensors"


def step_file(step: int, steps: int) -> str:
    """Return the name of the weights after a step; names sort as the `steps` of the training do."""
    return f"step-{step:0{max(6, len(str(steps)))}d}.safetensors"


@dataclass(frozen=True)
class Moment:
    """When in a training weights were saved."""

    step: int
    """Optimiser steps that were taken."""
    epoch: int
    """Epoch of the last of them, from 1; 0 before the first."""
    learning_rate: float | None = None
    """Of the last step."""
    loss: float | None = None
    """Mean loss of the last step's batch, before it."""

    def metadata(self) -> dict[str, str]:
        """Return what the file of weights says of itself."""
        said = {"step": self.step, "epoch": self.epoch}
        known = {"learning_rate": self.learning_rate, "loss": self.loss}
        return {
            **{name: str(value) for name, value in said.items()},
            **{name: repr(value) for name, value in known.items() if value is not None},
        }


def safetensors_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file whose bytes follow from its content.

    The library writes metadata in an order that changes from call to call.

    References
    ----------
    safetensors, section "Format": 8 bytes of length, a JSON header, the tensors.
    """
    plain = save(dict(tensors))
    (length,) = struct.unpack("<Q", plain[:8])
    header = json.loads(plain[8 : 8 + length])
    said = {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(said | header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join((struct.pack("<Q", len(text)), text, memoryview(plain)[8 + length :]))


@dataclass(frozen=True)
class Noted:
    """What a file of weights says of when it was saved; None where it says nothing."""

    step: int | None = None
    epoch: int | None = None


STEP_KEYS = (
    "global_step",
    "global_steps",
    "step",
    "iteration",
    "iter",
    "num_updates",
    "iter_num",
    "n_iter",
)
EPOCH_KEYS = ("epoch", "current_epoch", "epochs")


def noted_moment(path: Path) -> Noted:
    """Return the step and epoch that a file of weights says it was saved after.

    Safetensors files say so in their metadata, files of `torch.save` beside their state dict, also
    within `meta`. Tensors are not read.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                said = {n: int(t) for n, t in (file.metadata() or {}).items() if t.isdigit()}
        else:
            content = read_notes(path)
            said = content if isinstance(content, dict) else {}
            meta = said.get("meta")
            said = (meta if isinstance(meta, dict) else {}) | said
    except Exception:  # noqa: BLE001 - a damaged file is told of when it is recorded
        return Noted()
    return Noted(_first_number(said, STEP_KEYS), _first_number(said, EPOCH_KEYS))


def _first_number(said: Mapping[Any, Any], keys: Sequence[str]) -> int | None:
    values = [said[key] for key in keys if key in said]
    numbers = [each for each in values if isinstance(each, int | float)]
    whole = [int(each) for each in numbers if each >= 0 and each == each // 1]
    return whole[0] if whole else None
