"""The devices that run a model: found by name, and lost with one clear line."""

from __future__ import annotations

import platform
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError, shortened
from activarium.tasks.capture.device_errors import first_line, is_device_lost, is_out_of_memory
from activarium.tasks.processes import check_processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


DEVICES = "record.devices"
"""Setting that `--devices` sets."""

UNSUITED = ("no kernel image", "driver version is insufficient")
"""What CUDA says where torch was built for other devices or drivers."""

LACKING = (
    "not currently implemented for the MPS",
    "MPS framework doesn't support",
    "the MPS device",
)
"""What torch says of operations and types that Apple's GPUs have not."""


CPU_MODEL = re.compile(r"^model name\s*:(.*)$", re.MULTILINE)
"""The line of Linux's /proc/cpuinfo that names the CPU."""


def resolve_device(device: str, *, setting: str = "record.device") -> torch.device:
    """Return the device, a GPU always by its number; `auto` takes CUDA where there is one.

    Raises
    ------
    UserError
        If the device does not exist here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda", "mps"):
        raise UserError(
            f"{setting}: expected auto, cpu, cuda, cuda:<n> or mps, got {shortened(repr(device))}"
        )
    if found.type == "cpu":
        return torch.device("cpu")
    if found.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(
                f"{setting}: {device!r} is not there (no GPU of Apple's); use auto or cpu"
            )
        return torch.device("mps")
    count = torch.cuda.device_count()
    if (found.index or 0) >= count:
        raise UserError(
            f"{setting}: {device!r} is not there ({count} CUDA devices); use auto or cpu"
        )
    return torch.device("cuda", _current_gpu() if found.index is None else found.index)


def _current_gpu() -> int:
    """Return the number of the GPU that torch takes where none is named."""
    try:
        return torch.cuda.current_device()
    except (RuntimeError, AssertionError):
        return 0  # a driver that fails is told of where the device is first used


def use_device(device: torch.device) -> None:
    """Let this thread work on the device; a thread that is not told works on the first GPU."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def gpu_model(device: torch.device) -> str:
    """Return the model of a GPU, such as NVIDIA H200; empty for the CPU.

    Two models of GPU choose other algorithms, and so give other last bits.
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def has_float64(device: torch.device) -> bool:
    """Return whether the device computes in float64, as the trial of layers does."""
    return device.type != "mps"


def processor_model(device: torch.device) -> str:
    """Return what computes: the model of a GPU, or of the CPU with the instruction set in use."""
    if device.type == "cuda":
        return gpu_model(device)
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{_cpu_model()}, {instructions}"


def _cpu_model() -> str:
    with suppress(OSError):
        found = CPU_MODEL.search(Path("/proc/cpuinfo").read_text("utf-8", errors="replace"))
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def has_tf32(device: torch.device) -> bool:
    """Return whether the device can round to TF32; others compute in float32 where it is asked."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def device_per_process(devices: Sequence[str]) -> tuple[str, ...]:
    """Return the device of each process; `cpu:2` is two processes on the CPU.

    Raises
    ------
    UserError
        If one does not exist here, they are of two kinds, or more than the machine has processors
        and memory for.
    """
    each: list[str] = []
    for device in devices:
        kind, _, count = device.strip().partition(":")
        if kind == "cpu" and count:
            if not count.isdecimal() or int(count) < 1:
                raise UserError(f"{DEVICES}: expected cpu:<processes>, got {device!r}")
            check_processes(len(each) + int(count), setting=DEVICES)
            each += ["cpu"] * int(count)
        else:
            each.append(str(resolve_device(device.strip(), setting=DEVICES)))
    check_processes(len(each), setting=DEVICES, gpus=len({*each} - {"cpu"}))
    kinds = {device.partition(":")[0] for device in each}
    if len(kinds) != 1:
        raise UserError(
            f"{DEVICES}: expected devices of one kind, got {', '.join(devices) or 'none'}: "
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
    except Exception as error:
        if isinstance(error, UserError):
            raise
        if is_out_of_memory(error):
            raise UserError(
                f"out of memory on {device} ({first_line(error)}): free some, or use another device"
            ) from error
        if device.type == "mps" and any(words in str(error) for words in LACKING):
            raise UserError(
                f"{device} cannot run this model ({first_line(error)}): use record.device cpu"
            ) from error
        if any(words in str(error) for words in UNSUITED):
            raise UserError(
                f"this build of torch does not run on {device} ({first_line(error)}): install one that does, "
                "or use record.device cpu"
            ) from error
        if is_device_lost(error):
            raise UserError(
                f"{device} does not answer any more ({first_line(error)}): nothing that was stored "
                "is lost; run the same command again, elsewhere with --devices if it stays away"
            ) from error
        raise
