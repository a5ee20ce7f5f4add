"""Trial forward passes: which calls there are, whose rows their outputs hold, and which channels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.channel_labels import ChannelLabels
from activarium.tasks.capture.device_errors import is_out_of_memory
from activarium.tasks.capture.image_rows import (
    FEWER,
    IMAGES,
    MOVED,
    RowsSeen,
    RowSums,
    trial_images,
)
from activarium.tasks.capture.layer_maps import Layout
from activarium.tasks.capture.lively_weights import kept_buffers, lively_weights
from activarium.tasks.capture.trial_pass import OUTPUT, Consumers, LabelledPass, Pass, Seen
from activarium.tasks.capture.value_numbers import ValueNumbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from activarium.tasks.capture.channel_labels import ChannelAxes

    Passes = tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]

NO_RESPONSES = "it has no row for each image"
UNEVEN = "it is not called alike for all images"
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
    def path(self) -> str:
        """Path of the module."""
        return self.seen.call.partition(":")[0]

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
    fixed: Mapping[int, torch.Tensor]
    """For each length of sequences, which of its positions are the same for every image in the first
    of them, (position)."""
    values: Mapping[str, int]
    """Number of each layer's value: one for those that compute the same of the same."""


@dataclass(frozen=True)
class _Looked:
    """A tensor that a call returned, and what its shape and its labels say."""

    seen: Seen
    image: int | None
    """The only axis that grows with the images; None where there is none."""
    axes: ChannelAxes | None


