"""t-SNE by openTSNE, and placing of further images in a map that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from activarium.tasks.embedding.neighbours import (
    nearest_neighbours,
    nearest_references,
    neighbour_distances,
)
from activarium.tasks.embedding.principal_components import FEWEST_IMAGES
from activarium.tasks.embedding.projections import ProjectionResult, checked_varied, unit_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from openTSNE.affinity import Affinities, PerplexityBasedNN

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]

# openTSNE's own border: below it Barnes-Hut is quicker, above it interpolation.
INTERPOLATION_FROM = 10_000
MOST_DIMENSIONS = 3
# With less to do, threads wait for each other: 300 images took ten times longer on two.
IMAGES_PER_THREAD = 1_000
EXAGGERATED_STEPS = 250
PLAIN_STEPS = 500
CALLBACK_STEPS = 50
PLACING_PERPLEXITY = 5.0
"""openTSNE's own: a further image is drawn to few neighbours, so that it does not lie between."""


def largest_perplexity(n: int) -> float:
    """Tell the largest t-SNE perplexity that fits: a third of the other images.

    Parameters
    ----------
    n
        Number of images, at least 4.

    Returns
    -------
    (n - 1) / 3.

    Raises
    ------
    ValueError
        If n is below 4, where no perplexity of at least 1 fits.

    References
    ----------
    van der Maaten, L. (2014). Accelerating t-SNE using tree-based algorithms. JMLR 15,
    3221-3245, section 4.1: the 3 x perplexity nearest neighbours enter.
    """
    if n <= FEWEST_IMAGES:
        raise ValueError(f"expected at least {FEWEST_IMAGES + 1} images for t-SNE, got {n!r}")
    return (n - 1) / 3


