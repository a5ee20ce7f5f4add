"""Models by name: building them, loading their weights, and what identifies them."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import OrderedDict
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.architectures import TwoBlockCNN, resnet18

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activarium.schemas.config import ModelConfig

OWN = ("resnet18", "two-block-cnn")
PREFIX = "torchvision:"
AUXILIARY = ("aux1", "aux2", "AuxLogits")
"""Heads of GoogLeNet and Inception that only training uses; models are built without them."""
TRANSFORMING = ("googlenet", "inception_v3")
"""Models that can normalise their input once more; their state dict does not tell."""

_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
)


def _torchvision_name(config: ModelConfig) -> str | None:
    """Return the name of torchvision's model, None for one of our own."""
    if config.architecture in OWN:
        return None
    known = torchvision.models.list_models(module=torchvision.models)
    name = config.architecture.removeprefix(PREFIX)
    if name in known:
        return name
    close = get_close_matches(name.lower(), [*OWN, *known], n=3) or list(OWN)
    raise UserError(
        f"unknown model.architecture {config.architecture!r}; did you mean {', '.join(close)}? "
        f"known are {', '.join(OWN)} and torchvision's classification models"
    )


def is_pretrained(config: ModelConfig) -> bool:
    """Tell whether the weights are torchvision's by name (capitals), not a file or training."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]*", config.weights) is not None


def _pretrained(config: ModelConfig) -> Any:
    """Return torchvision's weights entry, None where the weights are no such name."""
    if not is_pretrained(config):
        return None
    name = _torchvision_name(config)
    if name is None:
        raise UserError(
            f"model.weights {config.weights!r} names torchvision's pretrained weights, but our own "
            f"{config.architecture} has none; use {PREFIX}resnet18, or a weights file"
        )
    entries = torchvision.models.get_model_weights(name).__members__
    if config.weights not in entries:
        raise UserError(
            f"{name} has no pretrained weights {config.weights!r}; it has {', '.join(entries)}"
        )
    return entries[config.weights]


def model_name(config: ModelConfig) -> str:
    """Return the model's name in the atlas: the configured one, or architecture and width.

    Raises
    ------
    UserError
        Where the architecture is unknown.
    """
    if config.name is not None:
        return config.name
    name = _torchvision_name(config)
    if name is not None:
        return f"torchvision-{name}" if name in OWN else name
    if config.architecture == "two-block-cnn" and config.width == 64:
        return config.architecture
    return f"{config.architecture}-w{config.width}"


def checkpoint_name(config: ModelConfig) -> str:
    """Return the name of the model's state: configured, untrained, file stem or weights' name.

    Raises
    ------
    UserError
        For `trained` weights: the training names its checkpoints itself.
    """
    if config.checkpoint is not None:
        return config.checkpoint
    if config.weights == "trained":
        raise UserError("model.weights 'trained' has no checkpoint name before it is trained")
    if config.weights == "untrained":
        return config.weights
    entry = _pretrained(config)
    return Path(config.weights).stem if entry is None else str(entry.name).lower()


def pretrained_preprocessing(config: ModelConfig) -> PreprocessingConfig | None:
    """Return the preprocessing that torchvision's weights were measured with, None for others."""
    entry = _pretrained(config)
    if entry is None:
        return None
    preset = entry.transforms()
    return PreprocessingConfig(
        resize=preset.resize_size[0],
        size=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        sd=tuple(preset.std),
    )


def pretrained_classes(config: ModelConfig) -> tuple[str, ...] | None:
    """Return the class names of torchvision's weights in the outputs' order, None for others."""
    entry = _pretrained(config)
    return None if entry is None else tuple(entry.meta["categories"])


def transforms_input(config: ModelConfig) -> bool:
    """Tell whether the model normalises its input once more: as configured, else if pretrained.

    Raises
    ------
    UserError
        Where it is asked of a model that cannot.
    """
    if _torchvision_name(config) in TRANSFORMING:
        chosen = config.transform_input
        return is_pretrained(config) if chosen is None else chosen
    if config.transform_input:
        raise UserError(
            f"model.transform_input: expected {' or '.join(TRANSFORMING)}, {config.architecture!r} "
            "cannot transform its input; leave the setting out"
        )
    return False


def input_colours(config: ModelConfig, test_set_colours: int) -> int:
    """Return the channels of the input: as configured, else the test set's, 3 for torchvision's.

    Raises
    ------
    UserError
        Where a model of torchvision is to take grey images.
    """
    if config.architecture in OWN:
        return config.colours or test_set_colours
    if config.colours == 1:
        raise UserError(
            f"model.colours: torchvision's {config.architecture} takes 3 colours, got 1; leave the "
            "setting out, grey images are given to all three"
        )
    return 3


def _torchvision_options(name: str, config: ModelConfig, size: tuple[int, int]) -> dict[str, Any]:
    """Return the constructor's arguments that only some architectures take."""
    if name in TRANSFORMING:
        transform = transforms_input(config)
        return {"aux_logits": False, "init_weights": True, "transform_input": transform}
    if name.startswith("vit_"):
        return {"image_size": size[0]}
    return {"input_size": size} if name.startswith("maxvit") else {}


