"""Processes of this machine: as many as it has cores and memory for, and none without its parent."""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from dask.system import cpu_count

from activarium.schemas.errors import UserError

PROCESS_BYTES = 512 * 2**20
"""Memory of a process that has loaded its libraries: measured, 415 MB with torch, before any image."""

CPU_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
"""Files that hold quota and period of the processor time that a container may take."""

MEMORY_INFO = "/proc/meminfo"
MEMORY_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""Files that hold the memory that a container may take, and beside each what it takes."""

CACHED = ("inactive_file", "active_file")
"""What counts in a container's memory and is given up where it is needed, in memory.stat."""

WATCH_SECONDS = 0.5
"""Between two looks whether the parent lives."""

ORPHANED = 1
"""Exit code of a process that ends because its parent is gone."""


def end_with_parent(parent: int) -> None:
    """Let this process end within a second after its parent does, however that ended.

    A thread looks for the parent: signals of the system are bound to the thread that started the
    process, and the end of a pipe is not seen while others hold it too.

    Parameters
    ----------
    parent
        Process id of the parent; it may be gone already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def cpu_quota() -> float | None:
    """Return the processors' worth of time that a container may take; None without a limit."""
    for files in CPU_QUOTAS:
        with suppress(OSError, ValueError):
            text = " ".join(Path(file).read_text("ascii") for file in files)
            quota, period = (float(part) for part in text.split())
            return quota / period if quota > 0 else None
    return None


def usable_processors() -> int:
    """Return the processors that this process may use, a container's quota rounded up."""
    quota = cpu_quota()
    return cpu_count() if quota is None else max(1, min(cpu_count(), math.ceil(quota)))


def usable_memory() -> int | None:
    """Return the bytes of memory that new processes may take; None where that is not known."""
    found = []
    with suppress(OSError, KeyError):
        found.append(1024 * _numbers(Path(MEMORY_INFO))["MemAvailable"])
    for limit, taken in MEMORY_LIMITS:
        with suppress(OSError, ValueError):
            file = Path(limit)
            most, used = (int(each.read_text("ascii")) for each in (file, file.with_name(taken)))
            counted = _numbers(file.with_name("memory.stat"))
            found.append(max(0, most - used + sum(counted.get(key, 0) for key in CACHED)))
    return min(found, default=None)


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines such as `MemFree: 12 kB`, by their names."""
    lines = (line.replace(":", " ").split() for line in path.read_text("ascii").splitlines())
    return {each[0]: int(each[1]) for each in lines if len(each) > 1 and each[1].isdecimal()}


def most_processes() -> int:
    """Return how many processes this machine has processors and memory for, at least 1."""
    memory, processors = usable_memory(), usable_processors()
    fitting = processors if memory is None else min(processors, memory // PROCESS_BYTES)
    return max(1, fitting)


def check_processes(processes: int, *, setting: str, gpus: int = 0) -> None:
    """Refuse more processes than the machine has cores and memory for.

    Parameters
    ----------
    processes
        How many there are to be.
    setting
        What asks for them, for the message.
    gpus
        GPUs that they work on: one process for each is not too many, however few the cores.

    Raises
    ------
    UserError
        If there are more.
    """
    if processes <= 1:
        return
    cores, memory = usable_processors(), usable_memory()
    most = max(cores, gpus)
    if processes > most:
        raise UserError(
            f"{setting}: {processes:,} processes, and {cores} core{'s' if cores != 1 else ''} that "
            f"this program may use: ask for {most} at most"
        )
    if memory is not None and processes * PROCESS_BYTES > memory:
        needed = processes * PROCESS_BYTES / 2**30
        raise UserError(
            f"{setting}: {processes:,} processes take more than {needed:.1f} GiB of memory, and "
            f"{memory / 2**30:.1f} GiB are free: ask for {most_processes()} at most"
        )
