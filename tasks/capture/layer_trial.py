"""Trial forward passes: which calls there are, whose rows their outputs hold, and which channels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from activarium.tasks.capture.channel_labels import ChannelLabels
from activarium.tasks.capture.image_rows import (
    COMPANY,
    IMAGES,
    RowsSeen,
    RowSums,
    trial_images,
)
from activarium.tasks.capture.layer_maps import Layout
from activarium.tasks.capture.lively_weights import lively_weights
from activarium.tasks.capture.trial_pass import OUTPUT, Consumers, LabelledPass, Pass, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    Passes = tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]

MIXED = "its rows change with other images, or from pass to pass"
UNORDERED = "which of its rows belong to which image cannot be told"
UNLABELLED = "the axis of its channels cannot be told"


@dataclass(frozen=True)
class Found:
    """A tensor that holds responses of every image."""

    seen: Seen
    layout: Layout | None
    """None where it cannot be told."""
    fault: str = ""
    """Why it cannot be told, or cannot be trusted."""

    @property
    def is_mixed(self) -> bool:
        """Whether it is no function of the image alone."""
        return self.fault == MIXED


@dataclass(frozen=True)
class Trial:
    """What the passes showed."""

    found: tuple[Found, ...]
    """What the layers returned, in order of execution."""
    rectified: frozenset[str]
    """Names of layers whose output a ReLU takes, and nothing else."""
    output: Found
    """The model's output."""
    output_key: str
    output_note: str
    doubled: frozenset[str]
    """Names that two layers have: a module, and a later call of another one."""


@dataclass
class _Sums:
    """Sums of the rows of each layer, pass by pass."""

    output: str | None
    """Which of several tensors is the model's output."""
    company: dict[str, dict[int, torch.Tensor]] = field(default_factory=dict)
    """By name and axis."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """In company."""
    base: dict[str, torch.Tensor] = field(default_factory=dict)
    changed: list[dict[str, torch.Tensor]] = field(default_factory=list)
    rows: RowSums = field(default_factory=RowSums)

    def image_axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Return the only axis that grows with the images, None where there is none."""
        other = self.shapes.get(name, ())
        if len(other) != len(shape):
            return None
        few = len(COMPANY)
        axes = [axis for axis in range(len(shape)) if shape[axis] != other[axis]]
        grows = len(axes) == 1 and shape[axes[0]] * few == other[axes[0]] * IMAGES
        return axes[0] if grows and shape[axes[0]] % IMAGES == 0 else None

    def note_company(self, seen: Seen, tensor: torch.Tensor) -> None:
        """Sum up the rows of every axis that may hold the images."""
        self.shapes[seen.name] = seen.shape
        few = len(COMPANY)
        self.company[seen.name] = {
            axis: self.rows.of(tensor, axis)
            for axis, size in enumerate(seen.shape)
            if size % few == 0 and size
        }

    def seen(self, name: str, axis: int) -> RowsSeen | None:
        """Return what was seen of a layer; None where a pass lacks it."""
        changed = [each[name] for each in self.changed if name in each]
        if len(changed) != len(self.changed):
            return None
        return RowsSeen(self.base[name], changed, self.company[name][axis])


