"""Trial forward passes: which calls there are, whose rows their outputs hold, and which channels."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from activarium.tasks.capture.channel_labels import ChannelLabels
from activarium.tasks.capture.forward import run_forward
from activarium.tasks.capture.image_rows import (
    COMPANY,
    IMAGES,
    RowsSeen,
    RowSums,
    trial_images,
)
from activarium.tasks.capture.layer_calls import LayerCalls
from activarium.tasks.capture.layer_maps import Layout, tensors_of
from activarium.tasks.capture.lively_weights import lively_weights
from activarium.tasks.capture.model_output import choose_output, tensor_at
from activarium.tasks.capture.operations import function_kind, module_kind, settled_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from activarium.schemas.layers import Kind

    Note = Callable[["Seen", torch.Tensor], None]
    Passes = tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]

_RELUS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}

OUTPUT = ""
"""Name of the model's output among the layers: no module has it."""

MIXED = "its rows change with other images, or from pass to pass"
UNORDERED = "which of its rows belong to which image cannot be told"
UNLABELLED = "the axis of its channels cannot be told"


@dataclass(frozen=True)
class Seen:
    """One tensor that a call returned."""

    name: str
    """Name of the layer: of the call, and the tensor's place in the output where it has several."""
    call: str
    leaf: int
    """Place among all that the call's output holds."""
    kind: Kind
    shape: tuple[int, ...]
    is_module: bool
    memory: tuple[Any, ...]
    """The same for two outputs that are one and the same memory, unchanged between them."""


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


class _Pass:
    """Notes the outputs of one forward pass."""

    def __init__(self, note: Note, output: str | None) -> None:
        self._note = note
        self._output = output
        self.chosen: tuple[str, str] = ("", "")
        """Key of the model's output, and a line about it."""

    def run(
        self, model: nn.Module, images: torch.Tensor, *modes: AbstractContextManager[Any]
    ) -> None:
        """Run the model once."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            calls = stack.enter_context(LayerCalls(model, self._called))
            for mode in modes:
                stack.enter_context(mode)
            calls.begin()
            returned = run_forward(model, images)
            calls.end()
            self.chosen = choose_output(returned, self._output)
            output = tensor_at(returned, self.chosen[0])
            output = output.unsqueeze(1) if output.dim() == 1 else output
            shape = tuple(output.shape)
            seen = Seen(OUTPUT, OUTPUT, 0, "other", shape, is_module=False, memory=())
            with _disable_current_modes():
                self._note(seen, output)

    def _called(self, call: str, origin: Any, output: Any) -> None:
        is_module = isinstance(origin, nn.Module)
        kind = module_kind(origin) if is_module else function_kind(origin)
        if kind is None:
            return
        leaves = tensors_of(output)
        if kind in ("recurrent", "attention"):
            leaves = leaves[:1]  # what follows are states and weights of the attention
        for path, place, tensor in leaves:
            name = call if len(leaves) == 1 else f"{call}{path}"
            memory = (tensor.data_ptr(), tensor._version, tensor.numel(), tensor.dtype)  # noqa: SLF001
            shape = tuple(tensor.shape)
            seen = Seen(name, call, place, kind, shape, is_module=is_module, memory=memory)
            with _disable_current_modes():  # what is looked at here, the model does not do
                self._settle(origin, tensor)
                self._note(seen, tensor)

    def _settle(self, origin: Any, tensor: torch.Tensor) -> None:
        """Let a module say where its channels are."""


class _LabelledPass(_Pass):
    """Follows the channels too."""

    labels: ChannelLabels

    def _settle(self, origin: Any, tensor: torch.Tensor) -> None:
        axis = settled_axis(origin) if isinstance(origin, nn.Module) else None
        if axis is not None:
            self.labels.anchor(tensor, axis)


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
    sums, consumers = _Sums(output), _Consumers()
    _Pass(sums.note_company, output).run(model, passes[2])
    seen: dict[str, tuple[Seen, int | None, tuple[int, ...] | None]] = {}

    def note(each: Seen, tensor: torch.Tensor) -> None:
        image = sums.image_axis(each.name, each.shape)
        axes = None if image is None else labels.axes(tensor, images=(image,))
        seen[each.name] = each, image, axes
        consumers.watch(tensor, each.name)
        if image is not None:
            sums.base[each.name] = sums.rows.of(tensor, image)

    base = _LabelledPass(note, output)
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
    return Trial(tuple(found.values()), rectified, whole, *base.chosen)


def is_random(model: nn.Module, example: torch.Tensor) -> bool:
    """Tell whether two passes of the same images differ anywhere."""
    base, _, _ = trial_images(example)
    sums = RowSums()
    found: list[dict[str, torch.Tensor]] = []
    for _ in range(2):
        rows: dict[str, torch.Tensor] = {}

        def note(each: Seen, tensor: torch.Tensor, rows: dict[str, torch.Tensor] = rows) -> None:
            rows[each.name] = sums.of(tensor, 0)

        _Pass(note, None).run(model, base)
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

        _Pass(note, sums.output).run(model, images)
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
        _Pass(sums.note_company, output).run(model, passes[2])
        _Pass(note, output).run(model, passes[0])
        sums.changed = list(_changed(model, passes, sums))
    return {name: _found(sums, *each) for name, each in silent.items() if name in sums.base}


class _Consumers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operations take the outputs of layers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names: dict[int, list[str]] = {}
        self._alive: list[torch.Tensor] = []
        self.taken_by_relu: dict[str, bool] = {}

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Note from now on what takes this tensor."""
        self._names.setdefault(id(tensor), []).append(name)
        self._alive.append(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        flat, _ = pytree.tree_flatten((args, kwargs))
        for value in flat:
            names = self._names.get(id(value), ()) if isinstance(value, torch.Tensor) else ()
            for name in names:
                self.taken_by_relu[name] = self.taken_by_relu.get(name, True) and func in _RELUS
            if names and func is torch.ops.aten.relu_.default:
                # From here on the same tensor holds the ReLU's output, not the layer's.
                del self._names[id(value)]
        # What a scripted function does inside is none of the calls that Python makes.
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            return func(*args, **(kwargs or {}))
