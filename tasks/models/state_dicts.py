"""State dicts in what a file of weights holds: where they lie, and by which names."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from activarium.tasks.models.inert_pickle import InertObject

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

MAIN = (
    "state_dict", "model", "model_state_dict", "model_state", "state_dict_model", "net", "network",
    "net_state_dict", "params", "weights", "model_weights", "module", "state", "student", "encoder",
    "backbone",
)  # fmt: skip
"""Keys under which training scripts keep the trained model's state, the likeliest first."""

AVERAGES = ("ema", "swa", "averaged", "average", "avg", "shadow", "teacher", "momentum", "mean")
"""Words in the keys of averages over the steps of a training."""

NO_MODELS = ("optim", "scaler", "scheduler", "sched", "amp", "rng", "callback", "loop", "hyper")
"""Beginnings of words in the keys of what is no model."""

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")
"""Modules that torch puts around a module when it is compiled, distributed or checkpointed."""

EXTRA_STATE = "_extra_state"
"""Last part of the name of what a module's `get_extra_state` returned."""

PACKED = "_packed_params"
"""Part of the names of the weights of quantised modules, which are no tensors."""

DEEPEST = 4
"""Dicts within dicts that are looked through."""

OTHER = len(MAIN)
"""Rank of a key that says nothing of what it holds."""

AVERAGE = OTHER + 1
"""Rank of a key that speaks of an average."""


@dataclass(frozen=True)
class StateDict:
    """Entries by name, somewhere in a file, and what was done to their names."""

    label: str
    """Keys and prefixes that lead to it, joined by dots; empty for the whole file."""
    entries: dict[str, Any]
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Versions of modules, by path, that torch saved beside the entries."""
    left_out: tuple[str, ...] = ()
    """Names beside it that do not begin with its prefix."""

    @property
    def rank(self) -> int:
        """How likely it is the trained model: its place in `MAIN`, then others, then averages."""
        if not self.label:
            return -1
        return max(_rank(part) for part in self.label.split("."))


def _rank(key: str) -> int:
    """Return how likely a key leads to the trained model: place in `MAIN`, `OTHER`, `AVERAGE`."""
    if any(word in AVERAGES for word in key.lower().replace("-", "_").split("_")):
        return AVERAGE
    return MAIN.index(key) if key in MAIN else OTHER


def as_mapping(value: Any) -> dict[Any, Any] | None:
    """Return the items of a dict, or of an object that is some kind of dict; None for others."""
    if isinstance(value, Mapping):
        # dict's own method: a file can hide an instance's.
        return dict(dict.items(value) if isinstance(value, dict) else value.items())
    if isinstance(value, InertObject) and value.entries:
        return dict(value.entries)
    return None


def find_state_dicts(content: Any) -> list[StateDict]:
    """Return the state dicts in a file's content, by their names as they are, the likeliest first."""
    return sorted(_within(content), key=lambda each: each.rank)


def _within(content: Any) -> Iterator[StateDict]:
    """Yield the state dicts at most `DEEPEST` dicts within, those that lie less deep first.

    A file may hold one dict many times, or within itself: what holds state dicts is looked into once.
    """
    level: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen: set[int] = set()
    for _ in range(DEEPEST + 1):
        within = []
        for keys, value in level:
            mapping = as_mapping(value)
            if not mapping or id(value) in seen:
                continue
            if _is_state_dict(mapping):
                yield StateDict(".".join(keys), mapping, _metadata(value))
                continue
            seen.add(id(value))
            within += [
                ((*keys, key), inner)
                for key, inner in mapping.items()
                if isinstance(key, str) and not _is_no_model(key)
            ]
        level = within


def _is_state_dict(mapping: Mapping[Any, Any]) -> bool:
    tensors = [isinstance(value, torch.Tensor) for value in mapping.values()]
    if not any(tensors) or not all(isinstance(key, str) for key in mapping):
        return any(PACKED in str(key) for key in mapping)
    names = [key for key, is_tensor in zip(mapping, tensors, strict=True) if not is_tensor]
    return all(is_extra_state(name) or PACKED in name for name in names)


