"""Other weights for a moment, so that no layer is silent because its weights are zero."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

LEAST_SPREAD = 0.05
"""Noise at least, where all values of a tensor are the same."""


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put back all buffers at the end, such as statistics that a forward pass moves."""
    before = [(each, each.detach().clone()) for each in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in before:
                if not torch.equal(buffer, kept):
                    buffer.copy_(kept)


@contextmanager
def lively_weights(model: nn.Module) -> Iterator[None]:
    """Add noise to all weights of a model, and put back what was there at the end.

    Norms whose scale begins at zero, and units that are dead, return the same for every image; how
    a model passes images on does not depend on its weights.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    before = [(each, each.detach().clone()) for each in model.parameters() if each.numel()]
    try:
        with torch.no_grad():
            for weights, _ in before:
                if weights.is_floating_point():
                    spread = weights.float().std(correction=0).item()
                    noise = torch.randn(weights.shape, generator=generator, device="cpu").to(
                        weights
                    )
                    weights.add_(noise * max(spread, LEAST_SPREAD))
        yield
    finally:
        with torch.no_grad():
            for weights, kept in before:
                weights.copy_(kept)
