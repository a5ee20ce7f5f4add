"""The devices that run a model: found by name, and lost with one clear line."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.forward import is_device_lost, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def resolve_device(device: str, *, setting: str = "record.device") -> torch.device:
    """Return the device; `auto` takes CUDA where there is one.

    Raises
    ------
    UserError
        If the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(
            f"{setting}: expected auto, cpu, cuda or cuda:<n>, got {device!r}"
        ) from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{setting}: {device!r} is not there ({torch.cuda.device_count()} CUDA devices); "
            "use auto or cpu"
        )
    return found


def device_per_process(devices: Sequence[str]) -> tuple[str, ...]:
    """Return the device of each process; `cpu:2` is two processes on the CPU.

    Raises
    ------
    UserError
        If one does not exist here, or they are of two kinds.
    """
    each: list[str] = []
    for device in devices:
        kind, _, count = device.strip().partition(":")
        if kind == "cpu" and count:
            if not count.isdecimal() or int(count) < 1:
                raise UserError(f"--devices: expected cpu:<processes>, got {device!r}")
            each += ["cpu"] * int(count)
        else:
            each.append(str(resolve_device(device.strip(), setting="--devices")))
    kinds = sorted({device.partition(":")[0] for device in each})
    if len(kinds) != 1:
        raise UserError(
            f"--devices: expected devices of one kind, got {', '.join(devices) or 'none'}: "
            "the rows of a recording would not be of one kind"
        )
    return tuple(each)


@contextmanager
def device_faults(device: torch.device) -> Iterator[None]:
    """Turn the errors of a device that fails, or has no room, into one line.

    Raises
    ------
    UserError
        If the device is lost or its memory is full.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if is_device_lost(error):
            raise UserError(
                f"{device} does not answer any more ({reason}): nothing that was stored is lost; "
                "run the same command again, elsewhere with --devices if it stays away"
            ) from error
        if is_out_of_memory(error):
            raise UserError(
                f"out of memory on {device} ({reason}): free some, or use another device"
            ) from error
        raise
