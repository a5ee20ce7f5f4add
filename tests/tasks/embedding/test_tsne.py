"""t-SNE against openTSNE, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.embedding import tsne as module
from activarium.tasks.embedding.neighbour_scores import knn_purity
from activarium.tasks.embedding.neighbours import nearest_references
from activarium.tasks.embedding.tsne import largest_perplexity, place_by_tsne, tsne

from .map_points import CLASSES, blobs


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
    monkeypatch.setattr(module, "IMAGES_PER_THREAD", 1)
    monkeypatch.setattr(module, "INTERPOLATION_FROM", border)
    monkeypatch.setattr(module, "EXAGGERATED_STEPS", 15)
    monkeypatch.setattr(module, "PLAIN_STEPS", 15)
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


def test_place_by_tsne__puts_images_among_those_of_their_class() -> None:
    points = blobs(20, images=300)
    drawn = tsne(points[:210], perplexity=10, seed=0, threads=1).coordinates
    placed = place_by_tsne(points[210:], points[:210], drawn, threads=1)
    assert placed.dtype == np.float32
    near = nearest_references(drawn, placed, k=5)
    assert (near % 3 == np.arange(210, 300)[:, None] % 3).all()
    # The map itself does not move, wherever its middle is.
    moved = place_by_tsne(points[210:], points[:210], drawn + 100, threads=1)
    np.testing.assert_allclose(moved, placed + 100, atol=0.01)


@pytest.mark.parametrize("gradient", ["bh", "fft"])
def test_place_by_tsne__equals_open_tsne_s_transform(
    gradient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN

    monkeypatch.setattr(module, "INTERPOLATION_FROM", 0 if gradient == "fft" else 10_000)
    points = blobs(21, images=150)
    drawn = np.random.default_rng(0).normal(scale=20, size=(120, 2)).astype(np.float32)
    affinities = PerplexityBasedNN(points[:120], perplexity=20, method="exact")
    reference = TSNEEmbedding(drawn, affinities, negative_gradient_method=gradient)
    expected = reference.transform(points[120:]) + (drawn.max(0) + drawn.min(0)) / 2
    found = place_by_tsne(points[120:], points[:120], drawn, threads=1)
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("gradient", ["bh", "fft"])
def test_place_by_tsne__a_place_does_not_depend_on_the_other_images(
    gradient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERPOLATION_FROM", 0 if gradient == "fft" else 10_000)
    points = blobs(22, images=120)
    drawn = tsne(points[:90], perplexity=8, seed=0, threads=1).coordinates
    together = place_by_tsne(points[90:], points[:90], drawn, threads=1)
    alone = place_by_tsne(points[95:96], points[:90], drawn, threads=1)
    np.testing.assert_array_equal(alone[0], together[5])
    assert place_by_tsne(points[:0], points[:90], drawn, threads=1).shape == (0, 2)


def test_place_by_tsne__places_in_the_smallest_map() -> None:
    points = np.array([[0.0], [1.0], [5.0], [6.0]])
    placed = place_by_tsne(points, points, 10 * np.hstack([points, points]), threads=1)
    assert np.isfinite(placed).all()
