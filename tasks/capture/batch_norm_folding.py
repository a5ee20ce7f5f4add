"""Folding batch norms into the convolutions before them, without losing the convolution's values.

A convolution whose output goes into a batch norm alone is computed together with it. What was to
be kept of the convolution itself is restored from the batch norm's: `y = s (x - m) + b`, so that
`mean x = (mean y - b) / s + m`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from activarium.tasks.capture.reductions import Reduce

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch import fx

    from activarium.schemas.layout import Reduction
    from activarium.tasks.capture.graph_taps import TappedGraph

AFFINE: frozenset[Reduction] = frozenset({"mean", "sd"})
"""Reductions of a convolution that follow from the same reduction of its batch norm."""


class Restore(nn.Module):
    """Returns the reductions of a folded convolution from those of its batch norm's output.

    Parameters
    ----------
    norm
        The batch norm, with statistics, in evaluation mode.
    reduce
        The convolution's own reducer.
    """

    inverse: torch.Tensor
    offset: torch.Tensor

    def __init__(self, norm: nn.BatchNorm2d, reduce: Reduce) -> None:
        super().__init__()
        scale, shift = _affine(norm)
        self.reductions, self.has_grid = reduce.reductions, reduce.grid is not None
        self.register_buffer("inverse", (1 / scale).float(), persistent=False)
        self.register_buffer("offset", (-shift / scale).float(), persistent=False)

    def forward(self, reduced: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the reducer would of the convolution's output, given the batch norm's."""
        inverse, offset = self.inverse, self.offset
        restored = [
            rows * inverse.abs() if reduction == "sd" else torch.addcmul(offset, rows, inverse)
            for reduction, rows in zip(self.reductions, reduced, strict=False)
        ]
        if self.has_grid:
            pooled = reduced[-1].view(len(reduced[-1]), len(inverse), -1)
            restored.append((pooled * inverse[:, None] + offset[:, None]).flatten(1))
        return restored


def _affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift of a batch norm in evaluation mode, in float64."""
    if norm.running_var is None or norm.running_mean is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def fold(
    model: nn.Module, tapped: TappedGraph, *, unfolded: Collection[str] = ()
) -> tuple[str, ...]:
    """Fold every batch norm that can be folded, in place, and return their convolutions' paths.

    A convolution stays as it is where it is called more than once, where anything but its batch
    norm takes its output, where a scale is zero, and where more is kept of it than means, standard
    deviations and pooled features.

    Parameters
    ----------
    model
        The traced model.
    tapped
        Its graph with reducers.
    unfolded
        Paths of convolutions that are to stay as they are.
    """
    folded = []
    for pair in _pairs(model, tapped):
        path = str(pair.conv.target)
        own = [tapped.modules[str(tap.target)] for tap in pair.taps]
        affine = all(
            isinstance(each, Reduce) and AFFINE.issuperset(each.reductions) for each in own
        )
        if path not in unfolded and affine and bool((_affine(pair.norm_module)[0] != 0).all()):
            _fold_pair(tapped, pair)
            folded.append(path)
    tapped.graph.lint()
    return tuple(folded)


@dataclass(frozen=True)
class _Pair:
    """A convolution that a batch norm alone takes, each called once."""

    conv: fx.Node
    norm: fx.Node
    conv_module: nn.Conv2d
    norm_module: nn.BatchNorm2d
    taps: list[fx.Node]
    """Reducers of the convolution's output."""


def _pairs(model: nn.Module, tapped: TappedGraph) -> Iterator[_Pair]:
    reducers = set(tapped.taps.values())
    own = [node for node in tapped.graph.nodes if node.op == "call_module"]
    targets = [str(node.target) for node in own]
    for conv in own:
        users = [user for user in conv.users if user not in reducers]
        if len(users) != 1 or users[0].op != "call_module":
            continue
        modules = [_module_of(model, node) for node in (conv, users[0])]
        reused = max(targets.count(str(node.target)) for node in (conv, users[0])) > 1
        if (
            not reused
            and type(modules[0]) is nn.Conv2d
            and type(modules[1]) is nn.BatchNorm2d
            and modules[1].running_var is not None
            and not modules[1].training
        ):
            taps = [user for user in conv.users if user in reducers]
            yield _Pair(conv, users[0], modules[0], modules[1], taps)


def _module_of(model: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the model's module that a node calls; None for one that the capture added."""
    return None if str(node.target).startswith("_") else model.get_submodule(str(node.target))


def _fold_pair(tapped: TappedGraph, pair: _Pair) -> None:
    """Let the batch norm's node compute both, and the convolution's reducers restore its values."""
    path = f"_folded_{len(tapped.modules)}"
    tapped.modules[path] = fuse_conv_bn_eval(pair.conv_module, pair.norm_module)
    pair.norm.target, pair.norm.args = path, pair.conv.args
    for tap in pair.taps:
        reduced = _reduced(tapped, pair.norm, tap)
        reducer = tapped.modules[str(tap.target)]
        path = f"_restore_{len(tapped.modules)}"
        tapped.modules[path] = Restore(pair.norm_module, reducer)  # type: ignore[arg-type]
        tap.target, tap.args = path, (reduced,)
        reduced.append(tap)
    tapped.graph.erase_node(pair.conv)


def _reduced(tapped: TappedGraph, norm: fx.Node, tap: fx.Node) -> fx.Node:
    """Return a reducer of the batch norm's output that does what the convolution's would."""
    wanted = tapped.modules[str(tap.target)]
    for user in norm.users:
        found = tapped.modules.get(str(user.target))
        if isinstance(found, Reduce) and isinstance(wanted, Reduce):
            same = found.reductions == wanted.reductions
            if same and wanted.grid in (None, found.grid):
                return user
    # Right after the node: the next operation may overwrite its output in place.
    with tapped.graph.inserting_after(norm):
        return tapped.graph.call_module(str(tap.target), (norm, tap.args[1]))
