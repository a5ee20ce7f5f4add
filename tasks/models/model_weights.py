"""Weights: reading them from files into a model, drawing them anew, and what identifies them."""

from __future__ import annotations

import hashlib
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file

from activarium.schemas.errors import UserError
from activarium.tasks.models.exported_modules import ExportedModule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import nn

FileKind = Literal["safetensors", "export", "torchscript", "pickle", "unknown"]

AUXILIARY = ("aux1", "aux2", "AuxLogits", "aux_classifier")
"""Heads of torchvision's models that only training uses; models are built without them."""


def kind_of_file(path: Path) -> FileKind:
    """Return what kind of model file this is, by its content."""
    if path.suffix == ".safetensors":
        return "safetensors"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return "unknown"
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner:
        return "torchscript"
    if "data.pkl" in inner:
        return "pickle"
    is_export = any(name.startswith("models/") for name in inner)
    return "export" if is_export or "serialized_exported_program.json" in names else "unknown"


def file_sha256(path: Path, *, setting: str) -> str:
    """Return the checksum of a file, or say that it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{setting}: cannot read {path}: {error.strerror}") from error


_FOREIGN: dict[FileKind, str] = {
    "torchscript": "TorchScript, which is not supported: save model.state_dict() of the model that "
    "was scripted, or export it with torch.export",
    "export": "a torch.export program, which brings its own model: leave model.architecture out",
}


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict, out of the nesting and the prefixes that training code adds."""
    state = _read(path)
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict: expected tensors by name, got {type(state)}")
    for prefix in ("module.", "_orig_mod."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def _read(path: Path) -> Any:
    """Return what a file of weights holds."""
    if not path.is_file():
        raise UserError(
            f"model.weights: there is no file {path}; give a safetensors or state-dict file, "
            "untrained, trained, or pretrained weights by name, such as DEFAULT"
        )
    kind = kind_of_file(path)
    if kind in _FOREIGN:
        raise UserError(f"model.weights: {path} is {_FOREIGN[kind]}")
    try:
        if kind == "safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can make the unpickler raise anything
        reason = str(error).strip().partition("\n")[0]
        if "Weights only" in reason:
            reason = "it holds objects other than tensors, as a whole model does"
        raise UserError(
            f"{path} is damaged or no state dict ({reason}); save model.state_dict(), not the model"
        ) from error


def _hint(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """Guess from the shapes what to change; empty where nothing is evident."""
    wanted, got = expected.get("conv1.weight"), state.get("conv1.weight")
    if wanted is not None and got is not None and wanted.shape != got.shape and got.ndim == 4:
        if wanted.shape[2:] != got.shape[2:]:
            return "; use torchvision:resnet18 for torchvision's own, resnet18 for the CIFAR stem"
        if wanted.shape[0] != got.shape[0]:
            return f"; the file's first convolution has {got.shape[0]} channels: set model.width"
        return f"; the file takes {got.shape[1]} colours: set model.colours"
    last = next((name for name in reversed([*expected]) if name.endswith("weight")), "")
    if last in state and expected[last].shape[1:] == state[last].shape[1:]:
        return f"; the file has {state[last].shape[0]} outputs: set model.outputs"
    return ""


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def load_weights(model: nn.Module, path: Path, *, except_module: str = "") -> tuple[str, ...]:
    """Load a safetensors or state-dict file into a model; all names and shapes must agree.

    Parameters
    ----------
    model
        Changed in place, only where everything agrees.
    path
        A `.safetensors` file, or one of `torch.save` that holds a state dict, alone or under
        `state_dict` or `model`, with or without the prefix `module.`. Auxiliary heads may be
        there or not.
    except_module
        A module that keeps its weights, whatever the file has for it.

    Returns
    -------
    tuple[str, ...]
        What there is to say about the weights: whether they were converted to float32.

    Raises
    ------
    UserError
        Where the file is missing, damaged, no state dict, or of another model.
    """
    return fill(model, _read_state(path), origin=str(path), except_module=except_module)


def fill(
    model: nn.Module, state: Mapping[str, torch.Tensor], *, origin: str, except_module: str = ""
) -> tuple[str, ...]:
    """Put a state dict into a model, as `load_weights` does; `origin` begins the message of a fault."""
    kept = f"{except_module}." if except_module else None
    expected: dict[str, torch.Tensor] = model.state_dict()
    read = {name: t for name, t in state.items() if kept is None or not name.startswith(kept)}
    if kept is not None:
        read |= {name: tensor for name, tensor in expected.items() if name.startswith(kept)}
    heads = tuple(f"{head}." for head in AUXILIARY)
    unexpected = [n for n in read if n not in expected and not n.startswith(heads)]
    # Files older than batch norm's counter lack it; it plays no part in the forward pass.
    optional = [n for n in expected if n.startswith(heads) or n.endswith("num_batches_tracked")]
    missing = [n for n in expected if n not in read and n not in set(optional)]
    differing = [
        f"{n} {tuple(read[n].shape)} in the file, {tuple(expected[n].shape)} in the model"
        for n in expected
        if n in read and read[n].shape != expected[n].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": differing}
    faults = [f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names]
    if faults:
        hint = _hint(expected, read)
        raise UserError(f"{origin} does not fit the model: {'; '.join(faults)}{hint}")
    filled = OrderedDict((name, read.get(name, tensor)) for name, tensor in expected.items())
    # Some models refuse a state dict without its modules' versions, which safetensors drops.
    filled._metadata = expected._metadata  # type: ignore[attr-defined]  # noqa: SLF001
    model.load_state_dict(filled)
    return conversion_notes(tensor.dtype for tensor in read.values())


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
        64 hex digits over name, dtype, shape and bytes, sorted by name; batch norm's counters of
        batches, which no output depends on, are left out. A model that transforms its input has
        another checksum than one with the same weights that does not.
    """
    digest = hashlib.sha256()
    if getattr(model, "transform_input", False) is True:
        digest.update(b"transform_input\n")
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()
