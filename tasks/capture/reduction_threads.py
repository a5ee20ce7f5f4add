"""The reduction kernel on several threads, each with images of its own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.capture.openmp import (
    REGION_BODY,
    compiler,
    pack,
    pointer,
    region_threads,
    run_on_threads,
    thread_number,
)
from activarium.tasks.capture.reduction_kernel import ORDER, STAGES, transform_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.capture.reduction_kernel import Work


def transform_on_threads(
    maps: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    work: Work,
    reduced: NDArray[np.float32],
    threads: int,
) -> None:
    """Run `transform_images`.

    Parameters
    ----------
    maps
        Source, result and other, each (image, value), contiguous.
    work
        See `transform_images`.
    reduced
        Filled, (stage, reduction, image, channel), contiguous.
    threads
        At most as many as images.
    """

    def run(part: slice) -> None:
        source, result, other = (each[part] for each in maps)
        transform_images(source, result, other, work, reduced[:, :, part])

    def packed() -> NDArray[np.int64]:
        operations, numbers, wanted = work
        arrays: tuple[NDArray[Any], ...] = (*maps, numbers, wanted, reduced)
        sizes = (*maps[0].shape, numbers.shape[1], reduced.shape[3], operations)
        return pack(arrays, sizes)

    run_on_threads(run, len(maps[0]), threads, body=_body, packed=packed)


@cache
def _body() -> Any:
    """Compile what each thread does."""
    stages, reductions = STAGES, len(ORDER)
    carray = compiler.carray

    @compiler.cfunc(REGION_BODY, cache=True)  # type: ignore[untyped-decorator]
    def body(packed: Any) -> None:
        given = carray(packed, (11,))
        images, values, lanes, channels = given[6], given[7], given[8], given[9]
        source = carray(pointer(given[0]), (images, values), np.float32)
        result = carray(pointer(given[1]), (images, values), np.float32)
        other = carray(pointer(given[2]), (images, values), np.float32)
        numbers = carray(pointer(given[3]), (3, lanes), np.float32)
        wanted = carray(pointer(given[4]), (stages,), np.int64)
        shape = (stages, reductions, images, channels)
        reduced = carray(pointer(given[5]), shape, np.float32)
        thread, threads = thread_number(), region_threads()
        first, last = images * thread // threads, images * (thread + 1) // threads
        transform_images(
            source[first:last],
            result[first:last],
            other[first:last],
            (given[10], numbers, wanted),
            reduced[:, :, first:last],
        )

    return body
