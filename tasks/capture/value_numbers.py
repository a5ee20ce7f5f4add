"""Which tensors of a forward pass are the same value, computed twice.

Values are numbered as compilers do it: two tensors have one number where the same operations made
them of the same tensors. Equal bits alone do not: two layers may happen to answer alike to the images
of a trial.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.weak import WeakTensorKeyDictionary

from activarium.tasks.capture.forward import Watching

_NAMESPACES = {"aten", "torchvision"}
"""Whose operations follow from what they take; those of others may not."""
_READERS = {"tolist", "numpy", "__array__", "__dlpack__"}
"""Functions that hand values to Python past all operations."""


class ValueNumbers(Watching):
    """Numbers the values of one forward pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._next = count()
        self._made: dict[Any, int] = {}
        """Number of what an operation makes of some numbers."""
        self._known = WeakTensorKeyDictionary()
        """Number of a tensor, and how often its memory had been written to then."""
        self._readers = _Readers()
        self._is_branched = False

    def __enter__(self) -> Any:
        self._readers.__enter__()  # type: ignore[no-untyped-call]
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._readers.__exit__(*error)  # type: ignore[no-untyped-call]

    @property
    def is_branched(self) -> bool:
        """Whether Python saw values, and may have done something else for other images."""
        return self._is_branched or self._readers.were_called

    def release(self) -> None:
        """Let go of all tensors."""
        self._known.clear()
        self._made.clear()

    def of(self, tensor: torch.Tensor) -> int | None:
        """Return the number of a tensor as it is now; None where it cannot be told."""
        try:
            version = tensor._version  # noqa: SLF001
        except RuntimeError:  # of inference mode, or inside of vmap
            return None
        number, then = self._known.get(tensor, (-1, version))  # type: ignore[no-untyped-call]
        if number < 0 or then != version:
            number = next(self._next)
            self._known[tensor] = number, version
        return int(number)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        follows = _follows(func)
        # Before the call, which may write to what it takes.
        made_by = self._key(func, args, kwargs) if follows else None
        output = func(*args, **(kwargs or {}))
        found = pytree.tree_leaves(output)
        if torch.Tag.dynamic_output_shape in func.tags or not all(map(_is_tensor, found)):
            self._is_branched = True
        elif made_by is not None:
            self._keep(made_by, found)
        return output

    def _key(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Return what tells the value of a call; None where nothing does."""
        leaves, form = pytree.tree_flatten((args, kwargs))
        said: list[Any] = []
        for leaf in leaves:
            number = self.of(leaf) if _is_tensor(leaf) else _text(leaf)
            if number is None:
                return None
            said.append(number)
        return func, tuple(said), str(form)

    def _keep(self, made_by: Any, found: list[torch.Tensor]) -> None:
        for place, tensor in enumerate(found):
            try:
                version = tensor._version  # noqa: SLF001
            except RuntimeError:
                continue
            number = self._made.setdefault((made_by, place), -1)
            if number < 0:
                number = self._made[made_by, place] = next(self._next)
            self._known[tensor] = number, version


class _Readers(TorchFunctionMode):
    """Notes whether functions are called that hand values to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.were_called = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # What is looked at between the model's calls, with its modes put aside, the model does not do.
        if _get_current_dispatch_mode() is not None:
            self.were_called |= getattr(func, "__name__", "") in _READERS
        return func(*args, **(kwargs or {}))


def _follows(func: Any) -> bool:
    """Return whether what an operation returns follows from what it takes."""
    name = func.name().partition("::")[2]
    return (
        func.namespace in _NAMESPACES
        and not func._schema.is_mutable  # noqa: SLF001
        and torch.Tag.nondeterministic_seeded not in func.tags
        and "empty" not in name
    )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _text(value: Any) -> str | None:
    """Return a number, name or device as text, which tells -0.0 from 0.0; None for any other thing."""
    plain = (int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
    return (
        f"{type(value).__name__} {value!r}" if value is None or isinstance(value, plain) else None
    )
