"""What a layer of a recording is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from activarium.schemas.config import Kind


@dataclass(frozen=True)
class Layer:
    """One call of one module in the forward pass."""

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