def tsne(  # noqa: PLR0913 - the method's own arguments
    points: Floats,
    *,
    dimensions: int = 2,
    perplexity: float = 30.0,
    seed: int,
    threads: int,
    callback: Callable[[int, float], None] | None = None,
) -> ProjectionResult:
    """Map images by t-SNE (openTSNE), started from the principal components.

    The same points, seed and threads on the same machine give the same map, bit for bit.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite, at least 4 images, not all the same.
    dimensions
        1, 2 or 3.
    perplexity
        Effective number of neighbours, 1 to (N - 1) / 3 (`largest_perplexity`).
    seed
        Seed of the jitter that parts duplicates at the start.
    threads
        Number of threads at most; one for every 1,000 images is used, and recorded.
    callback
        Called with the number of steps done (of 750) and the KL divergence, every 50 steps.

    Returns
    -------
    The map, centred at 0, with its KL divergence.

    Raises
    ------
    ValueError
        If the points are not a finite matrix of at least 4 differing images, or an
        argument is out of range; a too large perplexity is told the largest that fits.

    References
    ----------
    van der Maaten, L. and Hinton, G. (2008). Visualizing data using t-SNE. JMLR 9,
    2579-2605, equations 2 to 5. Linderman, G. et al. (2019). Fast interpolation-based
    t-SNE. Nature Methods 16, 243-245. Policar, P., Strazar, M. and Zupan, B. (2024).
    openTSNE: a modular Python library for t-SNE. J. Stat. Softw. 109(3).
    """
    rows = checked_varied(points)
    n = len(rows)
    if not 1 <= perplexity <= largest_perplexity(n):
        raise ValueError(
            f"expected a perplexity from 1 to {largest_perplexity(n):.6g} (the largest that fits "
            f"{n} images), got {perplexity!r}"
        )
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(
            f"expected 1 to {MOST_DIMENSIONS} dimensions for t-SNE, got {dimensions!r}"
        )
    if threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads!r}")
    threads = min(threads, max(1, n // IMAGES_PER_THREAD))
    gradient = _gradient(n, dimensions)
    coordinates, divergence = _run_tsne(
        _affinities(rows, perplexity=perplexity, threads=threads),
        start=unit_start(rows, dimensions=dimensions, seed=seed) * 1e-4,
        gradient=gradient,
        threads=threads,
        callback=callback,
    )
    parameters: dict[str, int | float | str] = {
        "perplexity": perplexity,
        "initialisation": "pca",
        "gradient": gradient,
        "steps": EXAGGERATED_STEPS + PLAIN_STEPS,
        "seed": seed,
        "threads": threads,
    }
    return ProjectionResult(coordinates, divergence, parameters)


def place_by_tsne(
    new: Floats,
    reference: Floats,
    coordinates: Floats,
    *,
    threads: int,
) -> NDArray[np.float32]:
    """Place further images in a map by t-SNE, without moving what is there.

    Each image begins at the median of its neighbours on the map and is moved by the gradient
    towards them and away from all others of the map (openTSNE's transform, with exact neighbours);
    where it ends does not depend on the other images that are placed.

    Parameters
    ----------
    new
        Features of the images to place, shape (M, F), finite.
    reference
        Features of the images of the map, shape (N, F), finite.
    coordinates
        The map, shape (N, D).
    threads
        Number of threads.

    Returns
    -------
    Coordinates, shape (M, D).

    References
    ----------
    Policar, P., Strazar, M. and Zupan, B. (2023). Embedding to reference t-SNE space addresses
    batch effects in single-cell classification. Machine Learning 112, 721-740.
    """
    from openTSNE import TSNEEmbedding

    if not len(new):
        return np.zeros((0, coordinates.shape[1]), np.float32)
    there = np.asarray(coordinates, np.float64)
    embedding = TSNEEmbedding(
        there,
        _to_reference(reference, threads=threads),
        negative_gradient_method=_gradient(len(there), there.shape[1]),
        n_jobs=threads,
    )
    placed = embedding.transform(new, perplexity=PLACING_PERPLEXITY)
    # openTSNE moves the middle of the map to 0 first.
    middle = (there.max(axis=0) + there.min(axis=0)) / 2
    return np.asarray(placed + middle, dtype=np.float32)


def _gradient(n: int, dimensions: int) -> str:
    """Return how openTSNE sums up the repulsion."""
    can_interpolate = n >= INTERPOLATION_FROM and dimensions < MOST_DIMENSIONS
    return "fft" if can_interpolate else "bh"


def _to_reference(reference: Floats, *, threads: int) -> Affinities:
    """Return openTSNE's affinities of further points to those of the map, by exact neighbours."""
    from openTSNE.affinity import Affinities, joint_probabilities_nn

    class ToReference(Affinities):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # Between images of the map none is needed: they do not move.
            self.P = csr_matrix((len(reference), len(reference)))

        def to_new(
            self, data: Floats, perplexity: float, **_: object
        ) -> tuple[csr_matrix, Indices, Floats]:
            count = min(len(reference), int(3 * perplexity))
            near = nearest_references(reference, data, k=count)
            distance = neighbour_distances(reference, near, new=data)
            weight = joint_probabilities_nn(
                near,
                distance,
                [min(perplexity, count / 3)],
                symmetrize=False,
                normalization="point-wise",
                n_reference_samples=len(reference),
                n_jobs=threads,
            )
            return weight, near, distance

    affinities: Affinities = ToReference()
    return affinities


def _affinities(rows: Floats, *, perplexity: float, threads: int) -> PerplexityBasedNN:
    """Weigh the nearest neighbours for t-SNE."""
    # Imported here: openTSNE takes seconds to import.
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    near = nearest_neighbours(rows, k=min(len(rows) - 1, int(3 * perplexity)))
    index = PrecomputedNeighbors(near, neighbour_distances(rows, near))
    return PerplexityBasedNN(knn_index=index, perplexity=perplexity, n_jobs=threads)


def _run_tsne(
    affinities: PerplexityBasedNN,
    *,
    start: Floats,
    gradient: str,
    threads: int,
    callback: Callable[[int, float], None] | None,
) -> tuple[NDArray[np.float32], float]:
    """Optimise the map; return it with its KL divergence."""
    from openTSNE import TSNEEmbedding

    embedding = TSNEEmbedding(start, affinities, negative_gradient_method=gradient, n_jobs=threads)
    done = 0
    for steps, exaggeration in ((EXAGGERATED_STEPS, 12), (PLAIN_STEPS, None)):
        embedding.optimize(
            n_iter=steps,
            exaggeration=exaggeration,
            momentum=0.8,
            inplace=True,
            propagate_exception=True,
            **_reporting(callback, done=done),
        )
        done += steps
    # Threads add up the divergence in any order; on one thread its last digits are stable.
    embedding.optimize(n_iter=0, n_jobs=1, inplace=True)
    return np.asarray(embedding, dtype=np.float32), float(embedding.kl_divergence)


def _reporting(callback: Callable[[int, float], None] | None, *, done: int) -> dict[str, object]:
    """Adapt our callback to openTSNE, which counts each phase from 0 and asks whether to stop."""
    if callback is None:
        return {}

    def report(step: int, divergence: float, _: object) -> bool:
        callback(done + step, divergence)
        return False

    return {"callbacks": [report], "callbacks_every_iters": CALLBACK_STEPS}
