"""Writing files of `torch.export`, for the tests of what reads them."""

from __future__ import annotations

import warnings

import torch
from torch.export import Dim


def export_model(model, images, *, batch="batch", **dims):
    """Return the exported program; `batch=None` keeps the batch size of the images."""
    axes = {} if batch is None else {0: Dim(batch, **dims)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its next release
        return torch.export.export(model, (images,), dynamic_shapes=(axes,) if axes else None)


def write_export(path, model, images, *, extra_files=None, **settings):
    """Write an exported program and return its path."""
    program = export_model(model, images, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files=extra_files)
    return path


def write_script(path, model, images):
    """Write a TorchScript file and return its path."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        torch.jit.trace(model, images).save(str(path))
    return path