def run_trial(model: nn.Module, example: torch.Tensor, *, output: str | None = None) -> Trial:
    """Run the model on a few distinct images and return what its layers and itself returned.

    Parameters
    ----------
    model
        The model, in evaluation mode.
    example
        Input (1, colour, row, column).
    output
        Which of several tensors is the model's output; None for the usual.

    Raises
    ------
    UserError
        If the forward pass fails, or the model returns no such tensor.
    """
    passes = trial_images(example)
    sums, consumers = _Sums(output), Consumers()
    Pass(sums.note_company, output).run(model, passes[2])
    seen: dict[str, tuple[Seen, int | None, tuple[int, ...] | None]] = {}
    doubled: set[str] = set()

    def note(each: Seen, tensor: torch.Tensor) -> None:
        if each.name in seen:
            doubled.add(each.name)
        image = sums.image_axis(each.name, each.shape)
        axes = None if image is None else labels.axes(tensor, images=(image,))
        seen[each.name] = each, image, axes
        consumers.watch(tensor, each.name)
        if image is not None:
            sums.base[each.name] = sums.rows.of(tensor, image)

    base = LabelledPass(note, output)
    base.labels = labels = ChannelLabels(passes[0])
    base.run(model, passes[0], labels, consumers)
    sums.changed = list(_changed(model, passes, sums))
    found = {name: _found(sums, *each) for name, each in seen.items() if each[1] is not None}
    silent = [name for name, each in found.items() if each.fault == UNORDERED]
    if silent:
        found |= _livelier(model, passes, {name: seen[name] for name in silent}, output)
    whole = found.pop(OUTPUT, None) or Found(seen[OUTPUT][0], None, UNORDERED)
    taken = consumers.taken_by_relu
    rectified = frozenset(name for name, only in taken.items() if only)
    return Trial(tuple(found.values()), rectified, whole, *base.chosen, frozenset(doubled))


def is_random(model: nn.Module, example: torch.Tensor) -> bool:
    """Tell whether two passes of the same images differ anywhere."""
    base, _, _ = trial_images(example)
    sums = RowSums()
    found: list[dict[str, torch.Tensor]] = []
    for _ in range(2):
        rows: dict[str, torch.Tensor] = {}

        def note(each: Seen, tensor: torch.Tensor, rows: dict[str, torch.Tensor] = rows) -> None:
            rows[each.name] = sums.of(tensor, 0)

        Pass(note, None).run(model, base)
        found.append(rows)
    first, second = found
    return first.keys() != second.keys() or any(
        not torch.equal(first[name], second[name]) for name in first
    )


def _changed(model: nn.Module, passes: Passes, sums: _Sums) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the sums of the passes in which some images are changed."""
    for images in passes[1]:
        rows: dict[str, torch.Tensor] = {}

        def note(each: Seen, tensor: torch.Tensor, rows: dict[str, torch.Tensor] = rows) -> None:
            image = sums.image_axis(each.name, each.shape)
            if image is not None:
                rows[each.name] = sums.rows.of(tensor, image)

        Pass(note, sums.output).run(model, images)
        yield rows


def _found(sums: _Sums, seen: Seen, image: int | None, axes: tuple[int, ...] | None) -> Found:
    """Return how a tensor is laid out, or why that cannot be told."""
    rows = None if image is None else sums.seen(seen.name, image)
    if image is None or rows is None:
        return Found(seen, None, MIXED)
    orders = rows.orders()
    usual = Layout(axes or (), image)
    if not orders:
        one = rows.per_image == 1 and axes
        return Found(seen, usual if one else None, MIXED)
    if len(orders) > 1:
        return Found(seen, None, UNORDERED)
    if axes is None:
        return Found(seen, None, UNLABELLED)
    return Found(seen, replace(usual, outer=orders[0].outer, inner=orders[0].inner))


def _livelier(
    model: nn.Module,
    passes: Passes,
    silent: Mapping[str, tuple[Seen, int | None, tuple[int, ...] | None]],
    output: str | None,
) -> dict[str, Found]:
    """Look again at layers that answered nothing, with other weights: zeros hide whose rows are whose."""
    sums = _Sums(output)

    def note(each: Seen, tensor: torch.Tensor) -> None:
        image = sums.image_axis(each.name, each.shape)
        if image is not None:
            sums.base[each.name] = sums.rows.of(tensor, image)

    with lively_weights(model):
        Pass(sums.note_company, output).run(model, passes[2])
        Pass(note, output).run(model, passes[0])
        sums.changed = list(_changed(model, passes, sums))
    return {name: _found(sums, *each) for name, each in silent.items() if name in sums.base}
