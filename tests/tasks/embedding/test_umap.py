"""UMAP and its graph against umap-learn, and at the edges."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix

from activarium.tasks.embedding.fuzzy_graph import fuzzy_graph
from activarium.tasks.embedding.neighbour_scores import knn_purity
from activarium.tasks.embedding.neighbours import (
    nearest_neighbours,
    nearest_references,
    neighbour_distances,
)
from activarium.tasks.embedding.umap import place_by_umap, umap

from .map_points import CLASSES, blobs


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


@pytest.mark.parametrize("neighbours", [2, 15])
def test_place_by_umap__is_where_umap_learn_s_transform_starts(neighbours: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap.umap_ import compute_membership_strengths, init_graph_transform, smooth_knn_dist

    points, rng = blobs(20, images=200), np.random.default_rng(0)
    there, new = points[:120], np.vstack([points[120:], points[7:8]])
    drawn = rng.normal(scale=5, size=(120, 2)).astype(np.float32)
    near = nearest_references(there, new, k=neighbours)
    distance = neighbour_distances(there, near, new=new).astype(np.float32)
    sigma, rho = smooth_knn_dist(distance, float(neighbours), local_connectivity=0.0)
    row, column, weight, _ = compute_membership_strengths(
        near.astype(np.int32), distance, sigma, rho, bipartite=True
    )
    graph = coo_matrix((weight, (row, column)), shape=(len(new), 120)).tocsr()
    found = place_by_umap(new, there, drawn, neighbours=neighbours)
    if neighbours > 2:
        expected = init_graph_transform(graph, drawn)
        np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_array_equal(found[-1], drawn[7])
    assert np.isfinite(found).all()


def test_place_by_umap__puts_images_among_those_of_their_class() -> None:
    points = blobs(21, images=120)
    drawn = umap(points[:90], seed=0).coordinates
    placed = place_by_umap(points[90:], points[:90], drawn, neighbours=15)
    near = nearest_references(drawn, placed, k=5)
    assert (near % 3 == np.arange(90, 120)[:, None] % 3).all()
    alone = place_by_umap(points[95:96], points[:90], drawn, neighbours=15)
    np.testing.assert_allclose(alone[0], placed[5], rtol=1e-6)
    assert place_by_umap(points[:0], points[:90], drawn, neighbours=15).shape == (0, 2)
