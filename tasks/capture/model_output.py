"""Which of the tensors that a model returns is its output, and its rows, one per image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.layer_maps import USUAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activarium.tasks.capture.layer_maps import Layout

OUTPUT_NAME = "the model's output"
"""What the output is called where layers are named."""

USUAL_KEYS = ("logits", "out", "output", "outputs", "pred", "preds", "prediction", "scores")
"""What models call their output beside other tensors, in this order."""


@dataclass(frozen=True)
class ModelOutput:
    """Where a model's output is in what it returns, and how it is laid out."""

    key: str = ""
    """Path in what the model returns, such as `logits` or `0`; empty where that is a tensor."""
    layout: Layout = USUAL
    units: int = 0
    """Number of outputs."""
    notes: tuple[str, ...] = ()
    """What there is to say of the choice, a line each."""

    def matrix(self, returned: Any, images: int) -> torch.Tensor:
        """Return the output as (image, output); maps are averaged over their positions.

        Raises
        ------
        UserError
            If it is not there, or not of the shape that the trial showed.
        """
        tensor = tensor_at(returned, self.key)
        if tensor.dim() == 1:
            tensor = tensor.unsqueeze(1)
        if not self.layout.fits(tensor, images):
            raise UserError(
                f"expected the model to return a tensor with {images} rows, one per image; got "
                f"{tuple(tensor.shape)}"
            )
        if self.layout.is_usual and tensor.dim() == 2:
            return tensor
        return self.layout.maps(tensor, images).flatten(2).mean(2, dtype=torch.float32)


def choose_output(returned: Any, wanted: str | None = None) -> tuple[str, str]:
    """Return the key of the output in what a model returned, and a line about the choice.

    Of several tensors the configured one is taken, else what is called logits or out, else the
    first.

    Parameters
    ----------
    returned
        What the model returned for some images.
    wanted
        Key that is configured: names and places, joined by dots.

    Raises
    ------
    UserError
        If there is no such tensor, or none at all.
    """
    found = dict(_tensors(returned))
    if not found:
        raise UserError(
            f"expected the model to return a tensor with a row per image, got "
            f"{type(returned).__name__} without any: return one, or wrap the model in a function"
        )
    named = _described(found)
    if wanted is not None:
        if wanted not in found:
            raise UserError(f"model.output: the model returns no {wanted!r}; it returns {named}")
        return wanted, ""
    if len(found) == 1:
        return next(iter(found)), ""
    usual = [key for name in USUAL_KEYS for key in found if key.rpartition(".")[2] == name]
    key = (usual or [*found])[0]
    return key, (
        f"the model returns {named}: {key!r} is taken as its output; model.output chooses another"
    )


def _described(found: Mapping[str, torch.Tensor]) -> str:
    parts = [
        f"{key!r} {tuple(tensor.shape)}" if key else "a tensor" for key, tensor in found.items()
    ]
    more = f" and {len(parts) - 6} more" if len(parts) > 6 else ""
    return ", ".join(parts[:6]) + more


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors of numbers, with their paths."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and value.dim():
            yield path, value
        return
    for name, inner in _items(value):
        yield from _tensors(inner, f"{path}.{name}" if path else name)


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(name), inner) for name, inner in value.items()]
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", None) or range(len(value))
        return [(str(name), inner) for name, inner in zip(names, value, strict=True)]
    if is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return []


def tensor_at(returned: Any, key: str) -> torch.Tensor:
    """Return the tensor of this key, which the trial showed to be there."""
    value = returned
    for name in key.split(".") if key else ():
        value = dict(_items(value)).get(name)
    if not isinstance(value, torch.Tensor):
        raise UserError(
            f"expected the model to return a tensor{f' as {key!r}' if key else ''}, got "
            f"{type(value).__name__}"
        )
    return value
