"""Maps of images: what t-SNE and UMAP share.

Both start from the principal components and from exact nearest neighbours. An informative start
keeps the large-scale layout (Kobak and Linderman 2021), and exact neighbours spare the compilation
of an approximate search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.embedding.points import checked_points
from activarium.tasks.embedding.principal_components import FEWEST_IMAGES, pca

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


@dataclass(frozen=True)
class ProjectionResult:
    """A map of N images."""

    coordinates: NDArray[np.float32]
    """Images x dimensions, shape (N, D)."""
    objective: float | None
    """What the method minimised (t-SNE: KL divergence in nats); None where it does not tell."""
    parameters: dict[str, int | float | str]
    """Everything that the map depends on beside the points."""


def unit_start(rows: Floats, *, dimensions: int, seed: int) -> NDArray[np.float64]:
    """Lay images out by their principal components, at unit spread, duplicates apart.

    Parameters
    ----------
    rows
        Images x features, shape (N, F), that differ.
    dimensions
        Dimensions of the map, D.
    seed
        Seed of the jitter that parts duplicates.

    Returns
    -------
    Coordinates, shape (N, D).
    """
    coordinates = pca(rows, dimensions=dimensions).coordinates.astype(np.float64)
    start = np.zeros((len(rows), dimensions))
    start[:, : coordinates.shape[1]] = coordinates / coordinates[:, 0].std()
    return start + np.random.default_rng(seed).normal(scale=0.01, size=start.shape)


def checked_varied(points: Floats) -> Floats:
    """Parse a matrix of images x features that are not all the same.

    Raises
    ------
    ValueError
        If the points are not a finite matrix of at least 3 images that differ.
    """
    rows = checked_points(points, fewest=FEWEST_IMAGES)
    if (rows == rows[0]).all():
        raise ValueError(f"expected images that differ, got {len(rows)} times the same features")
    return rows
