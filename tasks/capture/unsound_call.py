"""The first call of a forward pass whose output is NaN or infinite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from activarium.tasks.capture.forward import forward_precision
from activarium.tasks.capture.layer_calls import LayerCalls

if TYPE_CHECKING:
    from torch import nn

    from activarium.schemas.config import Precision


def first_unsound_call(
    model: nn.Module, inputs: torch.Tensor, precision: Precision = "float32"
) -> str | None:
    """Name the first module or function whose output is not finite, recorded or not.

    Parameters
    ----------
    model
        The model, in evaluation mode.
    inputs
        Normalised images (image, colour, row, column).
    precision
        Of the forward pass: what float32 holds may be too large for float16.

    Returns
    -------
    str or None
        The name of the call, as layers are named; None where every output is finite.
    """
    found: list[str] = []

    def notice(name: str, origin: nn.Module | str, output: Any) -> None:
        del origin
        # One call is enough: what comes after it is mostly NaN as well.
        if not found and isinstance(output, torch.Tensor) and not _is_finite(output):
            found.append(name)

    with forward_precision(precision, inputs.device), LayerCalls(model, notice) as calls:
        calls.begin()
        model(inputs)
        calls.end()
    return found[0] if found else None


def _is_finite(output: torch.Tensor) -> bool:
    return not output.is_floating_point() or bool(torch.isfinite(output).all())
