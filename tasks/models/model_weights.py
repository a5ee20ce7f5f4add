"""Weights: reading them from files into a model, drawing them anew, and what identifies them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.entry_points import one_line
from activarium.tasks.models.architectures import SmallImageResNet18, TwoBlockCNN
from activarium.tasks.models.exported_modules import ExportedModule
from activarium.tasks.models.state_dicts import StateDict, is_extra_state
from activarium.tasks.models.weights_checksum import entry_bytes
from activarium.tasks.models.weights_choice import choose_state, closest, state_dicts_in
from activarium.tasks.models.weights_files import read_weights_file
from activarium.tasks.models.weights_fit import Faults, Target, unread_parts
from activarium.tasks.models.weights_notes import complex_entries, counted, loading_notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn


def load_weights(
    model: nn.Module, path: Path, *, except_module: str = "", key: str | None = None
) -> tuple[str, ...]:
    """Load a safetensors or state-dict file into a model, as `load_state_dict(strict=True)` takes it.

    Parameters
    ----------
    model
        Changed in place, only where everything agrees.
    path
        A `.safetensors` file, or one of `torch.save` that holds a state dict, alone or under any
        key, with or without what wrappers and trainers put before its names. Auxiliary heads may
        be there or not.
    except_module
        A module that keeps its weights, whatever the file has for it.
    key
        Which state dict of the file is meant: a key, several joined by dots, or what its names
        begin with. By default the one that fits; of several, the one by the likeliest key.

    Returns
    -------
    tuple[str, ...]
        What there is to say about the weights: which were taken, and how they were converted.

    Raises
    ------
    UserError
        Where the file is missing, damaged, no state dict, or of another model, or several of its
        state dicts fit and nothing tells which is meant.
    """
    content = read_weights_file(path)
    states = state_dicts_in(content, key=key, origin=str(path))
    return _fill(Target(model, except_module), states, origin=str(path))


def fill(
    model: nn.Module, state: Mapping[str, torch.Tensor], *, origin: str, except_module: str = ""
) -> tuple[str, ...]:
    """Put a state dict into a model, as `load_weights` does; `origin` begins the message of a fault."""
    return _fill(Target(model, except_module), [StateDict("", dict(state))], origin=origin)


def _fill(target: Target, states: Sequence[StateDict], *, origin: str) -> tuple[str, ...]:
    found = choose_state(target, states, origin=origin)
    if found is None:
        nearest = closest(target, states)
        faults = target.faults(nearest)
        hint = _hint(target.model, faults, nearest)
        under = f", the state dict under {nearest.label!r}," if nearest.label else ""
        described = "; ".join(_described(target, nearest, faults))
        raise UserError(f"{origin}{under} does not fit the model: {described}{hint}")
    chosen, notes = found
    _refuse_unread(target, chosen, origin)
    imaginary = complex_entries(target, chosen)
    if imaginary:
        raise UserError(
            f"{origin} does not fit the model: {counted(imaginary)}: complex in the file, real in the "
            "model; save the real numbers that are meant"
        )
    said = (*notes, *loading_notes(target, chosen))
    try:
        target.load(chosen)
    except Exception as error:  # modules load in their own ways
        raise UserError(f"{origin} does not fit the model: {one_line(error)}") from error
    read = target.read(chosen).values()
    kinds = [each.dtype for each in read if isinstance(each, torch.Tensor)]
    return (*conversion_notes(kinds), *said)


def _described(target: Target, state: StateDict, faults: Faults) -> list[str]:
    expected, read = target.expected(), target.read(state)
    if not faults:
        return ["the model's own loading refuses it"]
    differing = [
        f"{n} {_shape(read[n])} in the file, {_shape(expected[n])} in the model"
        for n in faults.differing
    ]
    kinds = {
        "missing": [*faults.missing],
        "unexpected": [*faults.unexpected],
        "of another shape": differing,
    }
    return [f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names]


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__


def _refuse_unread(target: Target, state: StateDict, origin: str) -> None:
    for name, value in state.entries.items():
        if is_extra_state(name) and not (name in target.expected() and target.sets(name)):
            continue  # left out, which is said
        for part in unread_parts(value):
            raise UserError(
                f"{origin}: {name!r} holds an object of {part.class_name or 'an unknown class'}; "
                "only tensors, containers, numbers and texts are read: save it as such"
            )


def _hint(model: nn.Module, faults: Faults, state: StateDict) -> str:
    """Return what to change in the configuration, where the shapes alone differ and tell it."""
    if not faults.differing or faults.missing or faults.unexpected:
        return ""
    expected, read = model.state_dict(), state.entries
    names = [n for n in expected if isinstance(expected[n], torch.Tensor)]
    last = next((n for n in reversed(names) if expected[n].ndim > 1), "")
    head = last.rpartition(".")[0]
    tails = {tuple(t[n].shape[1:]) for t in (expected, read) for n in [last] if n in read}
    if len(tails) == 1 and all(n.rpartition(".")[0] == head for n in faults.differing):
        outputs = read[last].shape[0]
        return f"; the file has {outputs} outputs: set model.outputs, or an option of the model"
    if isinstance(model, SmallImageResNet18 | TwoBlockCNN):
        return _hint_of_own(expected["conv1.weight"], read["conv1.weight"])
    return ""


def _hint_of_own(wanted: torch.Tensor, got: torch.Tensor) -> str:
    if wanted.shape == got.shape or got.ndim != 4:
        return ""
    if wanted.shape[2:] != got.shape[2:]:
        return "; use torchvision:resnet18 for torchvision's own, resnet18 for the CIFAR stem"
    if wanted.shape[0] != got.shape[0]:
        return f"; the file's first convolution has {got.shape[0]} channels: set model.width"
    return f"; the file takes {got.shape[1]} colours: set model.colours"


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def conversion_notes(dtypes: Iterable[torch.dtype]) -> tuple[str, ...]:
    """Return a line about weights of other types than float32, which they become."""
    other = {dtype for dtype in dtypes if dtype.is_floating_point} - {torch.float32}
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in other))
    return (f"the model's weights are {names}; they are used as float32",) if other else ()


def draw_anew(model: nn.Module, seed: int) -> None:
    """Give a model other weights, as it might have had them at its start.

    Modules draw theirs by their own `reset_parameters`. Parameters of modules without one keep
    their values, in another order.

    Parameters
    ----------
    model
        Changed in place, and moved to the CPU: another device would draw other numbers.
    seed
        Seed of the weights; the global random state is left alone.
    """
    model.cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and not isinstance(module, ExportedModule):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                order = torch.randperm(parameter.numel())
                parameter.copy_(parameter.flatten()[order].view_as(parameter))


def weights_sha256(model: nn.Module) -> str:
    """Return the checksum of all weights, whatever their device and memory format.

    Returns
    -------
    str
        64 hex digits over name, dtype, shape and bytes, sorted by name; what modules keep as extra
        state is counted by its content. Batch norm's counters of batches, which no output depends
        on, are left out. A model that transforms its input has another checksum than one with the
        same weights that does not.

    Raises
    ------
    UserError
        If an extra state holds an object that has no stable content.
    """
    digest = hashlib.sha256()
    if getattr(model, "transform_input", False) is True:
        digest.update(b"transform_input\n")
    for name, value in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} ".encode())
        try:
            for part in entry_bytes(value):
                digest.update(part)
        except Exception as error:  # objects of any class
            raise UserError(
                f"the model's entry {name!r} cannot be told from another ({one_line(error)}); let "
                "get_extra_state return tensors, containers, numbers and texts"
            ) from error
    return digest.hexdigest()
