"""Which layers a model has, found by trial forward passes.

A layer is one call of one module, named by its module path, or of a function that is no module,
named by the module that calls it and the function; the second call is `name:2`. Layers are ordered
by when they finish, which is the order in which data flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.schemas.layers import Layer
from activarium.tasks.capture.layer_maps import Tap, as_maps
from activarium.tasks.capture.layer_trial import run_trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from activarium.schemas.layers import Kind
    from activarium.tasks.capture.layer_trial import Seen, Trial


@dataclass(frozen=True)
class ModelLayers:
    """The chosen layers of a model in order, and the width of its output."""

    taps: tuple[Tap, ...]
    outputs: int
    duplicates: Mapping[str, str]
    """Chosen layers whose output is another's for every image, and which: not recorded twice."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that are recorded."""
        return tuple(tap.layer for tap in self.taps)

    @property
    def units(self) -> int:
        """Number of units of all layers."""
        return sum(tap.layer.units for tap in self.taps)

    def offsets(self) -> tuple[int, ...]:
        """Return the first column of each layer."""
        starts, start = [], 0
        for layer in self.layers:
            starts.append(start)
            start += layer.units
        return tuple(starts)


@dataclass(frozen=True)
class _Call:
    """A call whose output holds responses of every image."""

    seen: Seen
    image: int
    """Axis of the images."""
    maps: tuple[int, ...]
    """(image, channel, row, column) of the trial."""


def find_layers(
    model: nn.Module, example: torch.Tensor, *, patterns: Sequence[str], kinds: Sequence[Kind]
) -> ModelLayers:
    """Return the layers that a forward pass of the example calls, as chosen.

    Two passes are made, of two and of three images: what grows with the images holds their
    responses, anything else does not.

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

    Raises
    ------
    UserError
        If the forward pass fails, or a pattern matches no layer.
    """
    first = example[:1]
    two, three = (run_trial(model, torch.cat([first] * images)) for images in (2, 3))
    calls = _calls(two, three)
    chosen = _chosen(calls, patterns, kinds)
    originals = _originals(chosen)
    kept = [call for call in chosen if originals[call.seen.name] == call.seen.name]
    taps = tuple(
        Tap(
            layer=Layer(
                name=call.seen.name,
                kind=call.seen.kind,
                depth=depth,
                units=call.maps[1],
                height=call.maps[2],
                width=call.maps[3],
                activation="relu" if call.seen.name in two.rectified else "",
            ),
            call=call.seen.call,
            leaf=call.seen.leaf,
            channel=call.seen.channel,
            image=call.image,
        )
        for depth, call in enumerate(kept)
    )
    duplicates = {name: of for name, of in originals.items() if name != of}
    return ModelLayers(taps, two.outputs, duplicates)


def _calls(two: Trial, three: Trial) -> list[_Call]:
    """Return the calls whose first or second axis grows with the number of images."""
    other = {seen.name: seen.shape for seen in three.seen}
    calls = []
    for seen in two.seen:
        image = _image_axis(seen, other.get(seen.name, ()))
        if image is not None:
            empty = torch.empty(seen.shape, device="meta")
            maps = as_maps(empty, 2, channel=seen.channel, image=image)
            calls.append(_Call(seen, image, tuple(maps.shape)))
    return calls


def _image_axis(seen: Seen, other: tuple[int, ...]) -> int | None:
    shape = seen.shape
    if len(shape) != len(other):
        return None
    rest_is_same = shape[1:] == other[1:]
    if rest_is_same and shape[0] % 2 == 0 and shape[0] * 3 == other[0] * 2:
        return 0 if shape[0] == 2 or seen.channel != 0 else None
    time_first = len(shape) == 3 and seen.channel == 2 and (shape[1], other[1]) == (2, 3)
    return 1 if time_first and shape[0] == other[0] and shape[2] == other[2] else None


def _originals(calls: Sequence[_Call]) -> dict[str, str]:
    """Return for each layer the one that holds the same values: itself, or another."""
    groups: dict[tuple[object, ...], list[Seen]] = {}
    for call in calls:
        groups.setdefault((call.seen.memory, call.maps[1]), []).append(call.seen)
    return {seen.name: _original(group).name for group in groups.values() for seen in group}


def _original(group: Sequence[Seen]) -> Seen:
    """Return the first module that does not only pass on what was there before it; else the first.

    What a module's own functions returned was not there before it.
    """
    for place, seen in enumerate(group):
        inside = f"{seen.call.partition(':')[0]}."
        if seen.is_module and all(each.call.startswith(inside) for each in group[:place]):
            return seen
    return group[0]


def _chosen(calls: Sequence[_Call], patterns: Sequence[str], kinds: Sequence[Kind]) -> list[_Call]:
    """Return the calls that any pattern matches; each pattern has to match one at least."""
    wanted = [call for call in calls if call.seen.kind in kinds]
    for pattern in patterns or ("",):
        if not any(fnmatchcase(call.seen.name, pattern) for call in wanted):
            raise UserError(
                f"record.layers: no layer matches {pattern!r} with kinds {list(kinds)!r}; "
                f"{_names_near(calls, pattern)}"
            )
    return [call for call in wanted if any(fnmatchcase(call.seen.name, each) for each in patterns)]


def _names_near(calls: Sequence[_Call], pattern: str) -> str:
    """Say which names are close to the pattern, else the first ones, each with its kind."""
    kinds = {call.seen.name: call.seen.kind for call in calls}
    near = get_close_matches(pattern, kinds)
    names = ", ".join(f"{name} ({kinds[name]})" for name in near or [*kinds][:8])
    if near:
        return f"did you mean {names}? the model has {len(calls)} layers"
    return f"the model has {len(calls)} layers: {names}{' ...' if len(calls) > 8 else ''}"