def is_extra_state(name: str) -> bool:
    """Return whether an entry is what a module's `get_extra_state` returned."""
    return name.rpartition(".")[2] == EXTRA_STATE


def _is_no_model(key: str) -> bool:
    words = key.lower().replace("-", "_").split("_")
    return any(word.startswith(NO_MODELS) for word in words)


def _metadata(value: Any) -> dict[str, dict[str, Any]]:
    noted = vars(value).get("_metadata") if isinstance(value, OrderedDict) else None
    pairs = dict.items(noted) if isinstance(noted, dict) else ()
    return {path: each for path, each in pairs if isinstance(path, str) and isinstance(each, dict)}


def same_state_variants(state: StateDict) -> Iterator[StateDict]:
    """Yield a state dict by its names as they are, and without what wraps them.

    Wrappers of torch are taken off wherever they stand in a name; then what all names begin with,
    a module at a time, as Lightning and other trainers add it.
    """
    seen = set()
    for wrappers in ((), WRAPPERS[:-1], WRAPPERS):
        stripped: StateDict | None = _without(state, wrappers)
        while stripped is not None:
            names = frozenset(stripped.entries)
            if names not in seen:
                yield stripped
            seen.add(names)
            stripped = _without_common_beginning(stripped)


def part_variants(state: StateDict, least: int) -> Iterator[list[StateDict]]:
    """Yield, without wrappers and with them, the parts whose names share a beginning.

    Parameters
    ----------
    state
        A state dict of more than the model, such as a Lightning module's.
    least
        Entries that a part must have.
    """
    for wrappers in (WRAPPERS, WRAPPERS[:-1], ()):
        whole = _without(state, wrappers)
        if whole is not None:
            times = Counter(beginning for name in whole.entries for beginning in _beginnings(name))
            parts = [each for each in times if least <= times[each] < len(whole.entries)]
            yield [part_of(whole, each) for each in parts]


def part_of(state: StateDict, beginning: str) -> StateDict:
    """Return the entries whose names begin with a module's path, without it."""
    start = f"{beginning}."
    metadata = {f"{path}.": each for path, each in state.metadata.items()}
    return StateDict(
        label=f"{state.label}.{beginning}" if state.label else beginning,
        entries={n.removeprefix(start): v for n, v in state.entries.items() if n.startswith(start)},
        metadata={
            path.removeprefix(start).rstrip("."): each
            for path, each in metadata.items()
            if path.startswith(start)
        },
        left_out=tuple(name for name in state.entries if not name.startswith(start)),
    )


def named_state_dicts(states: Sequence[StateDict], key: str) -> list[StateDict]:
    """Return the state dicts that a key means: a key of the file, or a beginning of names in one.

    Parameters
    ----------
    states
        All state dicts of a file.
    key
        A label or the end of one, such as `ema` or `ema.module`.
    """
    exact = [each for each in states if each.label == key]
    ending = [each for each in states if each.label.endswith(f".{key}")]
    within = [each for each in states if each.label.startswith(f"{key}.")]
    if exact or ending or within:
        return exact or ending or within
    found = []
    for state in states:
        beginning = key.removeprefix(f"{state.label}.") if state.label else key
        for wrappers in ((), WRAPPERS):
            whole = _without(state, wrappers)
            part = None if whole is None else part_of(whole, beginning)
            if part is not None and part.entries:
                found.append(replace(part, left_out=()))
                break
    return found


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")[:-1]
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _without(state: StateDict, wrappers: Collection[str]) -> StateDict | None:
    """Return it with these modules taken out of all names; None where two names become one."""

    def short(path: str) -> str:
        return ".".join(part for part in path.split(".") if part not in wrappers)

    entries = {short(name): value for name, value in state.entries.items()}
    if len(entries) < len(state.entries):
        return None
    metadata = {short(path): each for path, each in state.metadata.items()}
    return replace(state, entries=entries, metadata=metadata)


def _without_common_beginning(state: StateDict) -> StateDict | None:
    first = {name.partition(".")[0] if "." in name else "" for name in state.entries}
    if len(first) != 1 or "" in first:
        return None
    return replace(part_of(state, first.pop()), label=state.label)
