"""Spaces: the numbers that stand for an image, by what they are and the layer they come from."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.features.stored_rows import StoredRows, in_memory_where_small

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from activarium.schemas.analysis_config import Features
    from activarium.tasks.statistics.layers.layer_rows import LayerRows
    from activarium.tasks.stores.recording import Recording

AUTO = "auto"
"""Instead of globs: the first, the middle and the last layer."""

ARRAYS: dict[Features, str] = {
    "pixels": "thumbnail",
    "pooled": "pooled",
    "means": "channel_mean",
    "logits": "logits",
}
"""Where a recording keeps each kind of features."""

BY_LAYER: dict[Features, str] = {
    "pooled": "layers with pooled features (record.pooled_layers chooses them)",
    "means": "recorded layers",
}
"""Kinds of features that layers have, and how these layers are called."""


@dataclass(frozen=True)
class Space:
    """What the images are described by."""

    features: Features
    layer: str
    """The layer; for pixels and logits the same word as `features`."""

    @property
    def part(self) -> str:
        """What names the space in a file's name: alike for no two spaces."""
        # No module path holds a colon but before the number of a call.
        plain = self.features in {"pixels", "pooled"}
        return self.layer if plain else f"{self.features}:{self.layer}"

    def __str__(self) -> str:
        """Return what users read."""
        names = {"pooled": "pooled features", "means": "channel means"}
        known = names.get(self.features)
        return f"{known} of {self.layer}" if known else self.features


def choose_spaces(
    recording: Recording, features: Sequence[Features], layers: Sequence[str]
) -> list[Space]:
    """Return the spaces of a recording: raw pixels, layers in order of execution, logits.

    Features that the recording does not hold are left out.

    Parameters
    ----------
    recording
        A recording.
    features
        Kinds of features.
    layers
        Globs of layers, for those kinds that layers have; `auto` for the first, the middle and
        the last.

    Raises
    ------
    UserError
        If a glob matches no layer.
    """
    kinds = [kind for kind in ARRAYS if kind in features]
    known = {kind: space_layers(recording, kind) for kind in kinds}
    check_globs(layers, {kind: known[kind] for kind in kinds if kind in BY_LAYER})
    return [
        Space(kind, layer)
        for kind in kinds
        for layer in (_chosen(known[kind], layers) if kind in BY_LAYER else known[kind])
    ]


def space_layers(recording: Recording, features: Features) -> list[str]:
    """Return the layers that have such features, in order; the kind itself where none has."""
    if not recording.has(ARRAYS[features]):
        return []
    if features == "pooled":
        return list(dict.fromkeys(recording.text("feature_layer")))
    if features == "means":
        return [layer.name for layer in recording.layers]
    return [features]


def _chosen(known: Sequence[str], layers: Sequence[str]) -> list[str]:
    if list(layers) == [AUTO]:
        places = sorted({0, len(known) // 2, len(known) - 1}) if known else []
        return [known[place] for place in places]
    return [name for name in known if any(fnmatchcase(name, each) for each in layers)]


def check_globs(layers: Sequence[str], known: Mapping[Features, Sequence[str]]) -> None:
    """Refuse globs of layers that match none.

    Parameters
    ----------
    layers
        Globs, or `auto`, which fits all.
    known
        Names of the layers that have each kind of features.

    Raises
    ------
    UserError
        If a glob matches no layer.
    """
    if list(layers) == [AUTO]:
        return
    for pattern in layers:
        if known and not any(
            fnmatchcase(name, pattern) for names in known.values() for name in names
        ):
            listed = "; ".join(
                f"{BY_LAYER[kind]}: {', '.join(names) or 'there are none'}"
                for kind, names in known.items()
            )
            raise UserError(f"embed.layers: {pattern!r} matches none of the {listed}")


def stored_space(recording: Recording, space: Space, row: NDArray[np.int64]) -> StoredRows:
    """Return the numbers of some images in a space, read from the store block by block.

    Parameters
    ----------
    recording
        A recording.
    space
        One of its spaces.
    row
        Rows of the images, in the order in which they are to be given.
    """
    columns, units = _columns(recording, space)
    return StoredRows(recording, ARRAYS[space.features], columns, units, row)


def open_space(recording: Recording, space: Space, row: NDArray[np.int64]) -> LayerRows:
    """Return the numbers of some images in a space, in memory where they are small.

    Parameters
    ----------
    recording
        A recording.
    space
        One of its spaces.
    row
        Rows of the images, in the order in which they are to be given.
    """
    return in_memory_where_small(stored_space(recording, space, row))


def _columns(recording: Recording, space: Space) -> tuple[slice, int]:
    if space.features == "pixels":
        shape = recording.shape("thumbnail")[1:]
        return slice(0, shape[0]), int(np.prod(shape))
    if space.features == "means":
        own = recording.layer_slices[space.layer]
    elif space.features == "pooled":
        columns = np.flatnonzero(np.array(recording.text("feature_layer")) == space.layer)
        own = slice(int(columns[0]), int(columns[-1]) + 1)
    else:
        own = slice(0, recording.shape("logits")[1])
    return own, own.stop - own.start