def build_model(
    config: ModelConfig, *, classes: int, colours: int, size: tuple[int, int]
) -> nn.Module:
    """Build an untrained model from its seed, leaving the global random state alone.

    Parameters
    ----------
    config
        Architecture, width, seed, and the number of outputs where it is not `classes`.
    classes
        Number of classes of the test set.
    colours
        Channels of the input; torchvision's models always take 3.
    size
        Height and width of the input, in pixels.

    Returns
    -------
    nn.Module
        In float32 and eval mode, on the CPU.

    Raises
    ------
    UserError
        Where the architecture is unknown or does not take images of this size.
    """
    name = _torchvision_name(config)
    transforms_input(config)  # refuses the setting for models without it
    pretrained = pretrained_classes(config)
    outputs = config.outputs or (classes if pretrained is None else len(pretrained))
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the CUDA generators too, which fork_rng leaves out here.
        torch.default_generator.manual_seed(config.seed)
        model: nn.Module
        if config.architecture == "resnet18":
            model = resnet18(colours=colours, outputs=outputs, width=config.width)
        elif name is None:
            model = TwoBlockCNN(colours=colours, outputs=outputs, size=size, width=config.width)
        else:
            options = _torchvision_options(name, config, size)
            try:
                model = torchvision.models.get_model(
                    name, weights=None, num_classes=outputs, **options
                )
            except (AssertionError, ValueError) as error:
                raise UserError(
                    f"{name} cannot be built for images of {size[0]}x{size[1]} pixels: {error}; "
                    "set preprocessing.size"
                ) from error
    return model.float().eval()


def load_pretrained(config: ModelConfig) -> nn.Module:
    """Return torchvision's pretrained model, downloading its weights where they are not cached.

    Raises
    ------
    UserError
        Where there are no such weights, they have another number of outputs than asked for, or
        the download fails.
    """
    entry = _pretrained(config)
    if entry is None:
        raise UserError(f"model.weights {config.weights!r} is no name of torchvision's weights")
    outputs = len(entry.meta["categories"])
    if config.outputs not in (None, outputs):
        raise UserError(f"{entry} has {outputs} outputs, model.outputs asks for {config.outputs}")
    name = _torchvision_name(config)
    transform = transforms_input(config)
    options = {"transform_input": transform} if name in TRANSFORMING else {}
    try:
        with torch.random.fork_rng(devices=[]):
            model: nn.Module = torchvision.models.get_model(
                name, weights=entry, progress=False, **options
            )
    except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"could not download or read {entry} ({error}); fetch {entry.url} where there is a "
            f"network and put it into {Path(torch.hub.get_dir()) / 'checkpoints'}, or name the "
            "file in model.weights"
        ) from error
    for head in AUXILIARY:
        if hasattr(model, head):
            setattr(model, head, None)
            model.aux_logits = False  # type: ignore[assignment]
    return model.float().eval()


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict, out of the nesting and the prefixes that training code adds."""
    if not path.is_file():
        raise UserError(
            f"model.weights: there is no file {path}; give a safetensors or state-dict file, "
            "untrained, trained, or torchvision's weights by name, such as DEFAULT"
        )
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path} is damaged or no state dict ({reason}); save model.state_dict(), not the model"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict: expected tensors by name, got {type(state)}")
    for prefix in ("module.", "_orig_mod."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def _hint(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """Guess from the shapes what to change; empty where nothing is evident."""
    wanted, got = expected.get("conv1.weight"), state.get("conv1.weight")
    if wanted is not None and got is not None and wanted.shape != got.shape and got.ndim == 4:
        if wanted.shape[2:] != got.shape[2:]:
            return f"; use {PREFIX}resnet18 for torchvision's own, resnet18 for the CIFAR stem"
        if wanted.shape[0] != got.shape[0]:
            return f"; the file's first convolution has {got.shape[0]} channels: set model.width"
        return f"; the file takes {got.shape[1]} colours: set model.colours"
    last = next((name for name in reversed([*expected]) if name.endswith("weight")), "")
    if last in state and expected[last].shape[1:] == state[last].shape[1:]:
        return f"; the file has {state[last].shape[0]} outputs: set model.outputs"
    return ""


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors or state-dict file into a model; all names and shapes must agree.

    Parameters
    ----------
    model
        Changed in place, only where everything agrees.
    path
        A `.safetensors` file, or one of `torch.save` that holds a state dict, alone or under
        `state_dict` or `model`, with or without the prefix `module.`. Auxiliary heads may be
        there or not.

    Raises
    ------
    UserError
        Where the file is missing, damaged, no state dict, or of another model.
    """
    expected: dict[str, torch.Tensor] = model.state_dict()
    read = _read_state(path)
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
        raise UserError(f"{path} does not fit the model: {'; '.join(faults)}{hint}")
    state = OrderedDict((name, read.get(name, tensor)) for name, tensor in expected.items())
    # Some models refuse a state dict without its modules' versions, which safetensors drops.
    state._metadata = expected._metadata  # type: ignore[attr-defined]  # noqa: SLF001
    model.load_state_dict(state)


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
