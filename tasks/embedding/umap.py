"""UMAP by umap-learn's layout, and placing of further images in a map that is there."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.embedding.fuzzy_graph import fuzzy_graph, memberships
from activarium.tasks.embedding.neighbours import (
    nearest_neighbours,
    nearest_references,
    neighbour_distances,
)
from activarium.tasks.embedding.projections import ProjectionResult, checked_varied, unit_start

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    Floats = NDArray[np.floating]

# umap-learn's own choice (umap.umap_.simplicial_set_embedding), written out to be recorded.
MANY_EPOCHS, FEW_EPOCHS, MANY_EPOCHS_UP_TO = 500, 200, 10_000


def umap(
    points: Floats,
    *,
    dimensions: int = 2,
    neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int,
) -> ProjectionResult:
    """Map images by UMAP, started from the principal components.

    Neighbours and graph are computed here (exact, and without the 10 s and more that
    umap-learn needs to compile its own); the layout is umap-learn's. It runs on one
    thread: the same points and seed on the same machine give the same map, bit for bit.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite, at least 3 images, not all the same.
    dimensions
        Dimensions of the map, at least 1.
    neighbours
        Size of the neighbourhood, the image itself included as in umap-learn; 2 to N - 1.
    min_dist
        Distance on the map below which neighbours are not drawn closer, 0 to 1.
    seed
        Seed of the start and of the negative samples.

    Returns
    -------
    The map. It has no objective: the cross entropy is sampled, never evaluated.

    Raises
    ------
    ValueError
        If the points are not a finite matrix of at least 3 differing images, or an
        argument is out of range; too many neighbours are told the largest that fits.

    References
    ----------
    McInnes, L., Healy, J. and Melville, J. (2018). UMAP: uniform manifold approximation
    and projection for dimension reduction. arXiv:1802.03426, algorithms 1 to 5.
    """
    rows = checked_varied(points)
    n = len(rows)
    if not 2 <= neighbours < n:
        raise ValueError(
            f"expected from 2 to {n - 1} neighbours (the largest that fits {n} images), "
            f"got {neighbours!r}"
        )
    if dimensions < 1 or not 0 <= min_dist <= 1:
        raise ValueError(
            "expected at least 1 dimension and min_dist from 0 to 1, got "
            f"dimensions={dimensions!r}, min_dist={min_dist!r}"
        )
    others = nearest_neighbours(rows, k=neighbours - 1)
    epochs = MANY_EPOCHS if n <= MANY_EPOCHS_UP_TO else FEW_EPOCHS
    coordinates = _lay_out(
        fuzzy_graph(others, neighbour_distances(rows, others)),
        start=unit_start(rows, dimensions=dimensions, seed=seed),
        min_dist=min_dist,
        epochs=epochs,
        seed=seed,
    )
    parameters: dict[str, int | float | str] = {
        "neighbours": neighbours,
        "min_dist": min_dist,
        "initialisation": "pca",
        "epochs": epochs,
        "seed": seed,
        "threads": 1,
    }
    return ProjectionResult(coordinates, None, parameters)


def place_by_umap(
    new: Floats, reference: Floats, coordinates: Floats, *, neighbours: int
) -> NDArray[np.float32]:
    """Place further images in a map by UMAP, without moving what is there.

    Each lies at the mean of its nearest images on the map, weighted by UMAP's membership: where
    umap-learn's transform starts. Its steps after that are left out: they are random, and would
    make an image's place depend on the others.

    Parameters
    ----------
    new
        Features of the images to place, shape (M, F), finite.
    reference
        Features of the images of the map, shape (N, F), finite.
    coordinates
        The map, shape (N, D).
    neighbours
        Images of the map that draw an image, 2 to N.

    Returns
    -------
    Coordinates, shape (M, D).

    References
    ----------
    McInnes, L., Healy, J. and Melville, J. (2018). arXiv:1802.03426; umap-learn's
    `init_graph_transform`.
    """
    if not len(new):
        return np.zeros((0, coordinates.shape[1]), np.float32)
    near = nearest_references(reference, new, k=min(neighbours, len(reference)))
    distance = neighbour_distances(reference, near, new=new)
    weight = memberships(distance)
    # What is an image of the map lies where that does.
    weight[distance[:, 0] == 0, 1:] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    there = np.asarray(coordinates, np.float64)
    placed: NDArray[np.float32] = np.einsum("mk,mkd->md", weight, there[near]).astype(np.float32)
    return placed


def _lay_out(
    graph: csr_array, *, start: Floats, min_dist: float, epochs: int, seed: int
) -> NDArray[np.float32]:
    """Optimise the map of a graph by umap-learn, with its default constants."""
    layout = _umap_module()
    spread_a, spread_b = layout.find_ab_params(1.0, min_dist)
    coordinates, _ = layout.simplicial_set_embedding(
        data=start,  # only looked at for other starts
        graph=graph,
        n_components=start.shape[1],
        initial_alpha=1.0,
        a=spread_a,
        b=spread_b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=epochs,
        init=start,
        random_state=np.random.RandomState(seed),
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        parallel=False,
    )
    return np.asarray(coordinates, dtype=np.float32)


def _umap_module() -> ModuleType:
    # Imported here: umap-learn takes seconds to import.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import umap.umap_
    module: ModuleType = umap.umap_
    return module
