"""What a layer of a recording is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "conv",
    "linear",
    "norm",
    "activation",
    "pool",
    "window_pool",
    "recurrent",
    "attention",
    "block",
    "container",
    "sum",
    "other",
]
"""Kinds of layers. pool: to one value per channel; window_pool: all other pooling; block: a
building block such as a residual one; container: any other module with modules inside; sum: a
functional addition, as of a residual; other: dropout, identity, products, one's own modules."""

Tokens = Literal["mean", "class", "patches"]
"""Which tokens of a sequence are averaged: all, the class token alone, or those of patches."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Layer:
    """One call of one module, or of one function, in the forward pass."""

    name: str
    kind: Kind
    depth: int
    """Place in the order of execution among the chosen layers, from 0."""
    units: int
    height: int
    """Rows of the map; the number of tokens for a sequence; 1 for a vector."""
    width: int
    activation: str
    """`relu` where a ReLU, and nothing else, takes the layer's output directly."""
