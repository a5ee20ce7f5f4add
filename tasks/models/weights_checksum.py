"""Bytes that stand for the entries of a state dict, the same in every process and on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def entry_bytes(value: Any) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an entry: a tensor's type, shape and values, or an extra state's content.

    Raises
    ------
    TypeError
        If it holds an object that has no stable content.
    """
    if isinstance(value, torch.Tensor):
        yield from _tensor_bytes(value)
    elif isinstance(value, dict):
        yield b"dict"
        yield from _parts(sorted(map(_joined, value.items())))
    elif isinstance(value, set | frozenset):
        yield b"set"
        yield from _parts(sorted(map(_joined, value)))
    elif isinstance(value, list | tuple):
        yield type(value).__name__.encode()
        yield from _parts(map(_joined, value))
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"array {value.dtype.str} {value.shape}\n".encode()
        yield value.tobytes()
    elif value is None or isinstance(
        value, bool | int | float | complex | str | bytes | np.generic
    ):
        yield f"{type(value).__name__} {value!r}\n".encode()
    elif isinstance(value, torch.dtype | torch.device | torch.qscheme | torch.layout):
        yield f"{value}\n".encode()
    elif hasattr(value, "__qualname__"):  # a class or function
        yield f"{value.__module__}.{value.__qualname__}\n".encode()
    else:
        yield from _object_bytes(value)


def _joined(value: Any) -> bytes:
    return b"".join(bytes(part) for part in entry_bytes(value))


def _parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield parts with their lengths, so that no two sequences have the same bytes."""
    listed = list(parts)
    yield f" {len(listed)}\n".encode()
    for part in listed:
        yield f"{len(part)}\n".encode()
        yield part


def _tensor_bytes(tensor: torch.Tensor) -> Iterator[bytes | memoryview]:
    yield f"{tensor.dtype} {tuple(tensor.shape)}\n".encode()
    held = tensor.detach().cpu()
    if held.is_quantized:
        yield from entry_bytes(_quantiser(held))
        held = held.int_repr()
    elif held.layout != torch.strided:
        held = held.to_dense()
    flat: Any = held.contiguous().reshape(-1).view(torch.uint8).numpy()
    yield memoryview(flat)


def _quantiser(tensor: torch.Tensor) -> tuple[Any, ...]:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return str(tensor.qscheme()), tensor.q_scale(), tensor.q_zero_point()
    scales, points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return str(tensor.qscheme()), scales, points, tensor.q_per_channel_axis()


def _object_bytes(value: Any) -> Iterator[bytes]:
    """Yield an object's class and what pickle would keep of it."""
    kind = type(value)
    yield f"{kind.__module__}.{kind.__qualname__}\n".encode()
    kept = value.__reduce_ex__(2)
    if isinstance(kept, str):
        raise TypeError(f"{kind.__qualname__} has no content that could be compared")
    made, arguments, *rest = kept
    state, items, pairs = (*rest, None, None, None)[:3]
    yield _joined((made, arguments, state, list(items or ()), list(pairs or ())))
