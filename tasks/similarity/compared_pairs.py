"""Which recordings are compared with which, and by which of their layers."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import combinations
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.features.spaces import space_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.compare_config import CompareFeatures
    from activarium.schemas.layers import Layer
    from activarium.tasks.stores.recording import Recording

MOST_CROSSED = 4
"""Up to so many recordings are compared each with each; of more, each with the last."""

_SHOWN = 10


def choose_pairs(names: Sequence[str], against: str | None) -> list[tuple[str, str]]:
    """Return the pairs of recordings to compare, in the order in which they were named.

    One alone is compared with itself.

    Parameters
    ----------
    names
        Ids of the recordings.
    against
        Id of the one that each other is compared with; None for each with each of up to four,
        and for each with the last of more.

    Raises
    ------
    UserError
        If a recording is named twice, or there is no other than `against`.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"compare: expected different recordings, got {name} twice")
    if against is not None:
        others = [name for name in names if name != against]
        if not others:
            raise UserError(f"compare: expected recordings to compare with {against}, got none")
        return [(name, against) for name in others]
    if len(names) == 1:
        return [(names[0], names[0])]
    if len(names) <= MOST_CROSSED:
        return list(combinations(names, 2))
    return [(name, names[-1]) for name in names[:-1]]


def choose_layers(
    recordings: Sequence[Recording], patterns: Sequence[str], features: CompareFeatures = "means"
) -> dict[str, tuple[Layer, ...]]:
    """Return the layers of each recording that match a pattern, in the order of execution.

    Parameters
    ----------
    recordings
        Recordings to compare.
    patterns
        Globs of layers.
    features
        What stands for an image: only layers that have it are chosen.

    Raises
    ------
    UserError
        If a recording has no such features, a pattern matches no layer of any recording, or none
        matches a layer of one of them.
    """
    layers = {each.name: _layers_with(each, features) for each in recordings}
    known = list(dict.fromkeys(layer.name for each in layers.values() for layer in each))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UserError(f"compare.layers: {pattern!r} matches none of {_shown(known)}")
    chosen = {}
    for recording, known_layers in layers.items():
        found = [
            layer
            for layer in known_layers
            if any(fnmatchcase(layer.name, each) for each in patterns)
        ]
        if not found:
            raise UserError(
                f"compare.layers: {', '.join(patterns)} matches no layer of {recording}, which has "
                f"{_shown([layer.name for layer in known_layers])}"
            )
        chosen[recording] = tuple(found)
    return chosen


def _layers_with(recording: Recording, features: CompareFeatures) -> tuple[Layer, ...]:
    having = space_layers(recording, features)
    if not having:
        raise UserError(
            f"compare.features: {recording.name} has no layers with {features} features; record it "
            "with record.pooled_layers, or compare channel means"
        )
    return tuple(layer for layer in recording.layers if layer.name in having)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
