"""Neighbour measures against scikit-learn, by hand, and under changes that must not matter."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.neighbors import NearestNeighbors

from activarium.tasks.embedding.neighbour_scores import knn_purity, trustworthiness
from activarium.tasks.embedding.neighbours import (
    nearest_neighbours,
    nearest_references,
    neighbour_distances,
    sample_queries,
)


def blobs(seed: int, *, images: int = 120, features: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centre = 3 * rng.normal(size=(4, features))
    return centre[rng.integers(0, 4, images)] + rng.normal(size=(images, features))


def sorted_by_hand(points: np.ndarray, k: int) -> np.ndarray:
    """Order all other images by (distance, index), with nothing shared with the kernel."""
    rows = []
    for i, point in enumerate(points):
        distance = ((points - point) ** 2).sum(axis=1)
        others = [j for j in range(len(points)) if j != i]
        rows.append(sorted(others, key=lambda j: (distance[j], j))[:k])
    return np.array(rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 7, 119])
def test_nearest_neighbours__equal_scikit_learn(dtype: type, k: int) -> None:
    points = blobs(1).astype(dtype)
    centred = points.astype(np.float64) - points.astype(np.float64).mean(axis=0)
    reference = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(centred)
    distance, index = reference.kneighbors()
    found = nearest_neighbours(points, k=k)
    np.testing.assert_array_equal(found, index)
    np.testing.assert_allclose(
        neighbour_distances(points, found, block=50), distance, rtol=1e-7, atol=1e-9
    )


def test_nearest_neighbours__on_a_line_worked_by_hand() -> None:
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    expected = [[1, 2], [0, 2], [1, 0], [2, 1]]
    np.testing.assert_array_equal(nearest_neighbours(points, k=2), expected)


def test_nearest_neighbours__ties_go_to_the_lower_index() -> None:
    grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(7.0)), axis=-1).reshape(-1, 2)
    np.testing.assert_array_equal(nearest_neighbours(grid, k=9), sorted_by_hand(grid, 9))


def test_nearest_neighbours__duplicates_go_to_the_lower_index() -> None:
    points = np.repeat(blobs(2, images=3), 40, axis=0)
    found = nearest_neighbours(points, k=5)
    np.testing.assert_array_equal(found[0], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(found[45], [40, 41, 42, 43, 44])
    np.testing.assert_array_equal(found, sorted_by_hand(points, 5))


def test_nearest_neighbours__identical_images_are_each_others_neighbours() -> None:
    np.testing.assert_array_equal(
        nearest_neighbours(np.ones((3, 2)), k=2), [[1, 2], [0, 2], [0, 1]]
    )


def test_nearest_neighbours__survive_a_far_mean() -> None:
    points = blobs(3)
    np.testing.assert_array_equal(nearest_neighbours(points + 1e7, k=5), sorted_by_hand(points, 5))


@pytest.mark.parametrize("outlier", [1e6, 1e12, 1e30])
def test_nearest_neighbours__survive_an_outlier(outlier: float) -> None:
    points = blobs(4, images=60)
    points[17] = outlier
    np.testing.assert_array_equal(nearest_neighbours(points, k=5), sorted_by_hand(points, 5))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(2, 60),
    block=st.integers(1, 70),
    data=st.data(),
)
def test_nearest_neighbours__do_not_depend_on_the_block(
    seed: int, images: int, block: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (images, 2)).astype(np.float64)
    k = data.draw(st.integers(1, images - 1))
    found = nearest_neighbours(points, k=k, block=block)
    np.testing.assert_array_equal(found, sorted_by_hand(points, k))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_measures__do_not_depend_on_rotation(seed: int) -> None:
    points = blobs(seed, images=60)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0]
    label = np.arange(60) % 3
    turned = points @ rotation
    assert knn_purity(turned, label, k=5) == knn_purity(points, label, k=5)
    assert trustworthiness(turned, turned[:, :2]) == trustworthiness(points, turned[:, :2])


def test_nearest_neighbours__queries_are_rows_of_the_whole() -> None:
    points = blobs(5)
    queries = np.array([90, 3, 3])
    np.testing.assert_array_equal(
        nearest_neighbours(points, k=4, queries=queries, block=2),
        nearest_neighbours(points, k=4)[queries],
    )


def test_measures__never_hold_all_distances() -> None:
    points = blobs(14, images=2_000)
    label = np.arange(2_000) % 4
    tracemalloc.start()
    try:
        nearest_neighbours(points, k=10, block=16)
        trustworthiness(points, points[:, :2], block=16)
        knn_purity(points, label, queries=np.arange(16))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000 * 2_000 * 4 / 8


@pytest.mark.parametrize("k", [0, 3])
def test_nearest_neighbours__refuse_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match="expected k from 1 to 2 for 3 images"):
        nearest_neighbours(np.eye(3), k=k)


def test_nearest_neighbours__refuse_what_is_no_finite_matrix() -> None:
    with pytest.raises(ValueError, match="images x features"):
        nearest_neighbours(np.ones(3), k=1)
    with pytest.raises(ValueError, match="in image 1"):
        nearest_neighbours(np.array([[0.0], [np.nan], [1.0]]), k=1)
    with pytest.raises(ValueError, match="indices from 0 to 2"):
        nearest_neighbours(np.eye(3), k=1, queries=np.array([3]))
    with pytest.raises(ValueError, match="block of at least 1"):
        nearest_neighbours(np.eye(3), k=1, block=0)
    with pytest.raises(ValueError, match="neighbours of 3 images"):
        neighbour_distances(np.eye(3), np.zeros((2, 1), dtype=np.int64))


def test_knn_purity__one_class_is_one() -> None:
    assert knn_purity(blobs(6), np.zeros(120, dtype=np.int64)) == 1.0


def test_knn_purity__worked_by_hand() -> None:
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    # Neighbours 1 2 | 0 2 | 1 0 | 2 1, of labels a b | a b | a a | b a.
    assert knn_purity(points, np.array([0, 0, 1, 1]), k=2) == pytest.approx(3 / 8)


def test_knn_purity__shuffled_labels_are_at_chance() -> None:
    label = np.random.default_rng(7).permutation(np.arange(600) % 3)
    assert knn_purity(blobs(7, images=600), label) == pytest.approx(1 / 3, abs=0.04)


def test_knn_purity__two_images() -> None:
    points = np.array([[0.0], [1.0]])
    assert knn_purity(points, np.array([4, 4])) == 1.0
    assert knn_purity(points, np.array([4, 5])) == 0.0


def test_knn_purity__too_few_labelled_images_is_nan() -> None:
    assert np.isnan(knn_purity(np.ones((1, 2)), np.array([0])))
    assert np.isnan(knn_purity(np.ones((3, 2)), np.array([0, -1, -1])))
    assert np.isnan(knn_purity(np.ones((3, 2)), np.array([0, 0, -1]), queries=np.array([2])))


def test_knn_purity__unlabelled_images_count_on_neither_side() -> None:
    points = blobs(8)
    label = np.random.default_rng(8).integers(-1, 3, 120)
    kept = label >= 0
    assert knn_purity(points, label) == knn_purity(points[kept], label[kept])
    queries = np.flatnonzero(kept)[:9]
    place = np.arange(9)
    assert knn_purity(points, label, queries=np.append(queries, np.flatnonzero(~kept))) == (
        knn_purity(points[kept], label[kept], queries=place)
    )


def test_knn_purity__constant_features_do_not_matter() -> None:
    points = blobs(9)
    label = np.arange(120) % 2
    wider = np.hstack([points, np.full((120, 3), 5.0)])
    assert knn_purity(wider, label) == knn_purity(points, label)


def test_knn_purity__refuses_labels_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="one label for each of 3 images"):
        knn_purity(np.eye(3), np.array([0, 1]))
    with pytest.raises(ValueError, match="k of at least 1"):
        knn_purity(np.eye(3), np.array([0, 1, 1]), k=0)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 300), most=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_sample_queries__are_sorted_distinct_and_repeatable(n: int, most: int, seed: int) -> None:
    drawn = sample_queries(n, most=most, seed=seed)
    assert len(drawn) == min(n, most)
    assert np.all(np.diff(drawn) > 0)
    assert not len(drawn) or 0 <= drawn[0] <= drawn[-1] < n
    np.testing.assert_array_equal(drawn, sample_queries(n, most=most, seed=seed))


def test_sample_queries__refuse_an_empty_sample() -> None:
    with pytest.raises(ValueError, match="most=0"):
        sample_queries(5, most=0, seed=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(9, 80), block=st.integers(1, 90))
def test_trustworthiness__equals_scikit_learn(seed: int, images: int, block: int) -> None:
    points = blobs(seed, images=images)
    embedding = np.random.default_rng(seed).normal(size=(images, 2)) + points[:, :2]
    for k in (1, (images - 1) // 2):
        expected = sklearn_trustworthiness(points, embedding, n_neighbors=k)
        found = trustworthiness(points, embedding, k=k, block=block)
        assert found == pytest.approx(expected, abs=1e-12)


def test_trustworthiness__of_the_space_itself_is_one() -> None:
    points = blobs(10)
    assert trustworthiness(points, points) == 1.0


def test_trustworthiness__worked_by_hand() -> None:
    # On the map each image's nearest is, in order, 2 3 0 1 0; in the space it ranks
    # 2 3 2 2 4, so the excess over 1 is 1 + 2 + 1 + 1 + 3 = 8: 1 - 8 * 2 / (5 * 6).
    points = np.array([[0.0], [1.0], [2.1], [4.5], [9.0]])
    embedding = np.array([[0.0], [10.0], [4.0], [15.0], [-20.0]])
    assert trustworthiness(points, embedding, k=1) == pytest.approx(1 - 16 / 30)


def test_trustworthiness__queries_average_to_the_whole() -> None:
    points = blobs(11)
    embedding = points[:, :2].astype(np.float32)
    halves = [
        trustworthiness(points, embedding, queries=np.arange(part, 120, 2)) for part in (0, 1)
    ]
    assert np.mean(halves) == pytest.approx(trustworthiness(points, embedding), abs=1e-12)


def test_trustworthiness__duplicates_in_both_spaces_are_true_neighbours() -> None:
    points = np.repeat(blobs(12, images=4), 30, axis=0)
    assert trustworthiness(points, points[:, :2]) == 1.0


def test_trustworthiness__refuses_what_does_not_fit() -> None:
    points = blobs(13, images=10)
    with pytest.raises(ValueError, match="k from 1 to 4 for 10 images"):
        trustworthiness(points, points, k=5)
    with pytest.raises(ValueError, match="a map of 10 images"):
        trustworthiness(points, points[:9], k=2)
    with pytest.raises(ValueError, match="at least one query"):
        trustworthiness(points, points, k=2, queries=np.array([], dtype=np.int64))


@pytest.mark.parametrize("far", [0.0, 1e8])
@pytest.mark.parametrize("k", [1, 7, 120])
def test_nearest_references__equal_scikit_learn(k: int, far: float) -> None:
    points, new = blobs(20) + far, blobs(21, images=50) + far
    found = nearest_references(points, new, k=k, block=13)
    reference = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points - far)
    distance, expected = reference.kneighbors(new - far)
    if not far:
        np.testing.assert_array_equal(found, expected)
    measured = neighbour_distances(points, found, new=new)
    np.testing.assert_allclose(measured, distance, rtol=1e-9, atol=1e-7)


def test_nearest_references__an_image_itself_comes_first() -> None:
    points = blobs(22)
    found = nearest_references(points, points[5:9], k=3)
    assert found[:, 0].tolist() == [5, 6, 7, 8]
    np.testing.assert_array_equal(
        found[:, 1:], nearest_neighbours(points, k=2, queries=np.arange(5, 9))
    )


def test_nearest_references__equal_distances_go_by_index() -> None:
    points = np.repeat(np.eye(3), 20, axis=0)
    found = nearest_references(points, np.eye(3)[[2]] + 1e-9, k=25)
    assert found[0].tolist() == [*range(40, 60), 0, 1, 2, 3, 4]


def test_nearest_references__refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="6 features as the images, got 5"):
        nearest_references(blobs(23), np.ones((2, 5)), k=3)
    with pytest.raises(ValueError, match="k from 1 to 120"):
        nearest_references(blobs(23), np.ones((2, 6)), k=121)
