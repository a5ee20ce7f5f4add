"""How far two engines are apart in what they capture, and where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from activarium.tasks.capture.model_output import OUTPUT_NAME

if TYPE_CHECKING:
    import torch

    from activarium.tasks.capture.capture import Wanted

CONTINUOUS = frozenset({"mean", "sd", "max"})
"""Reductions that change in their last bits where maps do; a fraction of positions jumps."""


def _columns(wanted: Wanted) -> dict[str, dict[str, slice]]:
    """Return the columns of each array of each layer, and of the model's output."""
    starts, found = wanted.columns(), {}
    for layer, offset in zip(wanted.layers.layers, wanted.layers.offsets(), strict=True):
        arrays = {}
        for reduction in wanted.reductions:
            first = starts[f"channel_{reduction}"].start + offset
            arrays[f"channel_{reduction}"] = slice(first, first + layer.units)
        found[layer.name] = arrays
    return {**found, OUTPUT_NAME: {"logits": starts["logits"]}}


def deviations(
    wanted: Wanted, expected: torch.Tensor, found: torch.Tensor, *, jumps: bool = False
) -> dict[str, float]:
    """Return each layer's largest difference over all reductions, of its largest value.

    Parameters
    ----------
    wanted
        What was captured.
    expected, found
        (image, column) by two engines.
    jumps
        Fractions of positions are compared by their mean difference: a value within rounding of
        zero makes one of them jump, which says nothing of the rest.

    Raises
    ------
    ValueError
        If they are not of the same size.
    """
    if expected.shape != found.shape:
        raise ValueError(f"expected rows of {tuple(expected.shape)}, got {tuple(found.shape)}")
    worst: dict[str, float] = {}
    differences = _differences(expected, found)
    for name, arrays in _columns(wanted).items():
        for array, columns in arrays.items():
            continuous = array == "logits" or array.removeprefix("channel_") in CONTINUOUS
            difference = differences[:, columns]
            off = difference.max() if continuous or not jumps else difference.mean()
            ratio = float(off) / _size(expected[:, columns])
            worst[name] = max(worst.get(name, 0.0), ratio)
    return worst


def _differences(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return by how much values differ: infinity where one alone is no number, or none is the other."""
    equal = (found == expected) | (found.isnan() & expected.isnan())
    return (
        (found - expected).abs().nan_to_num(nan=math.inf, posinf=math.inf).masked_fill(equal, 0.0)
    )


def _size(values: torch.Tensor) -> float:
    """Return the largest finite value; 1 where there is none but zero."""
    return float(values.abs().nan_to_num(nan=0.0, posinf=0.0).max()) or 1.0


def worst_layer(off: dict[str, float]) -> str:
    """Return the layer that differs most."""
    return max(off, key=off.__getitem__)


def farthest_difference(
    wanted: Wanted, expected: torch.Tensor, found: torch.Tensor, name: str
) -> str:
    """Return where a layer's values are farthest apart, and how far, as text.

    Parameters
    ----------
    wanted
        What was captured.
    expected, found
        (image, column) by hooks and by the graph.
    name
        The layer, or the model's output.
    """
    told = []
    for array, columns in _columns(wanted)[name].items():
        hooks, graph = expected[:, columns], found[:, columns]
        off = _differences(hooks, graph)
        image, channel = divmod(int(off.argmax()), off.shape[1])
        ratio = float(off[image, channel]) / _size(hooks)
        told.append(
            (
                ratio,
                f"{array} of channel {channel}, image {image}: {float(hooks[image, channel]):.6g} by "
                f"hooks, {float(graph[image, channel]):.6g} in the graph",
            )
        )
    ratio, where = max(told)
    share = f", {ratio:.1e} of the layer's largest value" if math.isfinite(ratio) else ""
    return f"layer {name!r}, {where}{share}"
