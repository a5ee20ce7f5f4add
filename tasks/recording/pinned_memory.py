"""Memory of the host that a GPU copies from and to in its own time."""

from __future__ import annotations

import torch

from activarium.tasks.capture.device_errors import is_device_lost


def pinned_where_possible(size: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return pinned memory, or ordinary memory where the system gives no more of it.

    Copies from and to ordinary memory are right too; the host waits for them.
    """
    try:
        return torch.empty(size, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        if is_device_lost(error):
            raise
    return torch.empty(size, dtype=dtype)
