"""How a device computes products: whether rounded to TF32, whether the same way every time."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PARTS = ("matmul", "conv", "rnn")


@contextmanager
def tf32_products(*, allowed: bool) -> Iterator[None]:
    """Allow TF32 on CUDA, or nothing below float32 anywhere; at the end all is as it was.

    Parameters
    ----------
    allowed
        Products and convolutions on CUDA may round their inputs to a mantissa of 10 bits. On the
        CPU, where oneDNN can be told to round to bfloat16, they never are.
    """
    with ExitStack() as restored:
        # Since 2.9 torch has a second way to say so, and refuses to read the first one after it.
        if hasattr(torch._C, "_set_fp32_precision_setter"):  # noqa: SLF001
            _set_backend("cuda", "tf32" if allowed else "ieee", restored)
            _set_backend("mkldnn", "ieee", restored)
        else:
            _set_flag(torch.backends.cuda.matmul, allowed, restored)
            _set_flag(torch.backends.cudnn, allowed, restored)
        yield


@contextmanager
def steady_convolutions() -> Iterator[None]:
    """Let cuDNN compute the same batch in the same way every time; at the end all is as it was."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def _set_backend(backend: str, precision: str, restored: ExitStack) -> None:
    """Set the precision of a backend as a whole, and of the parts that have one of their own.

    Parts that have none are left alone: they follow the whole, now and later.
    """
    # Not by torch.backends: there the precision of mkldnn as a whole is set for all backends.
    get: Callable[[str, str], str] = torch._C._get_fp32_precision_getter  # noqa: SLF001
    put: Callable[[str, str, str], Any] = torch._C._set_fp32_precision_setter  # noqa: SLF001

    def change(part: str, before: str) -> None:
        restored.callback(partial(put, backend, part, before))
        put(backend, part, precision)

    everywhere = get("generic", "all")
    put("generic", "all", "none")  # only so does the backend tell what it was itself given
    own = get(backend, "all")
    put("generic", "all", everywhere)
    change("all", own)
    for part in _PARTS:
        before = get(backend, part)
        if before != precision:
            change(part, before)


def _set_flag(backend: Any, allowed: bool, restored: ExitStack) -> None:  # noqa: FBT001
    restored.callback(partial(setattr, backend, "allow_tf32", backend.allow_tf32))
    backend.allow_tf32 = allowed
