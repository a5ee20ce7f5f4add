"""Which engine captures a model: chosen by a short trial on its first images, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from activarium.schemas.errors import UserError
from activarium.tasks.capture.capture import Capture, HookCapture
from activarium.tasks.capture.device_errors import first_line, is_device_lost, is_out_of_memory
from activarium.tasks.capture.engine_agreement import (
    CONTINUOUS,
    deviations,
    farthest_difference,
    worst_layer,
)
from activarium.tasks.capture.graph_taps import UntraceableError
from activarium.tasks.capture.traced_capture import TracedCapture

if TYPE_CHECKING:
    from torch import nn

    from activarium.schemas.config import Engine, Precision
    from activarium.tasks.capture.capture import Wanted
    from activarium.tasks.capture.density import DensityCounter

TOLERANCE = 1e-5
"""Difference between the engines at most, of a layer's largest value."""

FOLDING_TOLERANCE = 5e-6
"""Difference at which a batch norm is rather left unfolded; the trial shows few images."""

LOW_TOLERANCE: dict[Precision, float] = {"tf32": 5e-3, "float16": 5e-3, "bfloat16": 2e-2}
"""The same where products are rounded to 10 or 7 bits, which a compiler does in other places."""

LONG_RUN_FLOPS = {"cpu": 2e15, "cuda": 4e15}
"""Operations of a recording from which compiling pays: it takes a minute or two, for some percent
of the time on the CPU and about half of it on a GPU (half a million images of a ResNet-50)."""

MOST_OF_A_REASON = 200
"""Letters of an error that are quoted."""


class DifferingGraphError(UntraceableError):
    """A traced graph that gives other values than the model."""


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
    except Exception as error:
        _raise_of_device(error)
        if engine == "compiled":
            raise UserError(
                f"record.engine: the model cannot be compiled: {_reason(error)}; use auto or hooks"
            ) from error
        differs = isinstance(error, DifferingGraphError)
        what = "its traced graph gives other values" if differs else "the model cannot be traced"
        return hooks_because(what, error)
    if density:
        return _because(traced, "not compiled, because densities are kept")
    if engine == "auto" and not _is_long(model, inputs, images):
        return _because(traced, "not compiled, because the recording is short")
    return _compiled(model, wanted, inputs, expected, traced)


def hooks_because(what: str, error: Exception) -> EngineChoice:
    """Return the engine that any model allows, where the traced graph met an error."""
    return EngineChoice("hooks", None, f"hooks: {what} ({_reason(error)})")


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


def _traced(
    model: nn.Module, wanted: Wanted, inputs: torch.Tensor, expected: torch.Tensor, *, strict: bool
) -> EngineChoice:
    """Return the traced engine with as many batch norms folded as exactness allows.

    Restoring a folded convolution divides by the batch norm's scale, and so multiplies whatever
    its products were rounded by; a GPU's compiler gains nothing by folding.
    """
    tolerance = LOW_TOLERANCE.get(wanted.precision, TOLERANCE)
    may_fold = (
        wanted.precision == "float32"
        and inputs.device.type == "cpu"
        and not strict
        and CONTINUOUS.issuperset(wanted.reductions)
    )
    unfolded: set[str] | None = set() if may_fold else None
    while True:
        capture = TracedCapture(model, wanted, unfolded=unfolded)
        found = capture.run(inputs)
        off = deviations(wanted, expected, found)
        over = {name for name, ratio in off.items() if not ratio <= FOLDING_TOLERANCE}
        if not over:
            kept = None if unfolded is None else tuple(sorted(unfolded))
            return EngineChoice("traced", kept, "traced graph")
        guilty = over.intersection(capture.folded)
        if unfolded is not None:
            unfolded = unfolded | guilty if guilty else None
        elif max(off.values()) <= tolerance:
            return EngineChoice("traced", None, "traced graph")
        else:
            raise DifferingGraphError(
                f"{farthest_difference(wanted, expected, found, worst_layer(off))}; {tolerance:g} is allowed"
            )


def _is_long(model: nn.Module, inputs: torch.Tensor, images: int) -> bool:
    """Tell whether compiling pays; not where the operations cannot be counted."""
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(inputs[:1])
    except Exception as error:  # noqa: BLE001 - counting is none of the recording's work
        _raise_of_device(error)
        return False
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
    jumps = wanted.precision != "float32" or inputs.device.type != "cpu"
    if not jumps and not CONTINUOUS.issuperset(wanted.reductions):
        return _because(
            traced,
            "not compiled, because active fractions would differ: leave active out of record.reductions",
        )
    tolerance = LOW_TOLERANCE.get(wanted.precision, TOLERANCE)
    unfolded = traced.unfolded
    while True:
        try:
            capture = TracedCapture(model, wanted, unfolded=unfolded, compiled=True)
            found = capture.run(inputs)
            off = deviations(wanted, expected, found, jumps=jumps)
        except Exception as error:  # noqa: BLE001 - whatever a compiler meets
            _raise_of_device(error)
            return _because(traced, f"not compiled: {_reason(error)}")
        over = {name for name, ratio in off.items() if not ratio <= FOLDING_TOLERANCE}
        if not over:
            return EngineChoice("compiled", unfolded, "compiled graph")
        guilty = over.intersection(capture.folded)
        if unfolded is not None and guilty:
            unfolded = tuple(sorted({*unfolded, *guilty}))
        elif max(off.values()) <= tolerance:
            return EngineChoice("compiled", unfolded, "compiled graph")
        else:
            where = farthest_difference(wanted, expected, found, worst_layer(off))
            return _because(traced, f"not compiled, because it would differ ({where})")


def _raise_of_device(error: Exception) -> None:
    """Raise what another engine would meet as well: no memory left, or a lost device."""
    if is_out_of_memory(error) or is_device_lost(error):
        try:
            raise error
        finally:
            del error  # with itself in its own frame it would hold the batch that did not fit


def _reason(error: Exception) -> str:
    """Return the first line of what stopped a tracer or a compiler."""
    if "No working C++ compiler" in str(error):
        return "there is no C++ compiler on this machine"
    cause = error.__cause__ or error
    line = first_line(cause)
    named = (
        line
        if isinstance(cause, RuntimeError | UntraceableError)
        else f"{type(cause).__name__}: {line}"
    )
    return named if len(named) <= MOST_OF_A_REASON else f"{named[: MOST_OF_A_REASON - 4]} ..."
