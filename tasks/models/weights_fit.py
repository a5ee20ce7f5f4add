"""Whether a state dict fits a model, and loading it: what `load_state_dict(strict=True)` takes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from activarium.tasks.models.inert_pickle import InertObject
from activarium.tasks.models.state_dicts import is_extra_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from activarium.tasks.models.state_dicts import StateDict

AUXILIARY = ("aux1", "aux2", "AuxLogits", "aux_classifier")
"""Heads of torchvision's models that only training uses, and of timm's that were made after them;
models are built without them."""


@dataclass(frozen=True)
class Faults:
    """Where the names and shapes of a state dict are not those of a model."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    differing: tuple[str, ...]
    """Names of entries of another shape."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.differing)

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.differing)


@dataclass(frozen=True)
class Target:
    """A model whose weights are to be replaced, but for those of one module where that is asked."""

    model: nn.Module
    except_module: str = ""

    @property
    def heads(self) -> tuple[str, ...]:
        """Beginnings of the names of heads that only training uses; of published models alone."""
        package = type(self.model).__module__.partition(".")[0]
        published = package in ("torchvision", "timm")
        return tuple(f"{head}." for head in AUXILIARY) if published else ()

    def is_optional(self, name: str) -> bool:
        """Return whether a file may lack an entry of the model."""
        # Files older than batch norm's counter lack it; it plays no part in the forward pass. Files
        # of safetensors have no place for what is no tensor.
        return self.is_left_out(name) or name.endswith("num_batches_tracked")

    def is_left_out(self, name: str) -> bool:
        """Return whether the model need not take an entry of a file."""
        return name.startswith(self.heads) or is_extra_state(name)

    def expected(self) -> dict[str, Any]:
        """Return the model's own state dict."""
        state: dict[str, Any] = self.model.state_dict()
        return state

    def read(self, state: StateDict) -> dict[str, Any]:
        """Return the entries that are to be loaded, those that are kept from the model."""
        if not self.except_module:
            return state.entries
        kept = f"{self.except_module}."
        own = {n: each for n, each in self.expected().items() if n.startswith(kept)}
        return {n: each for n, each in state.entries.items() if not n.startswith(kept)} | own

    def least(self) -> int:
        """Return how many entries a state dict has that fits, at least."""
        kept = (f"{self.except_module}.",) if self.except_module else ()
        return sum(not self.is_optional(n) and not n.startswith(kept) for n in self.expected())

    def faults(self, state: StateDict) -> Faults:
        """Return what keeps a state dict from fitting by names and shapes."""
        expected, read = self.expected(), self.read(state)
        return Faults(
            missing=tuple(n for n in expected if n not in read and not self.is_optional(n)),
            unexpected=tuple(n for n in read if n not in expected and not self.is_left_out(n)),
            differing=tuple(
                n for n in expected if n in read and _shape(read[n]) != _shape(expected[n])
            ),
        )

    def sets(self, name: str) -> bool:
        """Return whether the module takes back the extra state of this name that it gave."""
        module = self.model.get_submodule(name.rpartition(".")[0])
        return type(module).set_extra_state is not nn.Module.set_extra_state

    def takes(self, state: StateDict) -> bool:
        """Return whether the model's own loading takes a state dict whose names do not fit.

        Modules may rename old names, or bring older weights up to date, while they load. The
        model's weights are what they were before.
        """
        before = {n: t.clone() for n, t in tensors_in(self.expected())}
        try:
            self.load(state)
        except Exception:  # noqa: BLE001 - hooks of any module run here
            return False
        finally:
            with torch.no_grad():
                for name, tensor in tensors_in(self.expected()):
                    if name in before and before[name].shape == tensor.shape:
                        tensor.copy_(before[name])
        return True

    def load(self, state: StateDict) -> None:
        """Load a state dict strictly; what old files lack is kept from the model.

        Raises
        ------
        Exception
            Of any kind, where the model does not take it.
        """
        expected, read = self.expected(), self.read(state)
        kept = {n: each for n, each in expected.items() if n not in read and self.is_optional(n)}
        known = {n: v for n, v in read.items() if n in expected or not self.is_left_out(n)}
        filled = OrderedDict(
            (n, _plain(value, expected.get(n)))
            for n, value in (known | kept).items()
            if not (is_extra_state(n) and not self.sets(n))
        )
        # Some models refuse a state dict without its modules' versions, which safetensors drops.
        own = expected._metadata  # type: ignore[attr-defined]  # noqa: SLF001
        filled._metadata = OrderedDict(state.metadata) or own  # type: ignore[attr-defined]  # noqa: SLF001
        self.model.load_state_dict(filled, strict=True)


def tensors_in(state: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield those entries that are tensors."""
    return ((name, each) for name, each in state.items() if isinstance(each, torch.Tensor))


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _plain(value: Any, expected: Any) -> Any:
    """Return an entry as the model holds it: not quantised where the model is not."""
    is_packed = isinstance(value, torch.Tensor) and value.is_quantized
    if is_packed and not (isinstance(expected, torch.Tensor) and expected.is_quantized):
        return value.dequantize()
    return value


def unread_parts(value: Any) -> Iterator[InertObject]:
    """Yield the objects within an entry that were not read, since their classes are unknown.

    Containers may hold themselves, or one another many times or deeply: each is looked into once.
    """
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        if isinstance(each, InertObject):
            yield each
        elif isinstance(each, dict):
            seen.add(id(each))
            waiting += [part for pair in dict.items(each) for part in pair]
        elif isinstance(each, list | tuple | set | frozenset):
            seen.add(id(each))
            waiting += each
