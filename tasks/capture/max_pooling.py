"""Maximum pooling on the CPU without the places of the maxima, compiled by numba.

PyTorch finds the largest value of every window and also where it is, value by value. The largest of
a square is that of its columns' largest, bit by bit the same, and takes a fraction of the time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from torch import nn

from activarium.tasks.capture.openmp import (
    REGION_BODY,
    compiler,
    pack,
    pointer,
    region_threads,
    run_on_threads,
    thread_number,
)
from activarium.tasks.capture.reductions import channels_last_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.capture.graph_taps import TappedGraph


@njit(nogil=True, cache=True)
def _raise_to(values: NDArray[np.float32], largest: NDArray[np.float32]) -> None:
    """Take the larger values; NaN wins, as in torch."""
    for place in range(values.size):
        value, before = values[place], largest[place]
        # Without a branch, which would give no vector instructions.
        largest[place] = value if (value > before) | (value != value) else before  # noqa: PLR0124


@njit(nogil=True, cache=True)
def _copy_to(values: NDArray[np.float32], target: NDArray[np.float32]) -> None:
    for place in range(values.size):
        target[place] = values[place]


@njit(nogil=True, cache=True)
def _pool_images(
    source: NDArray[np.float32],
    result: NDArray[np.float32],
    window: tuple[int, int, int],
) -> None:
    """Fill `result`; both are (image, row, column, channel). Window: side, step, padding."""
    side, step, padding = window
    images, rows, columns, channels = source.shape
    largest = np.empty((columns, channels), np.float32)
    flat = largest.reshape(columns * channels)
    for image in range(images):
        for row in range(result.shape[1]):
            first = row * step - padding
            top = max(first, 0)
            _copy_to(source[image, top].reshape(columns * channels), flat)
            for line in range(top + 1, min(first + side, rows)):
                _raise_to(source[image, line].reshape(columns * channels), flat)
            for column in range(result.shape[2]):
                first = column * step - padding
                left = max(first, 0)
                target = result[image, row, column]
                _copy_to(largest[left], target)
                for beside in range(left + 1, min(first + side, columns)):
                    _raise_to(largest[beside], target)


@cache
def _body() -> Any:
    """Compile what each thread does."""
    carray = compiler.carray

    @compiler.cfunc(REGION_BODY, cache=True)  # type: ignore[untyped-decorator]
    def body(packed: Any) -> None:
        given = carray(packed, (11,))
        images, channels = given[2], given[5]
        source = carray(pointer(given[0]), (images, given[3], given[4], channels), np.float32)
        result = carray(pointer(given[1]), (images, given[6], given[7], channels), np.float32)
        thread, threads = thread_number(), region_threads()
        first, last = images * thread // threads, images * (thread + 1) // threads
        window = (given[8], given[9], given[10])
        _pool_images(source[first:last], result[first:last], window)

    return body


class MaxPool(nn.Module):
    """Does what a square `nn.MaxPool2d` does.

    Parameters
    ----------
    pool
        The module that it stands for.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self._pool = pool
        self._window = _side(pool.kernel_size), _side(pool.stride), _side(pool.padding)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return (image, channel, row, column)."""
        if channels_last_rows(maps) is None or 0 in maps.shape:
            pooled: torch.Tensor = self._pool(maps)
            return pooled
        size = self._pool(torch.empty_like(maps, device="meta")).shape
        result = torch.empty(size, memory_format=torch.channels_last)
        source, target = (each.permute(0, 2, 3, 1).numpy() for each in (maps, result))

        def run(part: slice) -> None:
            _pool_images(source[part], target[part], self._window)

        def packed() -> NDArray[np.int64]:
            return pack((source, target), (*source.shape, *target.shape[1:3], *self._window))

        threads = min(torch.get_num_threads(), len(maps))
        run_on_threads(run, len(maps), threads, body=_body, packed=packed)
        return result


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def replace_pools(model: nn.Module, tapped: TappedGraph) -> int:
    """Replace the poolings of a graph that can be done so, and return their number."""
    calls = [node for node in tapped.graph.nodes if node.op == "call_module"]
    replaced = 0
    for node in calls:
        target = str(node.target)
        module = None if target in tapped.modules else model.get_submodule(target)
        if type(module) is nn.MaxPool2d and _is_square(module):
            path = f"_pool_{len(tapped.modules)}"
            tapped.modules[path] = MaxPool(module)
            node.target = path
            replaced += 1
    return replaced


def _is_square(module: nn.MaxPool2d) -> bool:
    values = (module.kernel_size, module.stride, module.padding)
    square = all(isinstance(value, int) or len(set(value)) == 1 for value in values)
    return square and module.dilation in (1, (1, 1)) and not module.return_indices
