"""What an error says of a device: it has no memory left, it is lost, or neither."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = re.compile(
    r"out of memory|(can't|cannot|unable to) allocate|not enough memory|bad_alloc"
    r"|OUT_OF_MEMORY|ALLOC(ATION)?_FAILED"
    # What cuBLAS and cuDNN say where their handle or their workspace finds no room.
    r"|CU(BLAS|DNN)_STATUS_NOT_INITIALIZED"
    r"|unable to find (an engine|a valid cuDNN algorithm)",
    re.IGNORECASE,
)

_LOST = re.compile(
    r"(CUDA|HIP)( driver)? error|CU(BLAS|DNN)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)",
    re.IGNORECASE,
)

_NOT_LOST = re.compile(
    r"no kernel image|invalid|INVALID|not supported|NOT_SUPPORTED|peer access|insufficient driver"
)
"""Errors of a call or of an installation, which the same call would meet on any device alike."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, says that a device or the host has no memory left.

    Libraries say so in many words, and compilers wrap what they meet.
    """
    return any(_says_memory(each) for each in _causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, says that the accelerator failed, not the model."""
    return not is_out_of_memory(error) and any(_says_lost(each) for each in _causes(error))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _says_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error)))


def _says_lost(error: BaseException) -> bool:
    text = str(error)
    accelerator = getattr(torch, "AcceleratorError", ())
    return (
        isinstance(error, RuntimeError)
        and (isinstance(error, accelerator) or bool(_LOST.search(text)))
        and not _NOT_LOST.search(text)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from; compilers keep theirs as `inner_exception`."""
    seen: set[int] = set()
    left = [error]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__cause__, getattr(each, "inner_exception", None))
        left += [found for found in inner if isinstance(found, BaseException)]
