"""What there is to say about weights as they are loaded: what changes, what is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from activarium.tasks.models.state_dicts import PACKED, is_extra_state
from activarium.tasks.models.weights_fit import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from activarium.tasks.models.state_dicts import StateDict
    from activarium.tasks.models.weights_fit import Target


def loading_notes(target: Target, state: StateDict) -> tuple[str, ...]:
    """Return lines about entries that change as they are loaded, and about those left alone."""
    expected = target.expected()
    read = {n: each for n, each in target.read(state).items() if n in expected}
    pairs = [
        (n, each, own)
        for n, each in tensors_in(read)
        if isinstance(own := expected[n], torch.Tensor)
    ]
    lines = {
        line: [n for n, each, own in pairs if changes(each, own)]
        for line, changes in _CHANGES.items()
    } | _left_alone(target, state)
    return tuple(f"{counted(names)}: {line}" for line, names in lines.items() if names)


_CHANGES: dict[str, Callable[[torch.Tensor, torch.Tensor], bool]] = {
    "quantised; values used as float32": (
        lambda each, own: each.is_quantized and not own.is_quantized
    ),
    "whole numbers in the file, floats in the model; used as they are, without a scale": (
        lambda each, own: own.is_floating_point() and _is_whole(each)
    ),
    "true and false in the file, numbers in the model; used as 1 and 0": (
        lambda each, own: each.dtype == torch.bool and own.dtype != torch.bool
    ),
    "floats in the file, whole numbers in the model; rounded": (
        lambda each, own: each.is_floating_point() and _is_integral(own) and _has_fractions(each)
    ),
    "NaN or infinite values in the file": lambda each, _: _is_broken(each),
}
"""What happens to an entry of the file, and to which, given that of the model."""


def _left_alone(target: Target, state: StateDict) -> dict[str, list[str]]:
    expected, entries = target.expected(), state.entries
    absent = [n for n in expected if n not in entries]
    heads = [n for n in entries if n.startswith(target.heads) and n not in expected]
    strange = [n for n in entries if is_extra_state(n) and not (n in expected and target.sets(n))]
    kept = [n for n in absent if is_extra_state(n) or n.startswith(target.heads)]
    return {
        "not in the file; the model's own kept": kept,
        "left out; of heads that only training uses": heads,
        "left out; not taken by the model": strange,
    }


def complex_entries(target: Target, state: StateDict) -> list[str]:
    """Return the names of complex entries for which the model has real numbers."""
    expected = target.expected()
    return [
        n
        for n, each in tensors_in(target.read(state))
        if each.is_complex()
        and isinstance(expected.get(n), torch.Tensor)
        and not expected[n].is_complex()
    ]


def quantisation_notes(model: nn.Module) -> tuple[str, ...]:
    """Return a line about the modules whose weights are quantised, where there are any."""
    entries: dict[str, Any] = model.state_dict()
    kept = [name.partition(f".{PACKED}")[0] for name in entries if PACKED in name]
    kept += [name for name, tensor in tensors_in(entries) if tensor.is_quantized]
    names = list(dict.fromkeys(kept))
    if not names:
        return ()
    first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return (f"the model's weights of {first} are quantised; they are used as they are",)


def _is_whole(tensor: torch.Tensor) -> bool:
    kinds = (tensor.is_floating_point(), tensor.is_complex(), tensor.is_quantized)
    return not any(kinds) and tensor.dtype != torch.bool


def _is_integral(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()


def _has_fractions(tensor: torch.Tensor) -> bool:
    return bool((tensor != tensor.round()).any())


def _is_broken(tensor: torch.Tensor) -> bool:
    is_plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
    if not is_plain or not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    # Types of one byte are not asked whether they are finite.
    values = tensor.float() if tensor.itemsize == 1 else tensor
    return not bool(torch.isfinite(values).all())


def counted(names: list[str]) -> str:
    """Return the number of some entries and the first of them."""
    first = f"the first {names[0]!r}" if len(names) > 1 else repr(names[0])
    return f"{len(names)} entr{'ies' if len(names) > 1 else 'y'} of the weights ({first})"
