"""Images beyond the sample, and whole recordings, placed in a map that is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import EmbedConfig
from activarium.schemas.errors import UserError
from activarium.tasks.embedding.embed import embed
from activarium.tasks.embedding.fitted_map import KeptMap, fit_map, keep_map, kept_map
from activarium.tasks.embedding.map_piece import Piece
from activarium.tasks.embedding.neighbour_scores import knn_purity
from activarium.tasks.features.spaces import Space
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.verify import verify

METHODS = ("pca", "tsne", "umap", "autoencoder")
CONFIG = EmbedConfig(
    features=("pooled",), layers=("fc:2",), methods=METHODS, threads=1, max_images=80
)


def frames(receipt, table):
    """Return {method: rows} of a table's files."""
    files = [file for file in receipt.files if file.parent.parent.name == table]
    tables = [read_table(file).to_pandas() for file in files]
    return {each.method[0]: each for each in tables}


def pooled(raw):
    """Features of the layer fc:2 of all valid images."""
    return raw.pooled[raw.valid][:, 20:].astype(np.float64)


def separated(raw):
    """The same recording with classes far apart."""
    centre = 9 * np.random.default_rng(5).normal(size=(8, raw.pooled.shape[1]))
    return replace(raw, pooled=(raw.pooled + centre[raw.label]).astype(np.float32))


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_raw, write_recording):
    """A recording of 122 images, its maps fitted to 80, and another placed in them."""
    atlas = Atlas(tmp_path_factory.mktemp("placed"))
    first, second = (separated(make_raw(images=122, seed=seed)) for seed in (0, 1))
    recording = write_recording(atlas, first, "first")
    receipt = embed(atlas, recording, config=CONFIG)
    other = write_recording(atlas, second, "second")
    into = CONFIG.model_copy(update={"into": recording.name})
    return atlas, (first, second), (receipt, embed(atlas, other, config=into)), (recording, other)


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_embed__images_beyond_the_sample_are_placed_among_their_class(made, method):
    _, (raw, _), (receipt, _), _ = made
    frame = frames(receipt, "embeddings")[method]
    assert frame.image_index.tolist() == np.flatnonzero(raw.valid).tolist()
    assert (~frame.is_placed).sum() == 80
    flat, label = frame[["x", "y"]].to_numpy(), raw.label[raw.valid]
    assert np.isfinite(flat).all()
    placed = np.flatnonzero(frame.is_placed)
    quality = frames(receipt, "embedding_quality")[method].iloc[0]
    assert knn_purity(flat, label, k=3, queries=placed) > 0.9
    assert quality.placed_knn_purity > 0.7
    expected = (80, len(placed), 80)
    assert (quality.images, quality.placed_images, quality.quality_images) == expected


def test_embed__pca_is_that_of_all_images_however_small_the_sample(made):
    _, (raw, _), (receipt, _), _ = made
    frame = frames(receipt, "embeddings")["pca"]
    assert not frame.is_placed.any()
    expected = PCA(2, svd_solver="full").fit_transform(pooled(raw))
    found = frame[["x", "y"]].to_numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-4)
    quality = frames(receipt, "embedding_quality")["pca"].iloc[0]
    assert (quality.images, quality.placed_images) == (len(frame), 0)


def test_embed_into__pca_is_the_projection_on_the_other_s_components(made):
    _, (first, second), (_, receipt), (recording, _) = made
    frame = frames(receipt, "embeddings")["pca"]
    reference = PCA(2, svd_solver="full").fit(pooled(first))
    expected = reference.transform(pooled(second))
    np.testing.assert_allclose(np.abs(frame[["x", "y"]]), np.abs(expected), rtol=1e-3, atol=1e-3)
    assert (frame["into"] == recording.name).all()


@pytest.mark.parametrize("method", METHODS)
def test_embed_into__every_image_is_placed_and_the_share_among_its_class_is_told(made, method):
    _, (_, second), (_, receipt), _ = made
    frame = frames(receipt, "embeddings")[method]
    assert frame.is_placed.all()
    assert len(frame) == second.valid.sum()
    quality = frames(receipt, "embedding_quality")[method].iloc[0]
    assert quality.placed_knn_purity > (0.7 if method in {"tsne", "umap"} else 0.25)
    assert quality.placed_images == len(frame)


def test_embed_into__leaves_its_own_maps_and_is_made_once(made):
    atlas, _, (receipt, placed), (recording, other) = made
    assert not set(receipt.files) & set(placed.files)
    own = embed(atlas, other, config=CONFIG)
    assert own.made
    assert not set(own.files) & set(placed.files)
    into = CONFIG.model_copy(update={"into": recording.name})
    assert not embed(atlas, other, config=into).made


