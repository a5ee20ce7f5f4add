"""Finding chains of elementwise operations in a traced graph, to be done in one pass."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx, nn
from torch.nn import functional

from activarium.tasks.capture.batch_norm_folding import Restore
from activarium.tasks.capture.elementwise_chain import Chain, is_torchs
from activarium.tasks.capture.reductions import Reduce

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activarium.tasks.capture.graph_taps import TappedGraph

ADDITIONS = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
RECTIFIERS = frozenset(
    {functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_"}
)
IN_PLACE = frozenset({operator.iadd, functional.relu_, torch.relu_, "add_", "relu_"})

RECTIFIER_CLASSES = {nn.ReLU: math.inf, nn.ReLU6: 6.0}
"""The largest value that each leaves."""

FRESH = (nn.Conv2d, nn.ConvTranspose2d)
"""Modules whose output is a tensor of its own, never a view of another."""

SCALED, ADDED, RECTIFIED = 1, 2, 3
"""Stages of a chain, after each of its possible operations."""


@dataclass(frozen=True)
class _Step:
    """One operation of a chain."""

    node: fx.Node
    stage: int
    in_place: bool = False
    norm: nn.BatchNorm2d | None = None
    other: fx.Node | None = None
    upper: float | None = None


@dataclass
class _Found:
    """A chain in the graph."""

    source: fx.Node
    owned: bool
    """The source is a tensor of its own that nobody else takes."""
    steps: list[_Step] = field(default_factory=list)
    taps: list[tuple[int, fx.Node]] = field(default_factory=list)
    """Reducers, with the stage that each reduces."""

    @property
    def end(self) -> fx.Node:
        """The node whose output leaves the chain, if it ended now."""
        return self.steps[-1].node if self.steps else self.source

    @property
    def stage(self) -> int:
        """The stage of the end."""
        return self.steps[-1].stage if self.steps else 0

    def step(self, stage: int) -> _Step | None:
        """Return the operation before a stage."""
        return next((step for step in self.steps if step.stage == stage), None)


def fuse_chains(model: nn.Module, tapped: TappedGraph) -> int:
    """Let every chain of the graph be done in one pass, and return their number.

    A chain is what may come between two convolutions, in this order: batch norm, addition of
    another map, ReLU or ReLU6; any of them may be missing. It goes on as long as only the next
    operation and reducers take a value.

    Parameters
    ----------
    model
        The traced model, on the CPU.
    tapped
        Its graph with reducers, changed in place.
    """
    search = _Search(model, tapped)
    chains = search.chains()
    ends: dict[fx.Node, fx.Node] = {}
    for chain in chains:
        ends[chain.end] = _fuse(tapped, chain, ends)
    tapped.graph.lint()
    return len(chains)


class _Search:
    """Looks for chains from the first node to the last."""

    def __init__(self, model: nn.Module, tapped: TappedGraph) -> None:
        self._model, self._modules = model, tapped.modules
        self._nodes = list(tapped.graph.nodes)
        self._places = {node: place for place, node in enumerate(self._nodes)}
        self._taken: set[fx.Node] = set()

    def chains(self) -> list[_Found]:
        """Return all chains that are worth it, none overlapping."""
        found = []
        inside: set[fx.Node] = set()
        # Convolutions come first: an addition belongs to the one before it rather than to what
        # goes around it.
        for node in sorted(self._nodes, key=lambda each: not self._is_owned(each)):
            if node in inside:
                continue
            for user in self._users(node):
                chain = self._follow(node, user)
                if chain.steps and len(chain.steps) + len(chain.taps) > 1:
                    found.append(chain)
                    self._taken.update(step.node for step in chain.steps)
                    self._taken.update(tap for _, tap in chain.taps)
                    inside.update(step.node for step in chain.steps[:-1])
        return found

    def _users(self, node: fx.Node) -> list[fx.Node]:
        return [user for user in node.users if not self._is_tap(user)]

    def _is_owned(self, node: fx.Node) -> bool:
        return len(self._users(node)) == 1 and isinstance(self._module(node), FRESH)

    def _follow(self, source: fx.Node, first: fx.Node) -> _Found:
        """Return the longest chain from a node through one of its users."""
        chain = _Found(source, self._is_owned(source))
        if chain.owned or self._follows(first, source):
            self._claim_taps(chain)
        users = [first]
        while len(users) == 1:
            step = self._step(users[0], chain)
            if step is None:
                break
            chain.steps.append(step)
            if not self._claim_taps(chain):
                break
            users = self._users(chain.end)
        return chain

    def _claim_taps(self, chain: _Found) -> bool:
        """Take the reducers of the chain's end into it, and return whether that was all of them."""
        taps = [user for user in chain.end.users if self._is_tap(user)]
        own = [tap for tap in taps if self._is_fusable(tap) and tap not in self._taken]
        chain.taps += [(chain.stage, tap) for tap in own]
        return len(own) == len(taps)

    def _step(self, node: fx.Node, chain: _Found) -> _Step | None:
        """Return the node as the chain's next operation; None if it cannot be one."""
        if node in self._taken:
            return None
        step = self._norm(node) or self._addition(node, chain.end) or self._rectifier(node)
        if step is None or step.stage <= chain.stage:
            return None
        if step.in_place and not chain.steps and not chain.owned:
            return None
        # The chain is done where it ends: until then nobody may change what it reads.
        reads_others = (bool(chain.steps) and not chain.owned) or chain.step(ADDED) is not None
        return step if not reads_others or self._follows(node, chain.end) else None

    def _follows(self, node: fx.Node, end: fx.Node) -> bool:
        """Tell whether nothing but reducers lies between two nodes."""
        between = self._nodes[self._places[end] + 1 : self._places[node]]
        return all(self._is_tap(each) or self._is_restored(each) for each in between)

    def _norm(self, node: fx.Node) -> _Step | None:
        module = self._module(node)
        fits = type(module) is nn.BatchNorm2d and is_torchs(module)
        return _Step(node, SCALED, norm=module) if fits else None

    def _addition(self, node: fx.Node, end: fx.Node) -> _Step | None:
        if node.target not in ADDITIONS or node.kwargs or len(node.args) != 2:
            return None
        in_place = node.target in IN_PLACE
        others = [each for each in node.args if each is not end and isinstance(each, fx.Node)]
        if len(others) != 1 or (in_place and node.args[0] is not end):
            return None
        return _Step(node, ADDED, in_place, other=others[0])

    def _rectifier(self, node: fx.Node) -> _Step | None:
        module = self._module(node)
        for kind, upper in RECTIFIER_CLASSES.items():
            if type(module) is kind:
                return _Step(node, RECTIFIED, bool(module.inplace), upper=upper)
        if node.target not in RECTIFIERS:
            return None
        flags = [*node.args[1:], *node.kwargs.values()]
        in_place = node.target in IN_PLACE or any(flag is True for flag in flags)
        return _Step(node, RECTIFIED, in_place, upper=math.inf)

    def _module(self, node: fx.Node) -> Any:
        """Return the module that a node calls, the model's or one of the capture's."""
        if node.op != "call_module":
            return None
        target = str(node.target)
        own = self._modules.get(target)
        return self._model.get_submodule(target) if own is None else own

    def _is_tap(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), Reduce)

    def _is_restored(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), Restore)

    def _is_fusable(self, tap: fx.Node) -> bool:
        reducer: Reduce = self._module(tap)
        return reducer.tap.layout.is_usual and reducer.grid is None and not reducer.counts


