"""Compiled functions on the threads of torch's own OpenMP.

After every operation torch's workers wait actively for the next, for milliseconds. Threads of our
own would share the cores with them: measured, a quarter of the time of a recording.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import llvmlite.binding
import numba.extending
import numpy as np
from llvmlite import ir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

LIBRARY = "libgomp.so.1"
"""GNU OpenMP, which torch comes with on Linux."""

THREAD_NUMBER, THREADS = "omp_get_thread_num", "omp_get_num_threads"

compiler: Any = numba
"""numba, whose decorators and types mypy does not know."""

thread_number: Any = compiler.types.ExternalFunction(THREAD_NUMBER, compiler.types.int32())
"""Number of the thread that calls it, in compiled code within a region."""

region_threads: Any = compiler.types.ExternalFunction(THREADS, compiler.types.int32())
"""Threads of the region, in compiled code within it; limits may make them fewer than asked for."""

REGION_BODY: Any = compiler.types.void(compiler.types.CPointer(compiler.types.int64))
"""Signature of what each thread of a region does: it takes the packed arguments."""


def _to_pointer(typing_context: Any, address: Any) -> Any:  # noqa: ARG001 - numba's signature
    """Return an integer as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return compiler.types.voidptr(compiler.types.int64), generate


pointer: Any = compiler.extending.intrinsic(_to_pointer)
"""Turns an address into a pointer, in compiled code."""


def pack(arrays: Sequence[NDArray[Any]], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return the addresses of arrays, then the sizes, as a region's body takes them."""
    return np.array([*(each.ctypes.data for each in arrays), *sizes], np.int64)


@cache
def region() -> Callable[[Any, NDArray[np.int64], int], None] | None:
    """Return what runs a body with packed arguments on some threads; None where torch has none."""
    try:
        # The one that this process has loaded already, never another.
        library = ctypes.CDLL(LIBRARY, mode=getattr(os, "RTLD_NOLOAD", 0) | os.RTLD_NOW)
        parallel = library.GOMP_parallel
        for name in (THREAD_NUMBER, THREADS):
            address = ctypes.cast(library[name], ctypes.c_void_p).value
            llvmlite.binding.add_symbol(name, address)
    except (OSError, AttributeError):
        return None
    parallel.restype = None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]

    def run(body: Any, packed: NDArray[np.int64], threads: int) -> None:
        parallel(body.address, packed.ctypes.data, threads, 0)

    return run


def run_on_threads(
    run: Callable[[slice], None],
    images: int,
    threads: int,
    *,
    body: Callable[[], Any],
    packed: Callable[[], NDArray[np.int64]],
) -> None:
    """Share images among threads: torch's, or our own on machines without such a library.

    Parameters
    ----------
    run
        Does the work for some of the images.
    images
        How many there are.
    threads
        At most as many as images; with one, this thread does all of it.
    body, packed
        The same work as a region's body, compiled when it is first asked for, and its arguments.
    """
    in_region = region() if threads > 1 else None
    if in_region is not None:
        in_region(body(), packed(), threads)
        return
    edges = [images * thread // threads for thread in range(threads + 1)]
    parts = [slice(first, last) for first, last in pairwise(edges)]
    if threads == 1:
        run(parts[0])
    else:
        list(_pool(threads).map(run, parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "images")
