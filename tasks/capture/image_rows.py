"""Which rows of a tensor belong to which image, seen by changing some images of a batch.

A row is summed up in one number, by a product with fixed random weights. Of four images the first
is changed in one pass, the second in another, the third in both, the fourth in none: so the rows
that move in each pass say whose they are, in whatever order they lie, and rows that move with
another image's say that the layer is no function of the image alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES = 4
"""Images of the trial."""

CHANGED = ((0, 2), (1, 2))
"""Which of them are changed in each further pass."""

FEWER = 3
"""Images of a smaller batch, of which only the shapes are looked at."""

COMPANY = (1, 2, 3, 1)
"""Which of them make another batch, each at another place in other company; as many, because a batch
of another size is computed in another order."""

MOVED = 1e-4
"""Movement of a row, of the largest row's size, from which it counts; the last bits do not."""

DIFFERENT = 1e-3
"""Difference of a row in other company from which it counts."""

PIECE = 2**22
"""Values that are summed up at once."""


class RowSums:
    """Sums up each row of tensors along one axis."""

    def __init__(self) -> None:
        self._weights: dict[tuple[int, torch.device], torch.Tensor] = {}

    def of(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        """Return one number per row along an axis, on the CPU in float64, (row)."""
        rows = tensor.detach().movedim(axis, 0).reshape(tensor.shape[axis], -1)
        length = rows.shape[1]
        if (length, tensor.device) not in self._weights:
            generator = torch.Generator("cpu").manual_seed(length)
            drawn = torch.rand(length, generator=generator, dtype=torch.float64, device="cpu") + 0.5
            signs = torch.randint(0, 2, (length,), generator=generator, device="cpu") * 2 - 1
            self._weights[length, tensor.device] = (drawn * signs).to(tensor.device)
        weights = self._weights[length, tensor.device]
        # In pieces: a copy of all in float64 would be twice as large as the layer.
        pieces = torch.split(rows, max(1, PIECE // max(1, length)))
        return torch.cat([piece.double() @ weights for piece in pieces]).cpu()


@dataclass(frozen=True)
class RowOrder:
    """How the rows of an axis lie: `outer` groups of all images, each with `inner` rows of each."""

    outer: int
    inner: int


@dataclass(frozen=True)
class RowsSeen:
    """Sums of one layer's rows in every pass of the trial."""

    base: torch.Tensor
    changed: Sequence[torch.Tensor]
    """One per entry of CHANGED."""
    company: torch.Tensor

    @property
    def per_image(self) -> int:
        """Number of rows of each image."""
        return len(self.base) // IMAGES

    @cached_property
    def _scale(self) -> float:
        """Size of the largest row."""
        return float(self.base.abs().nan_to_num().max())

    @cached_property
    def _moved(self) -> list[torch.Tensor]:
        """Which rows moved, (row) for each entry of CHANGED."""
        return [_differs(self.base, each, MOVED * self._scale) for each in self.changed]

    def orders(self) -> list[RowOrder]:
        """Return the orders of rows that agree with what moved."""
        found = []
        for inner in range(1, self.per_image + 1):
            if self.per_image % inner == 0:
                order = RowOrder(self.per_image // inner, inner)
                if self._agrees(order) and self._is_itself(order):
                    found.append(order)
        return found

    def are_irregular(self) -> bool:
        """Tell whether rows move as if each were one image's, though in no regular order."""
        first, second = self._moved
        kinds = (first & ~second, second & ~first, first & second)
        return self.per_image > 1 and all(int(kind.sum()) <= self.per_image for kind in kinds)

    def _agrees(self, order: RowOrder) -> bool:
        """Tell whether only rows of changed images moved, and each with all changes of its image."""
        owner = torch.arange(len(self.base)) // order.inner % IMAGES
        ever = torch.stack(self._moved).any(0)
        for which, rows in zip(CHANGED, self._moved, strict=True):
            expected = torch.isin(owner, torch.tensor(which))
            if bool((rows & ~expected).any()) or bool((expected & ever & ~rows).any()):
                return False
        return True

    def _is_itself(self, order: RowOrder) -> bool:
        """Tell whether each image has the same rows in other company."""
        shape = (order.outer, -1, order.inner)
        alone = self.base.view(shape)[:, list(COMPANY)]
        differing = _differs(alone, self.company.view(shape), DIFFERENT * self._scale)
        # A last bit that differs may flip a threshold in one row; a batch's statistics reach most.
        return float(differing.double().mean()) <= 0.5


def _differs(one: torch.Tensor, other: torch.Tensor, above: float) -> torch.Tensor:
    # What is not a number tells nothing.
    return (one - other).abs().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) > above


def trial_images(example: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """Return distinct images: the batch, the same with some changed, and others of its company.

    They are made of the example's own values, in another order and with less contrast, so that
    none is out of the range that a model takes; noise tells apart those of blank examples.

    Parameters
    ----------
    example
        One input (1, colour, row, column).
    """
    generator = torch.Generator("cpu").manual_seed(0)
    made = [_scrambled(example[0], generator) for _ in range(IMAGES + len(CHANGED) + 1)]
    base = torch.stack([example[0], *made[: IMAGES - 1]])
    others = made[IMAGES - 1 :]
    changed = []
    for which in CHANGED:
        batch = base.clone()
        for image in which:
            batch[image] = others[image]
        changed.append(_like(example, batch))
    return _like(example, base), changed, _like(example, base[list(COMPANY)])


def _scrambled(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    values = image.flatten(1).cpu()
    mixed = values[:, torch.randperm(values.shape[1], generator=generator, device="cpu")]
    centre = mixed.mean()
    contrast = 0.4 + 0.6 * float(torch.rand((), generator=generator, device="cpu"))
    noise = torch.randn(mixed.shape, generator=generator, device="cpu") * max(
        0.1, float(mixed.std()) / 10
    )
    made = centre + (mixed - centre) * contrast + noise
    low, high = float(mixed.min()), float(mixed.max())
    if high > low:  # what a model takes may end at its images' darkest and brightest values
        made = made.clamp(low, high)
    return made.view(image.shape).to(image.device)


def _like(example: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    is_last = example.is_contiguous(memory_format=torch.channels_last) and example.shape[1] > 1
    layout = torch.channels_last if is_last else torch.contiguous_format
    return batch.contiguous(memory_format=layout)
