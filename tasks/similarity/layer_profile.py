"""What a layer brings to every comparison: means, norms of images, ranks of distances.

Profiles are kept in a folder, so that a recording that is compared with several others is
profiled once, and what an interrupted comparison has done is not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.embedding.neighbours import sample_queries
from activarium.tasks.features.spaces import Space, open_space, stored_space
from activarium.tasks.similarity.centred_responses import (
    CentredMatrix,
    CentredRows,
    can_be_compact,
    centre,
    compact,
)
from activarium.tasks.similarity.cross_products import squared_product
from activarium.tasks.similarity.distance_ranks import distance_ranks
from activarium.tasks.stores.files import replacing
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.compare_config import CompareConfig, CompareFeatures
    from activarium.schemas.layers import Layer
    from activarium.tasks.similarity.centred_responses import Centred
    from activarium.tasks.stores.places import Place

    Vector = NDArray[np.float64]

ROWS = "rows.npy"
"""File in the folder that says which rows of the recording are compared."""

LABELS = "labels.npy"
"""File beside it of the codes of their classes."""

PRODUCTS = frozenset({"cka", "procrustes"})
"""Measures that follow from products of units."""

_NORM_IMAGES = 1_024
_DONE = "profile.npz"
"""What is written last of a layer."""


@dataclass(frozen=True)
class Subject:
    """A recording in a comparison: its store, its chosen layers, and where their profiles lie."""

    place: Place
    layers: tuple[Layer, ...]
    folder: Path
    name: str
    """Id of the recording, or of a selection of it."""
    classes: tuple[str, ...]
    """Names of its classes."""
    features: CompareFeatures = "means"
    """What stands for an image in a layer."""

    @property
    def label(self) -> NDArray[np.int32]:
        """Code of the class of each image that is compared; -1 where there is none."""
        found: NDArray[np.int32] = np.load(self.folder / LABELS)
        return found

    @property
    def row(self) -> NDArray[np.int64]:
        """Rows of the images that are compared."""
        found: NDArray[np.int64] = np.load(self.folder / ROWS)
        return found

    def file(self, layer: int, what: str) -> Path:
        """Return where something about a layer is kept."""
        return self.folder / f"{layer:05d}-{what}"

    def vectors(self, what: str) -> list[NDArray[Any]]:
        """Return a vector of each layer, mapped into memory."""
        places = range(len(self.layers))
        return [_load(self.file(place, f"{what}.npy")) for place in places]

    def own(self) -> Vector:
        """Return the sum of squares of X^T X of each layer."""
        places = range(len(self.layers))
        return np.array([float(np.load(self.file(each, _DONE))["own"]) for each in places])

    def space(self, layer: int) -> Space:
        """Return what stands for an image in a layer."""
        return Space(self.features, self.layers[layer].name)

    def widths(self) -> list[int]:
        """Return how many numbers stand for an image in each layer."""
        recording, none = Recording(self.place), np.zeros(0, np.int64)
        places = range(len(self.layers))
        return [stored_space(recording, self.space(each), none).units for each in places]

    def columns(self) -> list[int]:
        """Return the columns of each layer in products: its images, where they are fewer."""
        images = len(self.row)
        return [images if can_be_compact(images, each) else each for each in self.widths()]

    def rows_of(self, layers: Iterable[int]) -> dict[int, CentredRows]:
        """Return the centred responses of some layers, read from the store block by block."""
        recording, row, found = Recording(self.place), self.row, {}
        for layer in layers:
            with np.load(self.file(layer, _DONE)) as profile:
                mean, varies = profile["mean"], profile["varies"]
            stored = stored_space(recording, self.space(layer), row)
            found[layer] = CentredRows(stored, mean, varies)
        return found

    def read(self, layers: Iterable[int]) -> dict[int, Centred]:
        """Return the same for products: rotated, where a layer has more units than images."""
        found: dict[int, Centred] = {}
        found |= self.rows_of(layers)
        for layer in found:
            rotated = self.file(layer, "compact.npy")
            if rotated.exists():
                found[layer] = CentredMatrix(_load(rotated))
        return found


def _load(path: Path) -> NDArray[Any]:
    found: NDArray[Any] = np.load(path, mmap_mode="r")
    return found


def save(path: Path, values: NDArray[Any]) -> None:
    """Write an array so that the file is whole or absent."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def save_together(path: Path, **values: Any) -> None:
    """Write several arrays so that the file is whole or absent."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **values)


def is_profiled(subject: Subject, layer: int) -> bool:
    """Return whether the profile of a layer is there."""
    return subject.file(layer, _DONE).exists()


def profile_layer(subject: Subject, layer: int, config: CompareConfig) -> None:
    """Write the profile of one layer, unless it is there.

    Parameters
    ----------
    subject
        The recording.
    layer
        Place of the layer among those that are compared.
    config
        Measures, and the sample of RSA.
    """
    if is_profiled(subject, layer):
        return
    rows = open_space(Recording(subject.place), subject.space(layer), subject.row)
    centred = centre(rows)
    if "rsa" in config.measures:
        sample = sample_queries(rows.images, most=config.rsa_images, seed=config.seed)
        save(subject.file(layer, "ranks.npy"), distance_ranks(rows.take(sample)))
    own = np.nan
    if PRODUCTS & {*config.measures}:
        save(subject.file(layer, "norms.npy"), _squared_norms(centred))
        multiplied: Centred = centred
        if can_be_compact(rows.images, rows.units):
            multiplied = compact(centred)
            save(subject.file(layer, "compact.npy"), multiplied.values)
        own = squared_product(multiplied, multiplied)
    save_together(subject.file(layer, _DONE), mean=centred.mean, varies=centred.varies, own=own)


def _squared_norms(layer: Centred) -> Vector:
    """Return the squared norm of each image, shape (image,)."""
    blocks = layer.blocks(_NORM_IMAGES)
    return np.concatenate([np.einsum("iu,iu->i", block, block) for block in blocks])


def profile_bytes(subject: Subject, config: CompareConfig) -> int:
    """Return the room that the profiles of a recording take while it is compared, in bytes.

    Parameters
    ----------
    subject
        The recording.
    config
        Measures, and the sample of RSA.
    """
    images, layers = len(subject.row), len(subject.layers)
    total = 8 * images * layers
    if "rsa" in config.measures:
        sampled = min(images, config.rsa_images)
        total += layers * 4 * sampled * (sampled - 1) // 2
    if PRODUCTS & {*config.measures}:
        pairs = zip(subject.widths(), subject.columns(), strict=True)
        total += sum(8 * images * images for width, columns in pairs if columns < width)
    return total
