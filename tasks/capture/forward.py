"""One forward pass: the model's output, or one line that says why there is none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from activarium.schemas.config import Precision

AUTOCAST: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions whose matrix products and convolutions are computed in fewer bits."""


@contextmanager
def forward_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let what runs inside compute in this precision, without gradients.

    float32 means float32: cuDNN would compute its convolutions in TF32, with a mantissa of 10
    bits, unless it is told not to. tf32 allows it; devices without TF32 compute in float32.
    """
    tf32 = precision == "tf32"
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    autocast = torch.autocast(
        device.type, dtype=AUTOCAST.get(precision), enabled=precision in AUTOCAST
    )
    try:
        matmul.allow_tf32 = tf32
        with (
            torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32),
            torch.inference_mode(),
            autocast,
        ):
            yield
    finally:
        matmul.allow_tf32 = before


def run_forward(model: Callable[[torch.Tensor], Any], images: torch.Tensor) -> Any:
    """Return the model's output, or raise one line that says what the model was given.

    Raises
    ------
    UserError
        If the forward pass fails for the input's sake.
    torch.OutOfMemoryError
        If the batch does not fit the device.
    """
    try:
        return model(images)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError) as error:
        if is_out_of_memory(error) or is_device_lost(error):
            raise
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines and isinstance(error, RuntimeError) else repr(error)
        raise UserError(
            f"the model's forward pass failed on an input of shape {tuple(images.shape)} "
            f"({images.dtype}): {reason}; check preprocessing.size and model.architecture"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_device_lost(error: BaseException) -> bool:
    """Tell whether an error says that the accelerator failed, and not the model."""
    lost = getattr(torch, "AcceleratorError", None)
    if lost is not None and isinstance(error, lost):
        return True
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)
