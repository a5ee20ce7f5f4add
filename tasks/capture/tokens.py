"""Which positions of a sequence of tokens are averaged: all, the class token's, or the patches'."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from activarium.schemas.layers import Tokens
    from activarium.tasks.capture.layer_maps import Layout
    from activarium.tasks.capture.layer_trial import Found, Trial

MOST_PREFIXED = 16
"""Tokens at most that may come before those of the patches: of the class, of registers."""


class TokenChoice:
    """Narrows sequences of tokens to the chosen ones.

    The tokens of patches are as many as the positions of the map that they were made of. A sequence
    that is longer by a few begins with a class token, and perhaps others, where these are the same
    for every image before the model mixes them with the rest.

    Parameters
    ----------
    tokens
        What is chosen.
    trial
        What the layers returned.
    """

    def __init__(self, tokens: Tokens, trial: Trial) -> None:
        self._tokens = tokens
        self._patches = _patches(trial)
        self._fixed = trial.fixed
        self._is_used = tokens == "mean"

    def narrowed(self, found: Found) -> Layout:
        """Return the layout of a layer, of its chosen tokens where it has a class token."""
        layout = found.layout
        if layout is None:
            raise ValueError(f"{found.seen.name!r} has no layout")
        if self._tokens == "mean":
            return layout
        axis, length = self._sequence(found, layout)
        if axis is None:
            return layout
        self._is_used = True
        if self._tokens == "class":
            return replace(layout, tokens=(axis, 0, 1))
        return replace(layout, tokens=(axis, length - self._patches, self._patches))

    def check(self) -> None:
        """Refuse a choice that concerns no layer.

        Raises
        ------
        UserError
            If no layer that was narrowed has a class token.
        """
        if not self._is_used:
            raise UserError(
                f"model.tokens: expected a layer with a class token, as {self._tokens!r} needs, and "
                "no chosen layer has one; use mean"
            )

    def _sequence(self, found: Found, layout: Layout) -> tuple[int | None, int]:
        """Return the axis and length of the tokens; None where there is no class token."""
        taken = {layout.image, *layout.channels}
        others = [axis for axis in range(len(found.seen.shape)) if axis not in taken]
        if len(others) != 1 or not self._patches:
            return None, 0
        length = found.seen.shape[others[0]]
        extra, fixed = length - self._patches, self._fixed.get(length)
        if fixed is None or not 0 < extra <= MOST_PREFIXED:
            return None, length
        begins = bool(fixed[:extra].all()) and not bool(fixed[extra:].any())
        return (others[0], length) if begins else (None, length)


def _patches(trial: Trial) -> int:
    """Return how many patches there are: the positions of the last map before the first sequence."""
    positions = 0
    for found in trial.found:
        layout, shape = found.layout, found.seen.shape
        if layout is None:
            continue
        rest = [size for axis, size in enumerate(shape) if axis not in {0, *layout.channels}]
        if len(rest) == 2 and rest[0] * rest[1] > 1:
            positions = rest[0] * rest[1]
        elif len(rest) == 1 and positions:
            break
    return positions
