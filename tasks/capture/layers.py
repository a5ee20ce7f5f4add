"""Which layers a model has, found by trial forward passes.

A layer is one call of one module, named by its module path, or of a function that is no module,
named by the module that calls it and the function; the second call is `name:2`. Layers are ordered
by when they finish, which is the order in which data flows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.schemas.layers import Layer
from activarium.tasks.capture.image_rows import IMAGES
from activarium.tasks.capture.layer_maps import Layout, Tap
from activarium.tasks.capture.layer_trial import UNEVEN, UNLABELLED, is_random, run_trial
from activarium.tasks.capture.model_output import OUTPUT_NAME, ModelOutput
from activarium.tasks.capture.tokens import TokenChoice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from activarium.schemas.layers import Kind, Tokens
    from activarium.tasks.capture.layer_trial import Found, Trial
    from activarium.tasks.capture.trial_pass import Seen


@dataclass(frozen=True)
class ModelLayers:
    """The chosen layers of a model in order, and the width of its output."""

    taps: tuple[Tap, ...]
    output: ModelOutput
    duplicates: Mapping[str, str]
    """Chosen layers whose output is another's for every image, and which: not recorded twice."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Chosen layers that are not recorded, and why."""
    uneven: frozenset[str] = frozenset()
    """Paths of modules, chosen or not, that are not called alike for all images."""
    mixed: tuple[str, ...] = ()
    """Recorded layers, and the model's output, that are no functions of the image alone."""
    repeated: tuple[str, ...] = ()
    """Those of the duplicates that compute once more what was computed."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that are recorded."""
        return tuple(tap.layer for tap in self.taps)

    @property
    def notes(self) -> list[str]:
        """What there is to say about the layers and the output, a line each."""
        notes = list(self.output.notes)
        for reason in sorted(set(self.left_out.values())):
            names = [name for name, why in self.left_out.items() if why == reason]
            notes.append(f"{_counted(names)} left out: {reason}")
        for name in dict.fromkeys(self.duplicates[each] for each in self.repeated):
            again = [each for each in self.repeated if self.duplicates[each] == name]
            notes.append(f"{_counted(again)} recorded once, as {name}: the same of the same values")
        if self.mixed:
            notes.append(f"{_counted(self.mixed)} recorded although not of each image alone")
        return notes

    @property
    def units(self) -> int:
        """Number of units of all layers."""
        return sum(tap.layer.units for tap in self.taps)

    @property
    def outputs(self) -> int:
        """Number of outputs of the model."""
        return self.output.units

    def offsets(self) -> tuple[int, ...]:
        """Return the first column of each layer."""
        starts, start = [], 0
        for layer in self.layers:
            starts.append(start)
            start += layer.units
        return tuple(starts)


def _counted(names: Sequence[str]) -> str:
    """Return how many layers there are and the first names, as the subject of a sentence."""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"1 layer ({shown}) is" if len(names) == 1 else f"{len(names)} layers ({shown}) are"


@dataclass(frozen=True)
class Reading:
    """How a model is read, beside which layers are chosen."""

    output: str | None = None
    """Which of several tensors that it returns is its output; None for the usual."""
    tokens: Tokens = "mean"
    """Which tokens of a sequence are averaged."""
    allow_random: bool = False
    """Record a model although it is no function of each image alone."""


def find_layers(
    model: nn.Module,
    example: torch.Tensor,
    *,
    patterns: Sequence[str],
    kinds: Sequence[Kind],
    reading: Reading | None = None,
) -> ModelLayers:
    """Return the layers that a forward pass of the example calls, as chosen.

    A few passes of distinct images are made: what grows with the images holds their responses, and
    what moves with each image says which rows are its own.

    Parameters
    ----------
    model
        The model, in evaluation mode.
    example
        Input (image, colour, row, column); its first image is used.
    patterns
        Globs of layer names; a layer is chosen when any matches.
    kinds
        Kinds of layers.
    reading
        What else is chosen.

    Raises
    ------
    UserError
        If the forward pass fails, a pattern matches no layer, or the model is no function of the
        image alone and that is not allowed.
    """
    reading = reading or Reading()
    trial = run_trial(model, example[:1], output=reading.output)
    chosen = _chosen(trial.found, patterns, kinds)
    _check_names(chosen, trial)
    mixed = tuple(each.seen.name for each in (*chosen, trial.output) if each.is_mixed)
    if mixed and not reading.allow_random:
        raise _mixed(mixed, random=is_random(model, example[:1]))
    laid_out = [each for each in chosen if each.layout is not None]
    tokens = TokenChoice(reading.tokens, trial)
    calls = [_Call(each.seen, tokens.narrowed(each)) for each in laid_out]
    output = _output(trial, tokens)
    tokens.check()
    passed_on = _originals(calls)
    originals = _computed_once(calls, passed_on, trial.values)
    kept = [call for call in calls if originals[call.seen.name] == call.seen.name]
    taps = tuple(_tap(call, depth, trial) for depth, call in enumerate(kept))
    return ModelLayers(
        taps,
        output,
        {name: of for name, of in originals.items() if name != of},
        {each.seen.name: each.fault for each in chosen if each.layout is None},
        frozenset(each.path for each in trial.found if each.fault == UNEVEN),
        tuple(name or OUTPUT_NAME for name in mixed),
        tuple(name for name, of in originals.items() if of != passed_on[name] == name),
    )


