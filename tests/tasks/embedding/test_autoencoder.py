"""The autoencoder against PCA, its encoder against its map, and the rest of torch untouched."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from activarium.tasks.embedding.autoencoder import autoencoder, encode
from activarium.tasks.embedding.principal_components import pca


def spread(seed: int, *, images: int = 120, features: int = 12, fall: float = 0.5) -> np.ndarray:
    """Images whose principal axes lie anywhere, with variances that fall, far from 0."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(features, features)))[0]
    length = np.arange(1, features + 1) ** -fall
    return 30.0 * (rng.normal(size=(images, features)) * length) @ axes + 500.0


def arc(images: int = 300) -> np.ndarray:
    """Images along a bent line, which no straight one comes near."""
    angle = np.random.default_rng(3).uniform(0.0, 5.0, images)
    return np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle)], axis=1)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("images", "features", "fall"),
    [(120, 12, 0.5), (120, 12, 3.0), (40, 90, 0.5), (30, 30, 0.2)],
    ids=["gentle", "steep", "wide", "square"],
)
def test_autoencoder__linear_one_is_pca(
    images: int, features: int, fall: float, dimensions: int
) -> None:
    points = spread(1, images=images, features=features, fall=fall)
    found = autoencoder(points, dimensions=dimensions, seed=4)
    reference = PCA(dimensions, svd_solver="full").fit(points)
    expected = reference.transform(points)
    sign = np.sign((expected * found.coordinates).sum(axis=0))
    error = np.abs(found.coordinates * sign - expected) / expected.std(axis=0)
    assert error.max() < 1e-4
    turn = found.encoder["weight0"] @ reference.components_.T
    np.testing.assert_allclose(np.linalg.svd(turn)[1], 1.0, atol=1e-8)
    restored = reference.inverse_transform(expected)
    assert found.objective == pytest.approx(np.mean((points - restored) ** 2), rel=1e-8)
    share = reference.explained_variance_ratio_.sum()
    assert found.explained_variance == pytest.approx(share, abs=1e-10)
    # The signs too are those of the house.
    np.testing.assert_allclose(
        found.coordinates, pca(points, dimensions=dimensions).coordinates, atol=0.01
    )


def test_autoencoder__linear_one_places_new_images_as_pca_does() -> None:
    points = spread(2, images=60, features=80)
    found = autoencoder(points[:40], dimensions=3, seed=0)
    reference = PCA(3, svd_solver="full").fit(points[:40])
    expected = reference.transform(points[40:])
    placed = encode(found.encoder, points[40:])
    sign = np.sign((expected * placed).sum(axis=0))
    np.testing.assert_allclose(placed * sign, expected, atol=1e-3 * expected.std())


def test_autoencoder__linear_one_starts_at_random_and_descends() -> None:
    points = spread(5, fall=0.1)
    begun = autoencoder(points, dimensions=2, seed=0, steps=2)
    ended = autoencoder(points, dimensions=2, seed=0)
    other = autoencoder(points, dimensions=2, seed=1, steps=2)
    assert begun.objective > 1.01 * ended.objective
    assert begun.objective != pytest.approx(other.objective, rel=1e-4)
    again = autoencoder(points, dimensions=2, seed=1)
    np.testing.assert_allclose(
        again.coordinates, ended.coordinates, atol=1e-3 * ended.coordinates.std()
    )


def test_autoencoder__axes_without_variance_stay_at_zero() -> None:
    points = np.arange(10.0)[:, None] * np.array([3.0, 0.0, -4.0])
    found = autoencoder(points, dimensions=2, seed=0)
    np.testing.assert_allclose(
        np.abs(found.coordinates[:, 0]), 5.0 * np.abs(np.arange(10) - 4.5), rtol=1e-6
    )
    assert not found.coordinates[:, 1].any()
    assert not encode(found.encoder, np.ones((2, 3)))[:, 1].any()
    assert found.explained_variance == pytest.approx(1.0, abs=1e-12)


def test_autoencoder__more_dimensions_than_features_restore_all() -> None:
    found = autoencoder(spread(6, features=3), dimensions=5, seed=0)
    assert found.coordinates.shape == (120, 3)
    assert found.explained_variance == pytest.approx(1.0, abs=1e-9)


def test_autoencoder__hidden_layers_follow_what_is_bent() -> None:
    points = arc()
    straight = autoencoder(points, dimensions=1, seed=0)
    bent = autoencoder(points, dimensions=1, hidden=(32,), seed=0, steps=800)
    assert bent.objective < 0.3 * straight.objective
    total = points.var(axis=0).mean()
    assert bent.explained_variance == pytest.approx(1 - bent.objective / total, abs=1e-12)