@dataclass
class _Sums:
    """Sums of the rows of each layer, pass by pass."""

    output: str | None
    """Which of several tensors is the model's output."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """In a smaller batch."""
    company: dict[str, torch.Tensor] = field(default_factory=dict)
    base: dict[str, torch.Tensor] = field(default_factory=dict)
    changed: list[dict[str, torch.Tensor]] = field(default_factory=list)
    changed_shapes: list[dict[str, tuple[int, ...]]] = field(default_factory=list)
    rows: RowSums = field(default_factory=RowSums)
    others: dict[str, Seen] = field(default_factory=dict)
    """What was called in any pass but the first batch's."""

    def image_axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Return the only axis that grows with the images, None where there is none."""
        other = self.shapes.get(name, ())
        if len(other) != len(shape):
            return None
        axes = [axis for axis in range(len(shape)) if shape[axis] != other[axis]]
        grows = len(axes) == 1 and shape[axes[0]] * FEWER == other[axes[0]] * IMAGES
        return axes[0] if grows and shape[axes[0]] % IMAGES == 0 else None

    def note_shape(self, seen: Seen, tensor: torch.Tensor) -> None:
        """Note a shape in a smaller batch."""
        del tensor
        self.shapes[seen.name] = seen.shape
        self.others[seen.name] = seen

    def note_base(self, seen: Seen, tensor: torch.Tensor) -> int | None:
        """Sum up the rows along the axis of the images, and return it."""
        return self._note_rows(self.base, seen, tensor)

    def _note_rows(
        self, rows: dict[str, torch.Tensor], seen: Seen, tensor: torch.Tensor
    ) -> int | None:
        image = self.image_axis(seen.name, seen.shape)
        if image is not None:
            rows[seen.name] = self.rows.of(tensor, image)
        return image

    def change(self, model: nn.Module, passes: Passes) -> None:
        """Run the passes in which some images are changed, and the one in other company."""
        for images in (*passes[1], passes[2]):
            rows: dict[str, torch.Tensor] = {}
            shapes: dict[str, tuple[int, ...]] = {}

            def note(
                each: Seen,
                tensor: torch.Tensor,
                rows: dict[str, torch.Tensor] = rows,
                shapes: dict[str, tuple[int, ...]] = shapes,
            ) -> None:
                shapes[each.name] = each.shape
                self.others[each.name] = each
                self._note_rows(rows, each, tensor)

            Pass(note, self.output).run(model, images)
            self.changed.append(rows)
            self.changed_shapes.append(shapes)
        self.company = self.changed.pop()

    def is_even(self, seen: Seen) -> bool:
        """Tell whether a layer is called alike in every pass."""
        same = all(shapes.get(seen.name) == seen.shape for shapes in self.changed_shapes)
        return same and seen.name in self.shapes

    def are_equal(self, one: str, other: str) -> bool:
        """Tell whether two layers had the same rows, bit by bit, in every pass."""
        passes = (self.base, *self.changed, self.company)
        pairs = [(rows.get(one), rows.get(other)) for rows in passes]
        return all(
            first is not None and second is not None and torch.equal(first, second)
            for first, second in pairs
        )

    def seen(self, name: str) -> RowsSeen:
        """Return what was seen of a layer."""
        changed = [each[name] for each in self.changed]
        return RowsSeen(self.base[name], changed, self.company[name])


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
    sums, consumers, numbers = _Sums(output), Consumers(), ValueNumbers()
    looked: dict[str, _Looked] = {}
    values: dict[str, int | None] = {}
    doubled: set[str] = set()
    fixed: dict[int, torch.Tensor] = {}

    def note(each: Seen, tensor: torch.Tensor) -> None:
        if each.name in looked:
            doubled.add(each.name)
        image, axes = sums.note_base(each, tensor), None
        if image is not None:
            axes = labels.axes(tensor, image=image, rows=each.shape[image] // IMAGES)
            # What is written past torch's count of changes shows in the sums.
            total = float(sums.base[each.name].sum())
            each = replace(each, memory=(*each.memory, total))
            _note_fixed(fixed, tensor, image, axes)
        values[each.name] = numbers.of(tensor)
        looked[each.name] = _Looked(each, image, axes)
        consumers.watch(tensor, each.name)

    with kept_buffers(model):
        Pass(sums.note_shape, output).run(model, passes[0][:FEWER])
        base = LabelledPass(note, output)
        base.labels = labels = ChannelLabels(passes[0])
        base.run(model, passes[0], labels, consumers, numbers)
        consumers.release()
        numbers.release()
        labels.release()
        sums.change(model, passes)
        found = {each.seen.name: _found(sums, each) for each in looked.values()}
        rare = {name: each for name, each in sums.others.items() if name not in looked}
        found |= {name: Found(each, None, UNEVEN) for name, each in rare.items()}
        silent = [looked[name] for name, each in found.items() if each.fault == UNORDERED]
        if silent:
            found |= _livelier(model, passes, silent, output)
    whole = found.pop(OUTPUT)
    taken = consumers.taken_by_relu
    return Trial(
        tuple(each for each in found.values() if each.fault != NO_RESPONSES),
        frozenset(name for name, only in taken.items() if only),
        whole,
        *base.chosen,
        frozenset(doubled),
        fixed,
        {} if numbers.is_branched else _values(values, sums),
    )


def _values(numbers: Mapping[str, int | None], sums: _Sums) -> dict[str, int]:
    """Return the numbers of layers, of those that share one only where all passes agree."""
    first: dict[int, str] = {}
    return {
        name: number
        for name, number in numbers.items()
        if number is not None and sums.are_equal(first.setdefault(number, name), name)
    }


def _note_fixed(
    fixed: dict[int, torch.Tensor], tensor: torch.Tensor, image: int, axes: ChannelAxes | None
) -> None:
    """Note which positions of the first sequence of a length are the same for every image."""
    taken = {image, *(axes.axes if axes else ())}
    rest = [axis for axis in range(tensor.dim()) if axis not in taken]
    if axes is None or len(rest) != 1 or tensor.shape[image] != IMAGES:
        return
    length = tensor.shape[rest[0]]
    if length > 1 and length not in fixed:
        rows = tensor.movedim((image, rest[0]), (0, 1)).flatten(2)
        fixed[length] = (rows == rows[:1]).all(0).all(1).cpu()


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
        not torch.allclose(first[name], second[name], rtol=MOVED) for name in first
    )


def _found(sums: _Sums, looked: _Looked) -> Found:
    """Return how a tensor is laid out, or why that cannot be told."""
    seen, image = looked.seen, looked.image
    if not sums.is_even(seen):
        return Found(seen, None, UNEVEN)
    if image is None:
        return Found(seen, None, NO_RESPONSES)
    rows, axes = sums.seen(seen.name), looked.axes
    orders = rows.orders()
    if len(orders) > 1 or (not orders and rows.are_irregular()):
        return Found(seen, None, UNORDERED)
    usual = None if axes is None else Layout(axes.axes, image)
    if not orders:
        return Found(seen, usual if rows.per_image == 1 else None, MIXED)
    outer, inner = orders[0].outer, orders[0].inner
    if usual is None or axes is None or axes.differ_within(outer, inner):
        return Found(seen, None, UNLABELLED)
    return Found(seen, replace(usual, outer=outer, inner=inner))


def _livelier(
    model: nn.Module, passes: Passes, silent: Sequence[_Looked], output: str | None
) -> dict[str, Found]:
    """Look again at layers that answered nothing, with other weights: zeros hide whose rows are whose."""
    sums = _Sums(output)

    def note(each: Seen, tensor: torch.Tensor) -> None:
        sums.note_base(each, tensor)

    try:
        with lively_weights(model):
            Pass(sums.note_shape, output).run(model, passes[0][:FEWER])
            Pass(note, output).run(model, passes[0])
            sums.change(model, passes)
    except UserError:  # some models take no other weights; their layers stay as they are
        return {}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {}
    return {each.seen.name: _found(sums, each) for each in silent if each.seen.name in sums.base}
