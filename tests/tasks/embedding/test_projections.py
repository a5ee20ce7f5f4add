"""Maps against scikit-learn, umap-learn and openTSNE, by hand, and at the edges."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from activarium.tasks.embedding import projections
from activarium.tasks.embedding.fuzzy_graph import fuzzy_graph
from activarium.tasks.embedding.neighbours import (
    knn_purity,
    nearest_neighbours,
    neighbour_distances,
)
from activarium.tasks.embedding.projections import largest_perplexity, pca, tsne, umap

CLASSES = np.arange(90) % 3


def blobs(seed: int, *, images: int = 90, features: int = 8) -> np.ndarray:
    """Three classes, well apart."""
    rng = np.random.default_rng(seed)
    centre = 6 * rng.normal(size=(3, features))
    return centre[np.arange(images) % 3] + rng.normal(size=(images, features))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(3, 40),
    features=st.integers(1, 60),
    dimensions=st.integers(1, 5),
)
def test_pca__equals_scikit_learn_up_to_sign(
    seed: int, images: int, features: int, dimensions: int
) -> None:
    points = np.random.default_rng(seed).normal(size=(images, features)) + 3.0
    found = pca(points, dimensions=dimensions)
    # The last of N components of N images has no variance, and so no direction.
    size = min(dimensions, images - 1, features)
    reference = PCA(n_components=size, svd_solver="full").fit(points)
    np.testing.assert_allclose(
        found.explained_variance_ratio[:size], reference.explained_variance_ratio_, atol=1e-10
    )
    sign = np.sign((found.components[:size] * reference.components_).sum(axis=1))
    np.testing.assert_allclose(
        found.coordinates[:, :size], reference.transform(points) * sign, rtol=1e-4, atol=1e-4
    )
    assert found.coordinates.shape == (images, min(dimensions, images, features))
    assert found.coordinates.dtype == np.float32


def test_pca__worked_by_hand() -> None:
    points = np.array([[0.0, 0.0], [2.0, -2.0], [4.0, -4.0]])
    found = pca(points, dimensions=2)
    root = np.sqrt(0.5)
    np.testing.assert_allclose(np.abs(found.components[0]), root)
    np.testing.assert_allclose(np.abs(found.coordinates[:, 0]), [4 * root, 0, 4 * root], atol=1e-6)
    np.testing.assert_allclose(found.explained_variance_ratio, [1.0, 0.0], atol=1e-12)
    np.testing.assert_array_equal(found.mean, [2.0, -2.0])
    assert not found.components[1].any()
    assert not found.coordinates[:, 1].any()


@pytest.mark.parametrize("features", [5, 300])
def test_pca__largest_loading_is_positive(features: int) -> None:
    components = pca(blobs(1, features=features), dimensions=4).components
    assert (components.max(axis=1) == np.abs(components).max(axis=1)).all()


def test_pca__both_sides_of_the_matrix_agree() -> None:
    points = blobs(2, images=30, features=30)
    wide = np.hstack([points, np.zeros((30, 5))])
    np.testing.assert_allclose(
        pca(wide, dimensions=4).coordinates, pca(points, dimensions=4).coordinates, atol=1e-4
    )


def test_pca__constant_features_have_no_loading() -> None:
    points = np.hstack([blobs(3), np.full((90, 2), 7.0)])
    assert np.abs(pca(points, dimensions=3).components[:, -2:]).max() < 1e-12


def test_pca__identical_images_are_all_at_zero() -> None:
    found = pca(np.full((5, 4), 0.1), dimensions=2)
    assert not found.coordinates.any()
    assert not found.explained_variance_ratio.any()


def test_pca__same_points_same_map_bit_for_bit() -> None:
    first, second = (pca(blobs(4), dimensions=3) for _ in range(2))
    np.testing.assert_array_equal(first.coordinates, second.coordinates)


@pytest.mark.parametrize("points", [np.ones(4), np.ones((2, 3)), np.ones((4, 0))])
def test_maps__refuse_what_is_no_matrix_of_three_images(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images x features"):
        pca(points, dimensions=2)
    with pytest.raises(ValueError, match="images x features"):
        tsne(points, seed=0, threads=1)
    with pytest.raises(ValueError, match="images x features"):
        umap(points, seed=0)


def test_maps__refuse_values_that_are_not_finite() -> None:
    points = blobs(5)
    points[3, 1] = np.inf
    for call in (
        lambda: pca(points, dimensions=2),
        lambda: tsne(points, seed=0, threads=1),
        lambda: umap(points, seed=0),
    ):
        with pytest.raises(ValueError, match="in image 3"):
            call()


def test_maps__refuse_identical_images() -> None:
    points = np.full((9, 4), 0.1)
    with pytest.raises(ValueError, match="expected images that differ, got 9 times"):
        tsne(points, perplexity=2, seed=0, threads=1)
    with pytest.raises(ValueError, match="expected images that differ, got 9 times"):
        umap(points, neighbours=3, seed=0)


def test_maps__refuse_dimensions_out_of_range() -> None:
    with pytest.raises(ValueError, match="at least 1 dimension, got 0"):
        pca(blobs(6), dimensions=0)
    with pytest.raises(ValueError, match="1 to 3 dimensions for t-SNE, got 4"):
        tsne(blobs(6), dimensions=4, perplexity=5, seed=0, threads=1)
    with pytest.raises(ValueError, match="dimensions=0"):
        umap(blobs(6), dimensions=0, seed=0)
    with pytest.raises(ValueError, match="min_dist=-1"):
        umap(blobs(6), min_dist=-1, seed=0)
    with pytest.raises(ValueError, match="at least 1 thread"):
        tsne(blobs(6), perplexity=5, seed=0, threads=0)


def test_largest_perplexity__is_a_third_of_the_others() -> None:
    assert largest_perplexity(31) == 10.0
    with pytest.raises(ValueError, match="at least 4 images for t-SNE, got 3"):
        largest_perplexity(3)


def test_tsne__names_the_largest_perplexity_that_fits() -> None:
    with pytest.raises(ValueError, match=r"from 1 to 29.6667 .* 90 images.*got 30.0"):
        tsne(blobs(7), seed=0, threads=1)


def test_tsne__is_as_good_as_plain_open_tsne() -> None:
    from openTSNE import TSNE, initialization
    from openTSNE.affinity import PerplexityBasedNN

    points = blobs(8, images=60)
    affinities = PerplexityBasedNN(points, perplexity=8.0, method="exact")
    start = initialization.pca(points, random_state=0)
    reference = TSNE(initialization=start, random_state=0).fit(affinities=affinities)
    found = tsne(points, perplexity=8.0, seed=0, threads=1)
    # Another jitter at the start, so another map of the same quality.
    assert found.objective == pytest.approx(reference.kl_divergence, abs=0.1)
    assert knn_purity(found.coordinates, CLASSES[:60], k=5) == 1.0


def test_tsne__same_seed_same_map_bit_for_bit() -> None:
    first, second = (tsne(blobs(9), perplexity=6, seed=3, threads=2) for _ in range(2))
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    assert first.objective == second.objective
    assert first.parameters == second.parameters
    assert first.parameters["threads"] == 1, "too few images for a second thread"
    other = tsne(blobs(9), perplexity=6, seed=4, threads=2)
    assert (other.coordinates != first.coordinates).any()


@pytest.mark.parametrize(("border", "gradient"), [(10_000, "bh"), (0, "fft")])
def test_tsne__same_threads_same_map_bit_for_bit(
    border: int, gradient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What large sets use, on a small one and for a few steps.
    monkeypatch.setattr(projections, "IMAGES_PER_THREAD", 1)
    monkeypatch.setattr(projections, "INTERPOLATION_FROM", border)
    monkeypatch.setattr(projections, "EXAGGERATED_STEPS", 15)
    monkeypatch.setattr(projections, "PLAIN_STEPS", 15)
    first, second = (tsne(blobs(9), perplexity=6, seed=3, threads=2) for _ in range(2))
    assert first.parameters["gradient"] == gradient
    assert first.parameters["threads"] == 2
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    assert first.objective == second.objective


def test_tsne__reports_every_fifty_steps() -> None:
    reports: list[tuple[int, float]] = []
    found = tsne(
        blobs(10, images=30),
        perplexity=5,
        seed=0,
        threads=1,
        callback=lambda step, divergence: reports.append((step, divergence)),
    )
    assert [step for step, _ in reports] == list(range(50, 751, 50))
    assert reports[-1][1] == pytest.approx(found.objective, abs=0.01)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_tsne__maps_the_fewest_images(dimensions: int) -> None:
    points = np.array([[0.0], [1.0], [5.0], [6.0]])
    found = tsne(points, dimensions=dimensions, perplexity=1.0, seed=0, threads=1)
    assert found.coordinates.shape == (4, dimensions)
    assert np.isfinite(found.coordinates).all()
    assert found.objective is not None


def test_tsne__maps_duplicates_and_constant_features() -> None:
    points = np.hstack([np.repeat(blobs(11, images=6), 8, axis=0), np.ones((48, 1))])
    found = tsne(points, perplexity=5, seed=0, threads=1)
    assert np.isfinite(found.coordinates).all()
    assert knn_purity(found.coordinates, np.repeat(np.arange(6), 8), k=5) == 1.0


def test_umap__names_the_most_neighbours_that_fit() -> None:
    with pytest.raises(ValueError, match=r"from 2 to 89 neighbours .*90 images\), got 90"):
        umap(blobs(12), neighbours=90, seed=0)


def test_umap__keeps_classes_together() -> None:
    found = umap(blobs(13), seed=0)
    assert found.coordinates.shape == (90, 2)
    assert found.coordinates.dtype == np.float32
    assert knn_purity(found.coordinates, CLASSES, k=10) == 1.0
    assert found.objective is None
    assert found.parameters["epochs"] == 500


def test_umap__same_seed_same_map_bit_for_bit() -> None:
    first, second = (umap(blobs(14), seed=5, neighbours=10) for _ in range(2))
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    other = umap(blobs(14), seed=6, neighbours=10)
    assert (other.coordinates != first.coordinates).any()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_umap__maps_the_fewest_images(dimensions: int) -> None:
    points = np.array([[0.0], [1.0], [5.0]])
    found = umap(points, dimensions=dimensions, neighbours=2, seed=0)
    assert found.coordinates.shape == (3, dimensions)
    assert np.isfinite(found.coordinates).all()


def test_umap__maps_duplicates_and_constant_features() -> None:
    points = np.hstack([np.repeat(blobs(15, images=6), 8, axis=0), np.ones((48, 1))])
    found = umap(points, neighbours=5, seed=0)
    assert np.isfinite(found.coordinates).all()
    assert knn_purity(found.coordinates, np.repeat(np.arange(6), 8), k=5) == 1.0


@pytest.mark.parametrize("duplicates", [1, 4, 30])
def test_fuzzy_graph__equals_umap_learn(duplicates: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap.umap_ import fuzzy_simplicial_set

    points = np.repeat(blobs(16), duplicates, axis=0)[:90]
    others = nearest_neighbours(points, k=14)
    distances = neighbour_distances(points, others)
    itself = np.arange(90)[:, None]
    reference, _, _ = fuzzy_simplicial_set(
        points,
        15,
        np.random.RandomState(0),
        "euclidean",
        knn_indices=np.hstack([itself, others]),
        knn_dists=np.hstack([0.0 * itself, distances]),
    )
    found = fuzzy_graph(others, distances).toarray()
    np.testing.assert_allclose(found, reference.toarray(), atol=2e-4)
    np.testing.assert_array_equal(found, found.T)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6), k=st.integers(1, 20))
def test_fuzzy_graph__does_not_depend_on_scale(seed: int, scale: float, k: int) -> None:
    points = blobs(seed, images=30)
    others = nearest_neighbours(points, k=k)
    distances = neighbour_distances(points, others)
    graph = fuzzy_graph(others, distances)
    rescaled = fuzzy_graph(others, distances * scale)
    np.testing.assert_allclose(rescaled.toarray(), graph.toarray(), atol=1e-4)
    assert graph.max() <= 1.0
    assert graph.min() >= 0.0
    assert not graph.diagonal().any()
