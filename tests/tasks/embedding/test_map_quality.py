"""Qualities of maps against scikit-learn, scipy, by hand, and under changes that must not matter."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness as sklearn_trustworthiness

from activarium.tasks.embedding.map_quality import (
    continuity,
    normalised_stress,
    shepard_correlation,
)


def spaces(seed: int, *, images: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Return points far from 0 and a map that tells a part of them."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(images, 6))
    flat = points[:, :2] ** 3 + 0.3 * rng.normal(size=(images, 2))
    return points + 100.0, flat - 7.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(7, 60), block=st.integers(1, 70))
def test_continuity__is_trustworthiness_with_spaces_exchanged(
    seed: int, images: int, block: int
) -> None:
    points, flat = spaces(seed, images=images)
    for k in (1, 3):
        expected = sklearn_trustworthiness(flat, points, n_neighbors=k)
        assert continuity(points, flat, k=k, block=block) == pytest.approx(expected, abs=1e-12)


def test_continuity__worked_by_hand() -> None:
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    torn = np.array([[0.0], [5.0], [1.0], [2.5]])
    # Nearest in the source: 0-1, 1-0, 2-1, 3-2. On the map 1 is the last of three from 0 and from
    # 2, 0 the last from 1, and 2 the nearest of 3: ranks 3, 3, 3, 1 cost 2 each but the last.
    assert continuity(points, torn, k=1) == pytest.approx(1 - 6 * 2 / (4 * 1 * (8 - 3 - 1)))


def test_continuity__torn_maps_and_merged_maps_differ() -> None:
    ring = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    circle = np.stack([np.cos(ring), np.sin(ring)], axis=1)
    line = ring[:, None]
    # Cutting the circle tears neighbours apart; flattening it lays strangers together.
    assert continuity(circle, line, k=5) < 0.99
    assert continuity(line, circle, k=5) > 0.999
    assert continuity(circle, np.zeros((100, 2)), k=5) == pytest.approx(1.0)


def test_continuity__queries_are_averaged() -> None:
    points, flat = spaces(1)
    halves = [continuity(points, flat, queries=np.arange(s, 80, 2)) for s in (0, 1)]
    assert np.mean(halves) == pytest.approx(continuity(points, flat))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(2, 40), block=st.integers(1, 50))
def test_normalised_stress__is_the_least_of_all_scales(seed: int, images: int, block: int) -> None:
    points, flat = spaces(seed, images=images)
    source, drawn = pdist(points), pdist(flat)
    best = minimize_scalar(
        lambda scale: ((drawn - scale * source) ** 2).sum() / (drawn**2).sum(),
        options={"xtol": 1e-12},
    )
    found = normalised_stress(points, flat, block=block)
    assert found**2 == pytest.approx(max(best.fun, 0.0), abs=1e-11)


def test_normalised_stress__worked_by_hand() -> None:
    # Source distances 1, 1, 2; on the map 1, 2, 1: products 5, squares 6 and 6.
    points = np.array([[0.0], [1.0], [2.0]])
    flat = np.array([[0.0], [1.0], [-1.0]])
    assert normalised_stress(points, flat) == pytest.approx(np.sqrt(1 - 25 / 36))


def test_normalised_stress__neither_units_nor_turns_matter() -> None:
    points, flat = spaces(2)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    expected = normalised_stress(points, flat)
    assert normalised_stress(points * 1e200, 1e-200 * flat @ turn + 5) == pytest.approx(1.0)
    assert normalised_stress(points * 1e200, 1e-200 * (flat @ turn)) == pytest.approx(expected)
    assert normalised_stress(flat, points) == pytest.approx(expected)
    assert normalised_stress(flat, 3 * flat @ turn - 1) == pytest.approx(0.0, abs=1e-6)


def test_normalised_stress__queries_take_part_with_all_others() -> None:
    points, flat = spaces(3, images=20)
    query, other = np.array([4, 11]), np.arange(20)
    source, drawn = (
        np.array([np.linalg.norm(each[i] - each[j]) for i in query for j in other if i != j])
        for each in (points, flat)
    )
    cosine = source @ drawn / np.sqrt(source @ source * (drawn @ drawn))
    assert normalised_stress(points, flat, queries=query) == pytest.approx(np.sqrt(1 - cosine**2))


def test_normalised_stress__of_images_that_coincide() -> None:
    points, _ = spaces(4, images=9)
    together = np.full((9, 2), 0.1)
    assert normalised_stress(points, together) == 1.0
    assert normalised_stress(together, points) == 1.0
    assert np.isnan(normalised_stress(together, together))


def test_normalised_stress__never_holds_all_distances() -> None:
    points, flat = spaces(5, images=4_000)
    tracemalloc.start()
    normalised_stress(points, flat, block=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000 * 4_000 * 8 / 5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(3, 60))
def test_shepard_correlation__over_all_pairs_is_spearmans(seed: int, images: int) -> None:
    points, flat = spaces(seed, images=images)
    expected = spearmanr(pdist(points), pdist(flat)).statistic
    assert shepard_correlation(points, flat, seed=0) == pytest.approx(expected, abs=1e-12)


def test_shepard_correlation__ties_share_their_rank() -> None:
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    flat = np.random.default_rng(0).integers(0, 4, size=(36, 2)).astype(float)
    expected = spearmanr(pdist(grid), pdist(flat)).statistic
    assert shepard_correlation(grid, flat, seed=0) == pytest.approx(expected, abs=1e-12)


def test_shepard_correlation__only_the_order_matters() -> None:
    line = np.array([[0.0], [1.0], [3.0], [7.0], [15.0]])
    # All ten distances differ, and come in the same order on the map.
    flat = 1e150 * line
    assert shepard_correlation(line, flat, seed=0) == pytest.approx(1.0)
    corner = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    turned = np.array([[0.0], [5.0], [1.0]])
    # Source 3, 4, 5; map 5, 1, 4: ranks 1 2 3 and 3 1 2, so 1 - 6 (4 + 1 + 1) / 24.
    assert shepard_correlation(corner, turned, seed=0) == pytest.approx(-0.5)


def test_shepard_correlation__sample_of_pairs_stands_for_all() -> None:
    points, flat = spaces(6, images=400)
    every = shepard_correlation(points, flat, seed=0)
    drawn = shepard_correlation(points, flat, seed=1, pairs=20_000)
    assert drawn == shepard_correlation(points, flat, seed=1, pairs=20_000)
    assert drawn != shepard_correlation(points, flat, seed=2, pairs=20_000)
    # The standard error of a correlation of 20,000 pairs is below 0.008.
    assert drawn == pytest.approx(every, abs=0.04)


def test_shepard_correlation__every_pair_is_drawn_once() -> None:
    points, flat = spaces(7, images=50)
    every = shepard_correlation(points, flat, seed=0, pairs=50 * 49 // 2)
    assert every == pytest.approx(spearmanr(pdist(points), pdist(flat)).statistic, abs=1e-12)
    # One pair short of all can move a rank correlation by no more than its share.
    short = shepard_correlation(points, flat, seed=0, pairs=50 * 49 // 2 - 1)
    assert short == pytest.approx(every, abs=0.01)
    assert short != every


def test_shepard_correlation__of_a_single_distance_is_undefined() -> None:
    points, _ = spaces(8, images=9)
    assert np.isnan(shepard_correlation(points, np.full((9, 2), 0.1), seed=0))
    assert np.isnan(shepard_correlation(points[:2], points[:2], seed=0))


def test_qualities__refuse_what_they_cannot_measure() -> None:
    points, flat = spaces(9)
    for measure in (continuity, normalised_stress):
        with pytest.raises(ValueError, match="expected a map of 80 images"):
            measure(points, flat[1:])
        with pytest.raises(ValueError, match="infinity in image 3"):
            measure(np.where(np.arange(80)[:, None] == 3, np.nan, points), flat)
        with pytest.raises(ValueError, match="at least one"):
            measure(points, flat, queries=np.empty(0, np.int64))
        with pytest.raises(ValueError, match="from 0 to 79"):
            measure(points, flat, queries=np.array([80]))
        with pytest.raises(ValueError, match="block of at least 1"):
            measure(points, flat, block=0)
    with pytest.raises(ValueError, match="expected a map of 80 images"):
        shepard_correlation(points, flat[1:], seed=0)
    with pytest.raises(ValueError, match="at least 1 pair"):
        shepard_correlation(points, flat, seed=0, pairs=0)
    with pytest.raises(ValueError, match="k from 1 to 39"):
        continuity(points, flat, k=40)