def _check_names(chosen: Sequence[Found], trial: Trial) -> None:
    """Refuse a module that is called as the second call of another one would be."""
    twice = [each.seen.name for each in chosen if each.seen.name in trial.doubled]
    if twice:
        raise UserError(
            f"two layers are called {twice[0]!r}, a module and a later call of another one: give the "
            "module another name, or leave them out with record.layers"
        )


@dataclass(frozen=True)
class _Call:
    """A call whose output holds responses of every image."""

    seen: Seen
    layout: Layout

    @property
    def maps(self) -> tuple[int, ...]:
        """(image, channel, row, column) of the trial."""
        empty = torch.empty(self.seen.shape, device="meta")
        return tuple(self.layout.maps(empty, IMAGES).shape)


def _tap(call: _Call, depth: int, trial: Trial) -> Tap:
    _, units, height, width = call.maps
    layer = Layer(
        name=call.seen.name,
        kind=call.seen.kind,
        depth=depth,
        units=units,
        height=height,
        width=width,
        activation="relu" if call.seen.name in trial.rectified else "",
    )
    return Tap(layer, call.seen.call, call.seen.leaf, call.layout)


def _output(trial: Trial, tokens: TokenChoice) -> ModelOutput:
    found, notes = trial.output, [trial.output_note] if trial.output_note else []
    shape = found.seen.shape
    if found.fault == UNLABELLED and len(shape) > 1 and shape[0] == IMAGES:
        axis = len(shape) - 1 if len(shape) == 3 else 1
        found = replace(found, layout=Layout((axis,)))
        notes.append(
            f"the axis of the outputs cannot be told in {shape[1:]} for each image: axis {axis} is "
            "taken, and all others are averaged"
        )
    if found.layout is None:
        raise UserError(
            f"expected the model to return a tensor with one row per image; of its output of shape "
            f"{shape} for {IMAGES} images: {found.fault}"
        )
    layout = tokens.narrowed(found)
    return ModelOutput(trial.output_key, layout, layout.units(shape), tuple(notes))


def _mixed(names: Sequence[str], *, random: bool) -> UserError:
    first = f"layer {names[0]!r}" if names[0] else "its output"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    why = (
        "gives other answers to the same images in every pass, as with dropout that stays on"
        if random
        else "gives other answers to an image in other company, as with batch statistics or dynamic "
        "quantisation"
    )
    return UserError(
        f"the model is no function of the image alone: it {why} ({first}{more}); put it in "
        "evaluation mode, or record it all the same with record.allow_random"
    )


def _originals(calls: Sequence[_Call]) -> dict[str, str]:
    """Return for each layer the one that holds the same values: itself, or another."""
    groups: dict[tuple[object, ...], list[Seen]] = {}
    for call in calls:
        groups.setdefault((call.seen.memory, call.maps[1]), []).append(call.seen)
    return {seen.name: _original(group).name for group in groups.values() for seen in group}


def _computed_once(
    calls: Sequence[_Call], originals: Mapping[str, str], values: Mapping[str, int]
) -> dict[str, str]:
    """Return the same, where a layer that computes a value once more is the first's that does."""
    first: dict[tuple[object, ...], str] = {}
    known = {call.seen.name: call for call in calls}
    for name in dict.fromkeys(originals[call.seen.name] for call in calls):
        if name in values:
            first.setdefault((values[name], known[name].maps), name)
    return {
        name: first[values[of], known[of].maps] if of in values else of
        for name, of in originals.items()
    }


def _original(group: Sequence[Seen]) -> Seen:
    """Return the first module that does not only pass on what was there before it; else the first.

    What a module's own functions returned was not there before it.
    """
    for place, seen in enumerate(group):
        inside = f"{seen.call.partition(':')[0]}."
        if seen.is_module and all(each.call.startswith(inside) for each in group[:place]):
            return seen
    return group[0]


def _chosen(calls: Sequence[Found], patterns: Sequence[str], kinds: Sequence[Kind]) -> list[Found]:
    """Return the calls that any pattern matches; each pattern has to match one at least."""
    wanted = [call for call in calls if call.seen.kind in kinds]
    for pattern in patterns or ("",):
        if not any(fnmatchcase(call.seen.name, pattern) for call in wanted):
            raise UserError(
                f"record.layers: no layer matches {pattern!r} with kinds {list(kinds)!r}; "
                f"{_names_near(calls, pattern)}"
            )
    return [call for call in wanted if any(fnmatchcase(call.seen.name, each) for each in patterns)]


def _names_near(calls: Sequence[Found], pattern: str) -> str:
    """Say which names are close to the pattern, else the first ones, each with its kind."""
    kinds = {call.seen.name: call.seen.kind for call in calls}
    near = get_close_matches(pattern, kinds)
    names = ", ".join(f"{name} ({kinds[name]})" for name in near or [*kinds][:8])
    if near:
        return f"did you mean {names}? the model has {len(calls)} layers"
    return f"the model has {len(calls)} layers: {names}{' ...' if len(calls) > 8 else ''}"
