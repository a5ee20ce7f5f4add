"""Which engine captures a model: chosen by a short trial on its first images, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from activarium.schemas.errors import UserError
from activarium.tasks.capture.capture import Capture, HookCapture
from activarium.tasks.capture.forward import AUTOCAST, is_device_lost, is_out_of_memory
from activarium.tasks.capture.graph_taps import UntraceableError
from activarium.tasks.capture.traced_capture import TracedCapture

if TYPE_CHECKING:
    from torch import nn

    from activarium.schemas.config import Engine
    from activarium.tasks.capture.capture import Wanted
    from activarium.tasks.capture.density import DensityCounter

TOLERANCE = 1e-5
"""Difference between the engines at most, of a layer's largest value."""

FOLDING_TOLERANCE = 5e-6
"""Difference at which a batch norm is rather left unfolded; the trial shows few images."""

CONTINUOUS = frozenset({"mean", "sd", "max"})
"""Reductions that change in their last bits where maps do; a fraction of positions jumps."""

LONG_RUN_FLOPS = {"cpu": 2e15, "cuda": 5e16}
"""Operations of a recording from which compiling pays: it takes about a minute, for some percent of
the time on the CPU and perhaps a third on a GPU."""


@dataclass(frozen=True)
class EngineChoice:
    """Which engine captures, as a recording keeps it."""

    engine: str
    """hooks, traced (the graph, not compiled) or compiled."""
    unfolded: tuple[str, ...] | None
    """Convolutions whose batch norm is not folded; None where none is folded."""
    reason: str
    """Why, in one line."""


def choose_engine(  # noqa: PLR0913 - everything that decides
    model: nn.Module,
    wanted: Wanted,
    inputs: torch.Tensor,
    *,
    engine: Engine,
    images: int,
    density: bool = False,
) -> EngineChoice:
    """Choose by what hooks and the traced graph capture of the first images.

    The choice follows from the model, the images and the settings, never from the clock, so that
    the same recording is made the same way again.

    Parameters
    ----------
    model
        The model, in evaluation mode, on its device.
    wanted
        What is captured.
    inputs
        The first images (image, colour, row, column), on the device.
    engine
        What is configured.
    images
        Number of images of the recording.
    density
        Activations are counted too.

    Raises
    ------
    UserError
        If `compiled` is asked for and the model cannot be traced.
    """
    if engine == "hooks":
        return EngineChoice("hooks", None, "hooks, as record.engine says")
    with HookCapture(model, wanted) as hooks:
        expected = hooks.run(inputs)
    try:
        traced = _traced(model, wanted, inputs, expected, strict=density)
    except UntraceableError as error:
        if engine == "compiled":
            raise UserError(
                f"record.engine: the model cannot be compiled: {error}; use auto or hooks"
            ) from error
        return EngineChoice("hooks", None, f"hooks: the model cannot be traced ({error})")
    if density:
        return _because(traced, "not compiled, because densities are kept")
    if engine == "auto" and not _is_long(model, inputs, images):
        return _because(traced, "not compiled, because the recording is short")
    return _compiled(model, wanted, inputs, expected, traced)


def open_capture(
    model: nn.Module,
    wanted: Wanted,
    choice: EngineChoice,
    *,
    density: DensityCounter | None = None,
    batch_size: int | None = None,
) -> Capture:
    """Return the chosen capture, to be used as a context manager."""
    if choice.engine == "hooks":
        return HookCapture(model, wanted, density)
    return TracedCapture(
        model,
        wanted,
        density,
        unfolded=choice.unfolded,
        batch_size=batch_size,
        compiled=choice.engine == "compiled",
    )


def deviations(wanted: Wanted, expected: torch.Tensor, found: torch.Tensor) -> dict[str, float]:
    """Return each layer's largest difference over all reductions, of its largest value."""
    worst: dict[str, float] = {}
    differences, sizes = (found - expected).abs(), expected.abs()
    offsets = wanted.layers.offsets()
    for reduction in wanted.reductions:
        first = wanted.columns()[f"channel_{reduction}"].start
        for layer, offset in zip(wanted.layers.layers, offsets, strict=True):
            columns = slice(first + offset, first + offset + layer.units)
            size = float(sizes[:, columns].max())
            ratio = float(differences[:, columns].max()) / size if size else 0.0
            worst[layer.name] = max(worst.get(layer.name, 0.0), ratio)
    return worst


def _traced(
    model: nn.Module, wanted: Wanted, inputs: torch.Tensor, expected: torch.Tensor, *, strict: bool
) -> EngineChoice:
    """Return the traced engine with as many batch norms folded as exactness allows."""
    low = wanted.precision in AUTOCAST
    may_fold = low or (not strict and CONTINUOUS.issuperset(wanted.reductions))
    unfolded: set[str] | None = set() if may_fold else None
    while True:
        capture = TracedCapture(model, wanted, unfolded=unfolded)
        off = deviations(wanted, expected, capture.run(inputs))
        over = {name for name, ratio in off.items() if not ratio <= FOLDING_TOLERANCE}
        if low or not over:
            kept = None if unfolded is None else tuple(sorted(unfolded))
            return EngineChoice("traced", kept, "traced graph")
        guilty = over.intersection(capture.folded)
        if unfolded is not None:
            unfolded = unfolded | guilty if guilty else None
        elif max(off.values()) <= TOLERANCE:
            return EngineChoice("traced", None, "traced graph")
        else:
            raise UntraceableError(f"layer {max(off, key=off.__getitem__)!r} differs in its graph")


def _is_long(model: nn.Module, inputs: torch.Tensor, images: int) -> bool:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(inputs[:1])
    return int(counter.get_total_flops()) * images >= LONG_RUN_FLOPS.get(
        inputs.device.type, LONG_RUN_FLOPS["cuda"]
    )


def _because(choice: EngineChoice, reason: str) -> EngineChoice:
    return EngineChoice(choice.engine, choice.unfolded, f"{choice.reason}, {reason}")


def _compiled(
    model: nn.Module,
    wanted: Wanted,
    inputs: torch.Tensor,
    expected: torch.Tensor,
    traced: EngineChoice,
) -> EngineChoice:
    """Return the compiled engine where it compiles and agrees, else the traced one."""
    low = wanted.precision in AUTOCAST
    if not low and not CONTINUOUS.issuperset(wanted.reductions):
        return _because(
            traced,
            "not compiled, because active fractions would differ: leave active out of record.reductions",
        )
    unfolded = traced.unfolded
    while True:
        try:
            capture = TracedCapture(model, wanted, unfolded=unfolded, compiled=True)
            found = capture.run(inputs)
        except Exception as error:
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            return _because(traced, f"not compiled: {_reason(error)}")
        off = deviations(wanted, expected, found)
        if low or max(off.values()) <= FOLDING_TOLERANCE:
            return EngineChoice("compiled", unfolded, "compiled graph")
        over = {name for name, ratio in off.items() if not ratio <= FOLDING_TOLERANCE}
        guilty = over.intersection(capture.folded)
        if unfolded is not None and guilty:
            unfolded = tuple(sorted({*unfolded, *guilty}))
        elif max(off.values()) <= TOLERANCE:
            return EngineChoice("compiled", unfolded, "compiled graph")
        else:
            worst = max(off, key=off.__getitem__)
            return _because(traced, f"not compiled: layer {worst!r} would differ")


def _reason(error: BaseException) -> str:
    """Return the first line of what stopped the compiler."""
    cause = error.__cause__ or error
    if "No working C++ compiler" in str(error):
        return "there is no C++ compiler on this machine"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__
