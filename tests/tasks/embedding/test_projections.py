"""What all maps refuse."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.embedding.principal_components import pca
from activarium.tasks.embedding.tsne import tsne
from activarium.tasks.embedding.umap import umap

from .map_points import blobs


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