def _fuse(tapped: TappedGraph, chain: _Found, ends: Mapping[fx.Node, fx.Node]) -> fx.Node:
    """Put one node in the place of a chain's operations and reducers, and return the new end.

    `ends` tells what has taken the place of the ends of earlier chains.
    """
    graph, end = tapped.graph, chain.end
    norm, other, rectifier = (chain.step(stage) for stage in (SCALED, ADDED, RECTIFIED))
    reducers = [
        (stage, cast("Reduce", tapped.modules[str(tap.target)])) for stage, tap in chain.taps
    ]
    path = f"_chain_{len(tapped.modules)}"
    tapped.modules[path] = Chain(
        norm.norm if norm else None,
        rectifier.upper if rectifier else None,
        reducers,
        in_place=chain.owned,
    )
    inputs = next(node for node in graph.nodes if node.op == "placeholder")
    added = other.other if other else None
    arguments = (ends.get(chain.source, chain.source), added and ends.get(added, added), inputs)
    with graph.inserting_before(end):
        node = graph.call_module(path, arguments)
        parts = [
            graph.call_function(operator.getitem, (node, place))
            for place in range(1 + len(chain.taps))
        ]
    end.replace_all_uses_with(parts[0])
    for part, (_, tap) in zip(parts[1:], chain.taps, strict=True):
        for user in list(tap.users):
            if str(user.target) != "_output":
                parts[-1].append(user)  # what is restored from it comes after it
        tap.replace_all_uses_with(part)
        graph.erase_node(tap)
    for step in reversed(chain.steps):
        graph.erase_node(step.node)
    return parts[0]
