"""Files of `torch.export`: a program with its weights, read back as a module."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch.utils import _pytree as pytree

from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.entry_points import LOADING, one_line
from activarium.tasks.models.export_archive import RefusedArchiveError, clean_archive
from activarium.tasks.models.exported_modules import module_tree
from activarium.tasks.models.weights_files import file_content, kind_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn
    from torch.export import ExportedProgram

PREPROCESSING_FILE = "preprocessing.json"
"""Extra file of the archive that may hold the preprocessing, as the configuration does."""

TOLERANCE = 1e-4
"""Largest difference between a program taken apart and whole, as a share of the largest output."""

_TRAINING_ARGUMENTS = {torch.ops.aten.batch_norm.default: 5, torch.ops.aten.dropout.default: 2}
"""Place of the argument that says whether the operation trains."""

_LOGGERS = ("torch.export", "torch.export.pt2_archive._package", "torch._export")


@dataclass(frozen=True)
class ExportFile:
    """An exported program and what it takes."""

    model: nn.Module
    """In eval mode, with the weights as they are in the file; it computes in float32."""
    colours: int
    size: tuple[int, int] | None
    """Height and width, None where it takes any."""
    preprocessing: PreprocessingConfig | None
    """What the file offers, None where it holds nothing."""
    sha256: str


def read_export_file(path: Path) -> ExportFile:
    """Read a file of `torch.export.save` and check that images can be run through it in batches.

    Raises
    ------
    UserError
        If the file is missing or no exported program, or the program takes no batches of images,
        only those of one size, or was exported in training mode.
    """
    content = file_content(path, setting="model.architecture")
    program, extra = _load(path, content)
    sha256 = hashlib.sha256(content).hexdigest()
    del content
    images = _images(program, path)
    _check_mode(program, path)
    _, colours, *sides = images.shape
    height, width = (side if isinstance(side, int) else None for side in sides)
    size = None if height is None or width is None else (height, width)
    model = _model(program, path)
    model.register_forward_pre_hook(_InputCheck(path.name, int(colours), size, _most(program)))
    return ExportFile(model, int(colours), size, _preprocessing(extra, path), sha256)


def _load(path: Path, content: bytes) -> tuple[ExportedProgram, str]:
    kind = kind_of_file(path)
    if kind != "export":
        raise UserError(f"{path} is no program of torch.export.save: it is {_KINDS[kind]}")
    extra = {PREPROCESSING_FILE: ""}
    LOADING.info("model.architecture: loading the program of %s", path)
    try:
        with _silent(), clean_archive(content, PREPROCESSING_FILE) as archive:
            return torch.export.load(archive, extra_files=extra), extra[PREPROCESSING_FILE]
    except RefusedArchiveError as error:
        raise UserError(
            f"{path} is not loaded, nothing of it was run: {error}; export the model again "
            "(torch.export.save), or get the file from where you trust"
        ) from error
    except Exception as error:  # whatever a damaged archive or an unknown operation raises
        raise UserError(
            f"{path} cannot be loaded by torch {torch.__version__} ({one_line(error)}); export it "
            "again with this version"
        ) from error


_KINDS = {
    "torchscript": "TorchScript, which is not supported; export the model with torch.export",
    "pickle": "a file of torch.save; name the architecture, and this file in model.weights",
    "safetensors": "a safetensors file; name the architecture, and this file in model.weights",
    "unknown": "of another kind, or damaged",
}


@contextmanager
def _silent() -> Iterator[None]:
    """Keep torch's log of a failing load, with its tracebacks, to itself."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _images(program: ExportedProgram, path: Path) -> torch.Tensor:
    """Return the program's input as it was at the export; its first axis is no number."""
    inputs = set(program.graph_signature.user_inputs)
    values = [n.meta.get("val") for n in program.graph.nodes if n.name in inputs]
    if len(inputs) != 1 or len(values) != 1 or not isinstance(values[0], torch.Tensor):
        raise UserError(
            f"{path}: expected a program of one input, images (image, colour, row, column), got "
            f"{len(inputs)} inputs; export a model that takes images alone"
        )
    images = values[0]
    if images.dim() != 4 or not isinstance(images.shape[1], int):
        raise UserError(
            f"{path}: expected an input (image, colour, row, column) with a fixed number of "
            f"colours, the program takes {tuple(images.shape)}"
        )
    if isinstance(images.shape[0], int):
        raise UserError(
            f"{path} takes batches of exactly {images.shape[0]} images: export it with a dynamic "
            "batch dimension, torch.export.export(model, (images,), dynamic_shapes=({0: "
            "torch.export.Dim('batch')},)), with at least 2 images"
        )
    return images


def _check_mode(program: ExportedProgram, path: Path) -> None:
    for node in program.graph.nodes:
        place = _TRAINING_ARGUMENTS.get(node.target)
        if place is not None and len(node.args) > place and node.args[place] is True:
            raise UserError(
                f"{path} was exported in training mode ({node.name} trains): call model.eval() "
                "before torch.export.export"
            )


def _model(program: ExportedProgram, path: Path) -> nn.Module:
    """Return the program as modules, tried on the images that it was exported with."""
    try:
        model = module_tree(program).eval()
        args, _ = program.example_inputs or ((), {})
        if args and args[0].dtype == torch.float32:
            with torch.no_grad():
                outputs = (pytree.tree_leaves(each(*args)) for each in (model, program.module()))
                for found, wanted in zip(*outputs, strict=True):
                    _check_equal(found, wanted)
    except Exception as error:  # whatever an operation of the user's raises
        raise UserError(
            f"{path} cannot be taken apart into its layers ({one_line(error)}); use an entry point "
            "or a weights file for this model"
        ) from error
    return model


def _check_equal(found: torch.Tensor, wanted: torch.Tensor) -> None:
    largest = float(wanted.nan_to_num().abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE * largest, equal_nan=True)


def _most(program: ExportedProgram) -> int | None:
    """Return the images of the largest batch; None where any number will do."""
    (name,) = program.graph_signature.user_inputs
    images = next(n.meta["val"] for n in program.graph.nodes if n.name == name)
    limits = program.range_constraints.get(images.shape[0].node.expr)
    upper = str(limits.upper) if limits is not None else ""
    return int(upper) if upper.isdigit() and int(upper) < 2**31 else None


def _preprocessing(text: str, path: Path) -> PreprocessingConfig | None:
    if not text:
        return None
    try:
        return PreprocessingConfig.model_validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise UserError(
            f"{path}: {PREPROCESSING_FILE} does not hold the settings of `preprocessing` as JSON: "
            f"{one_line(error)}"
        ) from error


@dataclass(frozen=True)
class _InputCheck:
    """Refuses what the program was not exported for, before an operation fails on it."""

    name: str
    colours: int
    size: tuple[int, int] | None
    most: int | None

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        images = inputs[0]
        fits = images.shape[1] == self.colours and self.size in (None, tuple(images.shape[2:]))
        if not fits:
            side = "any size" if self.size is None else f"{self.size[0]}x{self.size[1]} pixels"
            raise ValueError(
                f"{self.name} was exported for images of {self.colours} colours and {side}"
            )
        if self.most is not None and len(images) > self.most:
            raise ValueError(
                f"{self.name} was exported for batches of at most {self.most} images: set "
                f"record.batch_size to {self.most}"
            )
