"""Labels: a tensor of the shape of another that says which channel each of its values is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Labels = tuple[torch.Tensor, ...]
    """Labels of one tensor, each of its shape in float64: of the channels that were made last first,
    then of those before them that were not mixed."""
    Lookup = Callable[[Any], Labels | None]
    """Returns a tensor's labels: none where they are lost, None where it is not of the images."""

MOST = 3
"""Labels of one tensor at most."""

UNKNOWN = -1.0
"""Label of a value that belongs to no one channel."""


def anchored(
    shape: Sequence[int], axis: int, device: torch.device, *, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return labels that count along one axis, without memory for the others.

    Parameters
    ----------
    shape, axis
        Of the tensor whose channels are counted.
    device
        Where it lies.
    weights
        What made the channels: the same weights make the same channels of every value, others make
        others.
    """
    axis %= len(shape)
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    first = 0 if weights is None else (weights.data_ptr() // 16) % 2**33 * 2**19
    counted = torch.arange(shape[axis], dtype=torch.float64, device=device) + first
    return counted.view(sizes).expand(tuple(shape))


def ranked(labels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the same channels numbered from 0, and how many there are."""
    small = compact(labels)
    values, places = torch.unique(small[small != UNKNOWN], return_inverse=True)
    numbered = torch.full_like(small, UNKNOWN, memory_format=torch.contiguous_format)
    numbered[small != UNKNOWN] = places.double()
    return numbered.expand(labels.shape), len(values)


def compact(labels: torch.Tensor) -> torch.Tensor:
    """Return labels with one position along each axis along which they are stored once."""
    for axis, stride in enumerate(labels.stride()):
        if stride == 0 and labels.shape[axis] > 1:
            labels = labels.narrow(axis, 0, 1)
    return labels


def count(labels: torch.Tensor) -> int:
    """Return the number of channels."""
    known = compact(labels)
    return len(torch.unique(known[known != UNKNOWN]))


def varies(labels: torch.Tensor, dim: int) -> bool:
    """Tell whether known labels differ along an axis."""
    labels = compact(labels)
    size = labels.shape[dim]
    if size < 2:
        return False
    return not are_equal(labels.narrow(dim, 0, size - 1), labels.narrow(dim, 1, size - 1))


def agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two labels say the same of what belongs together, wherever both are known.

    The channels of one may be numbered otherwise, as queries, keys and values of one product are.
    """
    if one is other or are_equal(one, other):
        return True
    one, other = compact(one), compact(other)
    known = (one != UNKNOWN) & (other != UNKNOWN)
    pairs = torch.stack([each.expand(known.shape)[known] for each in (one, other)])
    kinds = [len(torch.unique(each)) for each in pairs]
    return bool(torch.unique(pairs, dim=1).shape[1] == kinds[0] == kinds[1])


def are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two labels are the same, wherever both are known."""
    one, other = compact(one), compact(other)
    return bool(((one == other) | (one == UNKNOWN) | (other == UNKNOWN)).all())
