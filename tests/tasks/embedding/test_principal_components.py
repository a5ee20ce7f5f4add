"""Principal components against scikit-learn, by hand, and over blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from activarium.tasks.embedding.principal_components import (
    merged_products,
    pca,
    principal_components,
    row_products,
)
from activarium.tasks.statistics.layers.layer_rows import ArrayRows

from .map_points import blobs


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


@pytest.mark.parametrize("far", [0.0, 1e4])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_principal_components__over_blocks_equal_scikit_learn_s_full_svd(block, far) -> None:
    # A mean of 10,000 beside a standard deviation of 0.1 leaves float32 three digits of it.
    values = (0.1 * blobs(5, images=400, features=12) + far).astype(np.float32)
    halves = [row_products(ArrayRows(part, block=block)) for part in np.split(values, [123])]
    found = principal_components(merged_products(halves), dimensions=5)
    exact = values.astype(np.float64)
    reference = PCA(5, svd_solver="full").fit(exact)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(
        found.explained_variance_ratio, reference.explained_variance_ratio_, rtol=1e-9
    )
    sign = np.sign((found.components * reference.components_).sum(axis=1))
    np.testing.assert_allclose(
        found.project(values) * sign, reference.transform(exact), rtol=1e-4, atol=1e-6
    )


def test_row_products__worked_by_hand() -> None:
    rows = ArrayRows(np.array([[1.0, 0.0], [3.0, 4.0], [5.0, 2.0]], np.float32), block=2)
    count, mean, products = row_products(rows)
    assert count == 3
    np.testing.assert_array_equal(mean, [3.0, 2.0])
    np.testing.assert_allclose(products, [[8.0, 4.0], [4.0, 8.0]], rtol=1e-15)


def test_row_products__refuse_what_is_not_finite_and_nothing() -> None:
    values = np.ones((5, 3), np.float32)
    values[4, 1] = np.nan
    with pytest.raises(ValueError, match="finite features, got NaN"):
        row_products(ArrayRows(values))
    with pytest.raises(ValueError, match="at least one image, got none"):
        row_products(ArrayRows(values[:0]))


def test_principal_components__need_three_images() -> None:
    with pytest.raises(ValueError, match="at least 3 images, got 2"):
        principal_components(row_products(ArrayRows(np.eye(2, dtype=np.float32))), dimensions=1)
