"""Files of weights: what kind of file one is, and what it holds."""

from __future__ import annotations

import pickle
import tarfile
import warnings
import zipfile
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file

from activarium.schemas.errors import UserError
from activarium.tasks.models.inert_pickle import HostilePickleError, InertObject, read_inert
from activarium.tasks.models.pickle_scan import RefusedPickleError, scan_file
from activarium.tasks.stores.checksum_files import refuse_damaged_model

if TYPE_CHECKING:
    from pathlib import Path

FileKind = Literal["safetensors", "export", "torchscript", "pickle", "unknown"]


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


def file_content(path: Path, *, setting: str) -> bytes:
    """Return the bytes of a file, or say that it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{setting}: cannot read {path}: {error.strerror}") from error


_FOREIGN: dict[FileKind, str] = {
    "torchscript": "TorchScript, which is not supported: save model.state_dict() of the model that "
    "was scripted, or export it with torch.export",
    "export": "a torch.export program, which brings its own model: leave model.architecture out",
}


def read_weights_file(path: Path) -> Any:
    """Return what a file of weights holds; of objects that are no data, only what it says of them.

    Raises
    ------
    UserError
        Where the file is missing, damaged, or of another kind; also where it is of a training in an
        atlas, and not what that training wrote.
    """
    if not path.is_file():
        raise UserError(
            f"model.weights: there is no file {path}; give a safetensors or state-dict file, "
            "untrained, trained, or pretrained weights by name, such as DEFAULT"
        )
    refuse_damaged_model(path)
    kind = kind_of_file(path)
    if kind in _FOREIGN:
        raise UserError(f"model.weights: {path} is {_FOREIGN[kind]}")
    if kind != "safetensors" and _is_tar(path):
        raise UserError(
            f"model.weights: {path} is a tar archive, which is not read: unpack it and give the file of "
            "weights within; one of torch's own from before its version 0.2 has to be saved again"
        )
    try:
        content = load_file(path) if kind == "safetensors" else _unpickled(path)
    except HostilePickleError as error:
        raise UserError(
            f"{path} asks for {error} when it is opened, which no file of weights needs: nothing "
            "of it was run; do not open it elsewhere, and get the weights from where you trust"
        ) from error
    except RefusedPickleError as error:
        raise UserError(
            f"{path} would take memory or time without bound when it is opened ({error}), as no file of "
            "weights does: nothing of it was read; get the weights from where you trust"
        ) from error
    except Exception as error:  # damaged bytes can make the unpickler raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{path} is damaged or no state dict ({reason}); save model.state_dict(), not the model"
        ) from error
    if isinstance(content, InertObject):
        raise UserError(
            f"{path} is no state dict: it holds objects other than tensors, one of "
            f"{content.class_name[:80] or 'an unknown class'}, as a file of a whole model does; save "
            "model.state_dict(), not the model"
        )
    return content


def _is_tar(path: Path) -> bool:
    try:
        with tarfile.open(path) as archive:
            return archive.next() is not None
    except Exception:  # noqa: BLE001 - of any kind, where it is something else
        return False


def _unpickled(path: Path) -> Any:
    scan_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles' protocols, and old kinds of tensors
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # other objects lie beside the tensors
        return read_inert(path)
