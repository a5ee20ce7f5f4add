"""The same work by other programs: the mean of every layer's map, per image and channel.

Each peer is a function of a subject that returns a function of a batch, and how many units that
returns. Where a peer cannot do the work, it raises `AbsentPeerError` with the reason.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from typing import TYPE_CHECKING
from unittest.mock import MagicMock, patch

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from subjects import Subject

TENSORFLOW = (
    "tensorflow",
    "tensorflow.keras",
    "tensorflow.keras.applications",
    "tensorflow.keras.layers",
)
"""Modules of TensorFlow that thingsvision imports."""

OPERATIONS = ("conv2d", "batchnorm", "relu", "maxpool2d", "adaptiveavgpool2d", "linear")
"""What torchlens calls the operations that are layers of their own."""


class AbsentPeerError(Exception):
    """A peer that is not installed or does not run here; carries the reason."""


def _means(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    return [each.mean((2, 3)) if each.dim() == 4 else each for each in maps]


def torchvision_extractor(subject: Subject) -> tuple[Callable[[torch.Tensor], object], int]:
    """Return torchvision's feature extractor of all layers, with means after it."""
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = [_node(tap.call) for tap in subject.layers.taps]
    extractor = create_feature_extractor(subject.model, {node: node for node in nodes}).eval()

    def extract(batch: torch.Tensor) -> object:
        with torch.inference_mode():
            return _means([*extractor(batch).values()])

    return extract, subject.layers.units


def _node(call: str) -> str:
    """Return torchvision's name of a call: `layer1.0.relu:2` is its `layer1.0.relu_1`."""
    name, _, repetition = call.partition(":")
    return f"{name}_{int(repetition) - 1}" if repetition else name


def thingsvision_extractor(subject: Subject) -> tuple[Callable[[torch.Tensor], object], int]:
    """Return thingsvision's extraction of all modules, with means after it.

    It keeps one output per module: the last call's; functions are no modules.
    """
    # It imports TensorFlow without need, which brings an LLVM that clashes with numba's, and asks
    # for a name that numpy 2 has moved.
    tensorflow = MagicMock()
    tensorflow.config.list_physical_devices.return_value = []
    sys.modules.update(dict.fromkeys(TENSORFLOW, tensorflow))
    try:
        with patch.object(np, "AxisError", np.exceptions.AxisError, create=True):
            from thingsvision import get_extractor_from_model
    except Exception as error:  # whatever its many dependencies do
        raise AbsentPeerError(_first_line(error)) from error
    modules = {name for name, _ in subject.model.named_modules()}
    taps = [tap for tap in subject.layers.taps if tap.call in modules]
    with contextlib.redirect_stdout(io.StringIO()):
        extractor = get_extractor_from_model(model=subject.model, device="cpu", backend="pt")
    names = [tap.call for tap in taps]

    def extract(batch: torch.Tensor) -> object:
        with extractor.batch_extraction(module_names=names, output_type="tensor") as running:
            maps = running.extract_batch(batch=batch, flatten_acts=False)
        return _means([*maps.values()])

    return extract, sum(tap.layer.units for tap in taps)


def torchlens_extractor(subject: Subject) -> tuple[Callable[[torch.Tensor], object], int]:
    """Return torchlens' extraction of a data set, which has the mean over positions itself."""
    try:
        import torchlens
    except Exception as error:
        raise AbsentPeerError(_first_line(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, 3, subject.size, subject.size)
        trace = torchlens.trace(subject.model, example)
    names = [name for name in trace.layer_labels if name.partition("_")[0] in OPERATIONS]
    shapes = [tuple(trace[name].out.shape) for name in names]
    pool = {
        name: "spatial_mean" for name, shape in zip(names, shapes, strict=True) if len(shape) == 4
    }

    def extract(batch: torch.Tensor) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torchlens.extract_dataset(
                subject.model, batch, names, batch_size=len(batch), progress=False, pool=pool
            )

    return extract, sum(shape[1] for shape in shapes)


PEERS = {
    "torchvision": torchvision_extractor,
    "thingsvision": thingsvision_extractor,
    "torchlens": torchlens_extractor,
}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