def test_embed_into__a_map_that_is_made_anew_is_placed_in_anew(atlas, make_raw, write_recording):
    one = write_recording(atlas, make_raw(), "one")
    two = write_recording(atlas, make_raw(seed=1), "two")
    config = CONFIG.model_copy(update={"methods": ("pca",)})
    into = config.model_copy(update={"into": one.name})
    embed(atlas, one, config=config)
    assert embed(atlas, two, config=into).made
    embed(atlas, one, config=config.model_copy(update={"dimensions": 3}))
    again = embed(atlas, two, config=into)
    assert again.made
    assert not read_table(again.files[0]).column("z").null_count


def test_embed_into__other_features_are_refused_in_one_line(atlas, make_raw, write_recording):
    raw = make_raw()
    one = write_recording(atlas, raw, "one")
    two = write_recording(atlas, replace(raw, pooled=raw.pooled[:, :30]), "two")
    config = CONFIG.model_copy(update={"methods": ("pca",)})
    into = config.model_copy(update={"into": one.name})
    with pytest.raises(UserError, match="one has no pca map of pooled features of fc:2") as caught:
        embed(atlas, two, config=into)
    assert "activarium embed one --features pooled --method pca --layer 'fc:2'" in str(caught.value)
    embed(atlas, one, config=config)
    with pytest.raises(UserError, match="have 15 features, those of the map 20") as caught:
        embed(atlas, two, config=into)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="expected another recording than one"):
        embed(atlas, one, config=into)


@pytest.mark.parametrize("method", METHODS)
def test_kept_map__places_as_the_map_did(method, tmp_path):
    points = np.random.default_rng(0).normal(size=(60, 6))
    fitted = fit_map(points[:40], method, EmbedConfig(perplexity=5, dimensions=3), threads=1)
    kept = KeptMap(fitted, 40, np.array(["a", ""] * 20), "inputs")
    path = tmp_path / "map.npz"
    keep_map(path, kept)
    found = kept_map(path)
    expected = fitted.place(points[40:], threads=1)
    np.testing.assert_array_equal(found.fitted.place(points[40:], threads=1), expected)
    np.testing.assert_array_equal(found.fitted.coordinates, fitted.coordinates)
    assert found.fitted.parameters == fitted.parameters
    assert (found.images, found.inputs, found.classes[1]) == (40, "inputs", "")


def test_fit_map__linear_autoencoder_is_pca():
    points = np.random.default_rng(0).normal(size=(60, 6)) * np.arange(1, 7)
    linear, exact = (
        fit_map(points, each, EmbedConfig(), threads=1) for each in ("autoencoder", "pca")
    )
    np.testing.assert_allclose(linear.coordinates, exact.coordinates, atol=1e-2)
    assert linear.explained_variance == pytest.approx(exact.explained_variance, abs=1e-6)


def test_fit_map__autoencoder_of_fewer_features_than_dimensions_leaves_the_rest_flat():
    points = np.random.default_rng(0).normal(size=(20, 1))
    config = EmbedConfig(dimensions=3)
    fitted = fit_map(points, "autoencoder", config, threads=1)
    assert fitted.coordinates.shape == fitted.place(points, threads=1).shape == (20, 3)
    assert not fitted.coordinates[:, 1:].any()


def test_kept_map__all_alike_places_all_on_one_point(tmp_path):
    fitted = fit_map(np.ones((30, 4)), "tsne", EmbedConfig(), threads=1)
    path = tmp_path / "map.npz"
    keep_map(path, KeptMap(fitted, 30, np.full(30, ""), ""))
    found = kept_map(path).fitted
    assert not found.place(np.eye(4), threads=1).any()


def test_kept_map__damaged_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "map.npz"
    path.write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(UserError, match=r"map.npz is damaged .*run what made it again") as caught:
        kept_map(path)
    assert "\n" not in str(caught.value)


def test_piece__map_whose_file_is_gone_is_not_current(made):
    atlas, _, (receipt, _), (recording, _) = made
    inputs = read_table(receipt.files[0]).schema.metadata[b"activarium.inputs"].decode()
    space = Space("pooled", "fc:2")
    piece = Piece(recording.place, atlas.root, space, "pca", CONFIG, inputs)
    assert piece.is_current()
    held = piece.map_file().read_bytes()
    piece.map_file().unlink()
    assert not piece.is_current()
    piece.map_file().write_bytes(held)
    assert piece.is_current()


def test_verify__finds_maps_that_are_damaged_or_gone(made):
    atlas, _, _, (recording, _) = made
    (path,) = atlas.map_file(recording.name, "x").parent.glob("pca-*.npz")
    held, shown = path.read_bytes(), str(path.relative_to(atlas.root))
    assert not verify(atlas, [recording.name]).faults
    path.write_bytes(held[:200] + bytes([held[200] ^ 1]) + held[201:])
    (fault,) = verify(atlas, [recording.name]).faults
    assert (fault.object, fault.problem) == (shown, "the content differs from its sha256")
    path.unlink()
    (fault,) = verify(atlas, [recording.name]).faults
    assert (fault.object, fault.problem) == (shown, "missing")
    path.write_bytes(held)
