"""Maps of images: principal components, t-SNE and UMAP.

Both t-SNE and UMAP start from the principal components and from exact nearest
neighbours. An informative start keeps the large-scale layout (Kobak and Linderman
2021), and exact neighbours spare the compilation of an approximate search.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.embedding.fuzzy_graph import fuzzy_graph
from activarium.tasks.embedding.neighbours import (
    checked_points,
    nearest_neighbours,
    neighbour_distances,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray
    from openTSNE.affinity import PerplexityBasedNN
    from scipy.sparse import csr_array

    Floats = NDArray[np.floating]
    Indices = NDArray[np.int64]

FEWEST_IMAGES = 3
# openTSNE's own border: below it Barnes-Hut is quicker, above it interpolation.
INTERPOLATION_FROM = 10_000
MOST_TSNE_DIMENSIONS = 3
# With less to do, threads wait for each other: 300 images took ten times longer on two.
IMAGES_PER_THREAD = 1_000
EXAGGERATED_STEPS = 250
PLAIN_STEPS = 500
CALLBACK_STEPS = 50
# umap-learn's own choice (umap.umap_.simplicial_set_embedding), written out to be recorded.
MANY_EPOCHS, FEW_EPOCHS, MANY_EPOCHS_UP_TO = 500, 200, 10_000


@dataclass(frozen=True)
class PcaResult:
    """Principal components of N images with F features."""

    coordinates: NDArray[np.float32]
    """Images x dimensions, shape (N, D)."""
    explained_variance_ratio: NDArray[np.float64]
    """Share of the total variance per dimension, shape (D,), 0 to 1, falling."""
    mean: NDArray[np.float64]
    """Mean of every feature, shape (F,)."""
    components: NDArray[np.float64]
    """Unit vectors, shape (D, F); zero where no variance is left."""


@dataclass(frozen=True)
class ProjectionResult:
    """A map of N images."""

    coordinates: NDArray[np.float32]
    """Images x dimensions, shape (N, D)."""
    objective: float | None
    """What the method minimised (t-SNE: KL divergence in nats); None where it does not tell."""
    parameters: dict[str, int | float | str]
    """Everything that the map depends on beside the points."""


def pca(points: Floats, *, dimensions: int) -> PcaResult:
    """Project images on their principal components, exactly.

    Eigenvectors of the covariance, or of the Gram matrix with more features than
    images, in float64. The sign is fixed: the largest loading in magnitude is positive.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite, at least 3 images.
    dimensions
        Number of components D, reduced to min(N, F) where there are fewer.

    Returns
    -------
    Coordinates, shares of variance, mean and components. Components without
    variance (down to rounding) are zero vectors with zero coordinates.

    Raises
    ------
    ValueError
        If the points are not a finite matrix of at least 3 images, or `dimensions` is
        below 1.
    """
    return _pca(checked_points(points, fewest=FEWEST_IMAGES), dimensions=dimensions)


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
    rows = _checked_varied(points)
    n = len(rows)
    if not 1 <= perplexity <= largest_perplexity(n):
        raise ValueError(
            f"expected a perplexity from 1 to {largest_perplexity(n):.6g} (the largest that fits "
            f"{n} images), got {perplexity!r}"
        )
    if not 1 <= dimensions <= MOST_TSNE_DIMENSIONS:
        raise ValueError(
            f"expected 1 to {MOST_TSNE_DIMENSIONS} dimensions for t-SNE, got {dimensions!r}"
        )
    if threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads!r}")
    threads = min(threads, max(1, n // IMAGES_PER_THREAD))
    can_interpolate = n >= INTERPOLATION_FROM and dimensions < MOST_TSNE_DIMENSIONS
    gradient = "fft" if can_interpolate else "bh"
    coordinates, divergence = _run_tsne(
        _affinities(rows, perplexity=perplexity, threads=threads),
        start=_start(rows, dimensions=dimensions, seed=seed) * 1e-4,
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
    rows = _checked_varied(points)
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
        start=_start(rows, dimensions=dimensions, seed=seed),
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


def _start(rows: Floats, *, dimensions: int, seed: int) -> Floats:
    """Lay images out by their principal components, at unit spread, duplicates apart."""
    coordinates = _pca(rows, dimensions=dimensions).coordinates.astype(np.float64)
    start = np.zeros((len(rows), dimensions))
    start[:, : coordinates.shape[1]] = coordinates / coordinates[:, 0].std()
    return start + np.random.default_rng(seed).normal(scale=0.01, size=start.shape)


def _pca(rows: Floats, *, dimensions: int) -> PcaResult:
    if dimensions < 1:
        raise ValueError(f"expected at least 1 dimension, got {dimensions!r}")
    n, features = rows.shape
    mean = rows.mean(axis=0)
    centred = rows - mean
    wide = features > n
    matrix = centred @ centred.T if wide else centred.T @ centred
    value, vector = np.linalg.eigh(matrix)
    value = value[::-1][: min(dimensions, n, features)]
    vector = vector.T[::-1][: len(value)]
    has_variance = value > max(n, features) * np.finfo(np.float64).eps * max(value[0], 0.0)
    value = np.where(has_variance, value, 0.0)
    if wide:
        vector = (vector @ centred) / np.sqrt(np.where(has_variance, value, 1.0))[:, None]
    vector = np.where(has_variance[:, None], vector, 0.0)
    largest = np.take_along_axis(vector, np.abs(vector).argmax(axis=1)[:, None], axis=1)
    vector = np.where(largest < 0, -vector, vector)
    total = float(np.trace(matrix))
    return PcaResult(
        coordinates=(centred @ vector.T).astype(np.float32),
        explained_variance_ratio=value / total if total > 0 else value,
        mean=mean,
        components=vector,
    )


def _checked_varied(points: Floats) -> Floats:
    rows = checked_points(points, fewest=FEWEST_IMAGES)
    if (rows == rows[0]).all():
        raise ValueError(f"expected images that differ, got {len(rows)} times the same features")
    return rows
