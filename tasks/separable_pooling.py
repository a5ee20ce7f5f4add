"""Maximum pooling of 3 x 3 windows in steps of one, as two passes of neighbours.

PyTorch looks at nine values for each one on the CPU; the maximum of a square is that of its columns'
maxima, bit by bit the same, and four comparisons of whole maps take half the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from activarium.tasks.graph_taps import TappedGraph


class SeparableMaxPool(nn.Module):
    """Does what `nn.MaxPool2d(3, stride=1, padding=1)` does."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return (image, channel, row, column), of the input's shape."""
        return _largest_neighbour(_largest_neighbour(maps, 3), 2)


def _largest_neighbour(maps: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the maximum of each value and the two beside it along an axis."""
    result = maps.clone(memory_format=torch.preserve_format)
    rest = maps.shape[axis] - 1
    before, behind = maps.narrow(axis, 0, rest), maps.narrow(axis, 1, rest)
    first, last = result.narrow(axis, 0, rest), result.narrow(axis, 1, rest)
    torch.maximum(last, before, out=last)
    torch.maximum(first, behind, out=first)
    return result


def separate_pools(model: nn.Module, tapped: TappedGraph) -> int:
    """Replace the poolings of a graph that can be separated, and return their number."""
    calls = [node for node in tapped.graph.nodes if node.op == "call_module"]
    replaced = 0
    for node in calls:
        target = str(node.target)
        if target not in tapped.modules and _is_separable(model.get_submodule(target)):
            path = f"_pool_{len(tapped.modules)}"
            tapped.modules[path] = SeparableMaxPool()
            node.target = path
            replaced += 1
    return replaced


def _is_separable(module: nn.Module) -> bool:
    if type(module) is not nn.MaxPool2d or module.return_indices:
        return False
    settings = (module.kernel_size, module.stride, module.padding, module.dilation)
    wanted = (3, 1, 1, 1)
    return all(value in (one, (one, one)) for value, one in zip(settings, wanted, strict=True))