def test_autoencoder__bottleneck_is_centred_on_its_principal_axes() -> None:
    found = autoencoder(arc(), dimensions=2, hidden=(16, 8), seed=1, steps=80)
    covariance = np.cov(found.coordinates.T.astype(np.float64))
    np.testing.assert_allclose(found.coordinates.mean(axis=0), 0.0, atol=1e-5)
    assert abs(covariance[0, 1]) < 1e-5 * covariance[0, 0]
    assert covariance[0, 0] >= covariance[1, 1]
    last = found.encoder["weight2"]
    assert (last.max(axis=1) == np.abs(last).max(axis=1)).all()


def test_autoencoder__error_is_that_of_the_network_that_was_kept() -> None:
    # With as many dimensions as features and time to learn it, nearly all is restored: the
    # bottleneck, by least squares, must hold what the reported share says.
    points = spread(7, features=3)
    found = autoencoder(points, dimensions=3, hidden=(32,), seed=0, steps=600)
    assert found.explained_variance > 0.97
    code = np.column_stack([found.coordinates, np.ones(len(points))])
    rest = points - code @ np.linalg.lstsq(code, points, rcond=None)[0]
    assert (rest**2).sum() < 0.1 * ((points - points.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_autoencoder__encoder_places_its_own_images_where_they_are(hidden: tuple) -> None:
    points = spread(8)
    found = autoencoder(points, dimensions=2, hidden=hidden, seed=0, steps=80)
    np.testing.assert_array_equal(encode(found.encoder, points), found.coordinates)
    kept = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
    np.testing.assert_array_equal(encode(kept.encoder, points), found.coordinates)
    # Another number of rows is another matrix product, equal down to rounding.
    np.testing.assert_allclose(
        encode(found.encoder, points[7:9]), found.coordinates[7:9], rtol=1e-5, atol=1e-5
    )
    assert encode(found.encoder, points[:0]).shape == (0, 2)


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_autoencoder__same_seed_same_map_bit_for_bit(hidden: tuple) -> None:
    points = spread(9)
    first, second = (autoencoder(points, hidden=hidden, seed=3, steps=80) for _ in range(2))
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    assert first.objective == second.objective
    other = autoencoder(points, hidden=hidden, seed=4, steps=80)
    assert (other.coordinates != first.coordinates).any()


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_autoencoder__units_of_the_features_only_scale_the_map(hidden: tuple) -> None:
    points = spread(10)
    plain = autoencoder(points, hidden=hidden, seed=0, steps=80)
    # A power of two, so that rounding stays the same.
    scaled = autoencoder(1024 * points, hidden=hidden, seed=0, steps=80)
    np.testing.assert_allclose(scaled.coordinates, 1024 * plain.coordinates, rtol=1e-6)
    assert scaled.objective == pytest.approx(1024**2 * plain.objective)
    assert scaled.explained_variance == pytest.approx(plain.explained_variance)


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_autoencoder__leaves_torch_as_it_was(hidden: tuple) -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    autoencoder(spread(11), hidden=hidden, seed=0, steps=80)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_autoencoder__tells_its_progress_and_keeps_to_its_steps(hidden: tuple) -> None:
    told: list[tuple[int, float]] = []
    found = autoencoder(
        spread(12, fall=0.1),
        hidden=hidden,
        seed=0,
        steps=80,
        callback=lambda step, error: told.append((step, error)),
    )
    assert told
    assert [step for step, _ in told] == sorted({step for step, _ in told})
    assert told[-1][0] == found.steps
    assert told[-1][1] == pytest.approx(1 - found.explained_variance, abs=0.1)
    assert all(0.0 <= error < 1.5 for _, error in told)
    # L-BFGS may look once more where a round ends.
    assert found.steps <= 80 + 3 * len(told)


def test_autoencoder__training_ends_at_the_plateau() -> None:
    found = autoencoder(arc(100), dimensions=1, hidden=(8,), seed=0, steps=100_000)
    assert found.steps < 20_000
    assert found.parameters["most_steps"] == 100_000


def test_autoencoder__refuses_what_it_cannot_map() -> None:
    with pytest.raises(ValueError, match="expected images that differ, got 9 times"):
        autoencoder(np.ones((9, 4)), seed=0)
    with pytest.raises(ValueError, match="infinity in image 2"):
        autoencoder(np.array([[0.0], [1.0], [np.nan]]), seed=0)
    with pytest.raises(ValueError, match="images at least 3, got shape"):
        autoencoder(np.eye(2), seed=0)
    with pytest.raises(ValueError, match="dimensions=0"):
        autoencoder(np.eye(4), dimensions=0, seed=0)
    with pytest.raises(ValueError, match=r"widths and steps of at least 1, got .*hidden=\(4, 0\)"):
        autoencoder(np.eye(4), hidden=(4, 0), seed=0)
    found = autoencoder(np.eye(4), seed=0)
    with pytest.raises(ValueError, match="expected 4 features, got shape"):
        encode(found.encoder, np.eye(3))
