"""The CPU set on purpose: how many threads a process takes, and how it hands memory back."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from activarium.tasks.processes import cpu_quota

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
"""File that names the hardware threads of one processor's core."""

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEPT_BYTES = 2**30
"""Freed blocks up to this size stay with the process, to be used by the next batch."""


def usable_cores() -> int:
    """Return the physical cores that this process may use, at least 1.

    Two hardware threads of one core count once: a forward pass gains nothing from the second.
    """
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cores = os.cpu_count() or 1 if processors is None else _physical(processors)
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, round(quota)))


def _physical(processors: Iterable[int]) -> int:
    cores = set()
    for processor in processors:
        try:
            cores.add(Path(SIBLINGS.format(processor)).read_text("ascii").strip())
        except OSError:
            cores.add(str(processor))
    return len(cores)


def threads_per_process(processes: int = 1, *, threads: int | None = None) -> int:
    """Return the threads of torch in each of several processes of this machine.

    Parameters
    ----------
    processes
        Processes that share the cores.
    threads
        What is configured; it wins, then the environment's OMP_NUM_THREADS.
    """
    if threads is not None:
        return threads
    with suppress(KeyError, ValueError):
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    return max(1, usable_cores() // processes)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> bool:
    """Keep freed memory in the process, and return whether the C library can.

    By default glibc gives every map of a forward pass back to the system, which then has to clear
    its pages again for the next one: measured, five to seven times the page faults and 10 to 25 %
    more time. Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
