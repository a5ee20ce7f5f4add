"""Which of the state dicts in a file of weights a model gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.models.inert_pickle import InertObject
from activarium.tasks.models.state_dicts import (
    AVERAGE,
    OTHER,
    as_mapping,
    find_state_dicts,
    named_state_dicts,
    part_variants,
    same_state_variants,
)
from activarium.tasks.models.weights_notes import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from activarium.tasks.models.state_dicts import StateDict
    from activarium.tasks.models.weights_fit import Target

TRIALS = 8
"""State dicts at most whose names do not fit that the model itself is asked to take."""


def state_dicts_in(content: Any, *, key: str | None, origin: str) -> list[StateDict]:
    """Return the state dicts that may be meant, the likeliest first.

    Raises
    ------
    UserError
        If there is none, or none that the key means.
    """
    states = find_state_dicts(content)
    if not states:
        raise UserError(
            f"{origin} holds no state dict: expected tensors by name, got {_described(content)}"
        )
    if key is None:
        return states
    named = named_state_dicts(states, key)
    if not named:
        labels = ", ".join(repr(each.label) for each in states if each.label)
        raise UserError(
            f"model.weights_key: {origin} has no state dict {key!r}; it has "
            f"{labels or 'one alone, without a key'}"
        )
    return named


def _described(content: Any) -> str:
    """Return what a file holds, for the message that it is no state dict."""
    mapping = as_mapping(content)
    if not mapping:
        return f"a {type(content).__name__}"
    keys = ", ".join(repr(key)[:80] for key in list(mapping)[:8])
    has = f"a dict of {keys}{', ...' if len(mapping) > 8 else ''}"
    odd = _no_tensor(mapping)
    if odd:
        return f"{has}; {odd}"
    whole = [key for key, value in mapping.items() if _is_whole_model(value)]
    if not whole:
        return has
    kind = mapping[whole[0]].class_name
    return f"{has}, where {whole[0]!r} is a whole model ({kind}): save its state_dict() instead"


def _no_tensor(mapping: Mapping[Any, Any]) -> str:
    """Return which entry lies among tensors and is none, here or one dict within; else nothing."""
    for several in (mapping, *filter(None, map(as_mapping, mapping.values()))):
        others = [key for key, each in several.items() if not isinstance(each, torch.Tensor)]
        if others and len(others) < len(several):
            kind = type(several[others[0]]).__name__
            return f"{repr(others[0])[:80]} among the tensors is no tensor but {kind}: leave it out"
    return ""


def _is_whole_model(value: Any) -> bool:
    state = value.state if isinstance(value, InertObject) else None
    return isinstance(state, dict) and "_parameters" in state and "_modules" in state


def choose_state(
    target: Target, states: Sequence[StateDict], *, origin: str
) -> tuple[StateDict, tuple[str, ...]] | None:
    """Return the state dict that the model gets, and what there is to say; None if none fits.

    Raises
    ------
    UserError
        If several fit and nothing tells which is meant.
    """
    fitting = _fitting(target, states)
    if not fitting:
        return None
    chosen, *others = sorted(fitting, key=lambda each: each.rank)
    others = [each for each in others if not _are_equal(chosen, each)]
    alike = [each for each in others if each.rank == chosen.rank]
    if alike and chosen.rank in (OTHER, AVERAGE):
        labels = " and ".join(repr(each.label) for each in (chosen, *alike))
        raise UserError(
            f"{origin} holds several state dicts that fit the model, {labels}: set "
            "model.weights_key to the one that is meant"
        )
    return chosen, tuple(_notes(chosen, others, states))


def _fitting(target: Target, states: Sequence[StateDict]) -> list[StateDict]:
    by_name = [
        each
        for state in states
        for each in _variants(target, state, lambda v: not target.faults(v))
    ]
    if by_name:
        return by_name
    left = [TRIALS]

    def is_taken(state: StateDict) -> bool:
        left[0] -= 1
        return left[0] >= 0 and target.takes(state)

    return [each for state in states for each in _variants(target, state, is_taken)]


def _variants(
    target: Target, state: StateDict, fits: Callable[[StateDict], bool]
) -> list[StateDict]:
    """Return the state dict by the first of its names that fit, else all its parts that do."""
    for variant in same_state_variants(state):
        if fits(variant):
            return [variant]
    for parts in part_variants(state, target.least()):
        found = [part for part in parts if fits(part)]
        if found:
            return found
    return []


def _are_equal(one: StateDict, other: StateDict) -> bool:
    pairs = [(each, other.entries.get(name)) for name, each in one.entries.items()]
    return len(one.entries) == len(other.entries) and all(
        isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and _same_values(a, b)
        for a, b in pairs
    )


def _same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _notes(
    chosen: StateDict, others: Sequence[StateDict], states: Sequence[StateDict]
) -> Iterator[str]:
    """Yield which state dict was taken, where there was a choice, and what is left out of it."""
    taken = f"the weights are those under {chosen.label!r}"
    if others:
        labels = ", ".join(repr(each.label) for each in others)
        yield f"{taken}; {labels} would fit too: model.weights_key chooses"
    elif not chosen.label.startswith(states[0].label):
        yield f"{taken}; those under {states[0].label!r} do not fit the model"
    elif chosen.rank == AVERAGE:
        yield taken
    if chosen.left_out:
        left = counted(list(chosen.left_out))
        yield f"{left} beside {chosen.label!r}: left out; no place in the model"


def closest(target: Target, states: Sequence[StateDict]) -> StateDict:
    """Return the likeliest state dict, by those names that differ least from the model's."""
    return min(same_state_variants(states[0]), key=lambda each: len(target.faults(each)))
