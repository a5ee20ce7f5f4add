"""One forward pass: the model's output, or one line that says why there is none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from activarium.schemas.errors import UserError
from activarium.tasks.capture.device_errors import first_line, is_device_lost, is_out_of_memory
from activarium.tasks.capture.tf32 import tf32_products

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from activarium.schemas.config import Precision

AUTOCAST: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions whose matrix products and convolutions are computed in fewer bits."""


class ForwardError(UserError):
    """The model's own forward pass failed."""


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of an eager forward pass."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from loading its compiler, more than a second, to leave it out here."""
        return False


@contextmanager
def forward_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let what runs inside compute in this precision, without gradients.

    float32 means float32: cuDNN would compute its convolutions in TF32, with a mantissa of 10
    bits, unless it is told not to. tf32 allows it; devices without TF32 compute in float32.
    """
    autocast = torch.autocast(
        device.type, dtype=AUTOCAST.get(precision), enabled=precision in AUTOCAST
    )
    with tf32_products(allowed=precision == "tf32"), torch.inference_mode(), autocast:
        yield


def run_forward(model: Callable[[torch.Tensor], Any], images: torch.Tensor) -> Any:
    """Return the model's output, or raise one line that says what the model was given.

    Raises
    ------
    ForwardError
        If the forward pass fails, for whatever reason of the model's own.
    Exception
        As it came, if it says that the device is lost or has no memory left.
    """
    try:
        return model(images)
    except Exception as error:
        if isinstance(error, UserError) or is_out_of_memory(error) or is_device_lost(error):
            raise
        reason = first_line(error) if isinstance(error, RuntimeError) else _named(error)
        raise ForwardError(
            f"the model's forward pass failed on an input of shape {tuple(images.shape)} "
            f"({images.dtype}): {reason}; check preprocessing.size and model.architecture"
        ) from error


def _named(error: Exception) -> str:
    """Return an error with its class, in one line."""
    return f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else repr(error)
