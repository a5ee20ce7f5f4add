"""Maps of a small recording: all methods, their quality, and what is not repeated."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import EmbedConfig
from activarium.schemas.errors import UserError
from activarium.tasks.embedding.embed import choose_sources, embed, make_map, read_source
from activarium.tasks.stores.parquet_files import read_table

CONFIG = EmbedConfig(layers=("fc:2",), threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_raw, write_recording):
    """Return an atlas with all maps of the pixels and of one layer, and the receipt."""
    atlas = Atlas(tmp_path_factory.mktemp("embedded"))
    recording = write_recording(atlas, make_raw(images=62))
    return atlas, recording, embed(atlas, recording, config=CONFIG)


def rows(receipt, table):
    """Return {(layer, method): rows} of a table's files."""
    files = [file for file in receipt.files if file.parent.parent.name == table]
    tables = [read_table(file).to_pandas() for file in files]
    return {(each.layer[0], each.method[0]): each for each in tables}


def test_embed__makes_each_map_once(made):
    _, _, receipt = made
    assert receipt.made
    expected = {
        (layer, method) for layer in ("pixels", "fc:2") for method in ("pca", "tsne", "umap")
    }
    assert set(rows(receipt, "embeddings")) == set(rows(receipt, "embedding_quality")) == expected


def test_embed__places_every_valid_image(made):
    _, recording, receipt = made
    for key, frame in rows(receipt, "embeddings").items():
        assert frame.image_index.tolist() == np.flatnonzero(recording.valid).tolist(), key
        assert frame.image[0] == "set/0000.png"
        assert np.isfinite(frame[["x", "y"]]).all(axis=None)
        assert frame.z.isna().all()


def test_embed__pca_equals_scikit_learn(made):
    _, recording, receipt = made
    points = recording.read("pooled")[recording.valid][:, 20:]
    reference = PCA(2, svd_solver="full").fit(points)
    expected = reference.transform(points)
    frame = rows(receipt, "embeddings")["fc:2", "pca"]
    for axis, name in enumerate(("x", "y")):
        np.testing.assert_allclose(np.abs(frame[name]), np.abs(expected[:, axis]), atol=1e-4)
    quality = rows(receipt, "embedding_quality")["fc:2", "pca"].iloc[0]
    explained = reference.explained_variance_ratio_.sum()
    assert quality.explained_variance == pytest.approx(explained, rel=1e-5)


def test_embed__quality_is_in_range_and_equals_scikit_learn(made):
    _, recording, receipt = made
    maps = rows(receipt, "embeddings")
    for (source, method), frame in rows(receipt, "embedding_quality").items():
        quality = frame.iloc[0]
        points = read_source(recording, source, np.flatnonzero(recording.valid))
        drawn = maps[source, method][["x", "y"]].to_numpy()
        expected = trustworthiness(points, drawn, n_neighbors=10)
        assert quality.trustworthiness == pytest.approx(expected, abs=1e-9)
        assert 0 <= quality.knn_purity <= 1
        assert 0 <= quality.source_knn_purity <= 1
        assert (quality.images, quality.queries, quality.neighbours) == (60, 60, 10)
        assert quality.source_features == points.shape[1]


def test_embed__objective_and_variance_belong_to_their_methods(made):
    _, _, receipt = made
    for (_, method), frame in rows(receipt, "embedding_quality").items():
        assert np.isnan(frame.objective[0]) == (method != "tsne")
        assert np.isnan(frame.explained_variance[0]) == (method != "pca")


def test_embed__lowered_perplexity_is_noted(made):
    _, _, receipt = made
    parameters = json.loads(rows(receipt, "embedding_quality")["fc:2", "tsne"].parameters[0])
    assert parameters["perplexity"] == pytest.approx(59 / 3)
    parameters = json.loads(rows(receipt, "embedding_quality")["fc:2", "umap"].parameters[0])
    assert parameters["neighbours"] == 15


def test_embed__second_time_makes_nothing_anew(made):
    atlas, recording, first = made
    before = [file.stat().st_mtime_ns for file in first.files]
    again = embed(atlas, recording, config=CONFIG)
    assert not again.made
    assert again.files == first.files
    assert [file.stat().st_mtime_ns for file in again.files] == before


def test_embed__one_more_method_makes_only_its_maps(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    config = CONFIG.model_copy(update={"methods": ("pca",), "pixels": False})
    (first, _) = embed(atlas, recording, config=config).files
    before = first.stat().st_mtime_ns
    more = embed(atlas, recording, config=config.model_copy(update={"pixels": True}))
    assert more.made
    assert first in more.files
    assert first.stat().st_mtime_ns == before


def test_embed__changed_setting_makes_the_map_anew(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    config = CONFIG.model_copy(update={"methods": ("pca",), "pixels": False})
    assert embed(atlas, recording, config=config).made
    three = embed(atlas, recording, config=config.model_copy(update={"dimensions": 3}))
    assert three.made
    assert not read_table(three.files[0]).column("z").null_count


def test_embed__sample_of_a_larger_set_is_seeded_and_declared(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    config = CONFIG.model_copy(update={"methods": ("pca",), "max_images": 20, "pixels": False})
    receipt = embed(atlas, recording, config=config)
    frame = rows(receipt, "embeddings")["fc:2", "pca"]
    assert len(frame) == 20
    assert recording.valid[frame.image_index].all()
    assert rows(receipt, "embedding_quality")["fc:2", "pca"].images[0] == 20


def test_embed__unlabelled_recording_has_no_purity(atlas, make_raw, write_recording):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, label=np.full_like(raw.label, -1)))
    config = CONFIG.model_copy(update={"methods": ("pca",), "pixels": False})
    quality = read_table(embed(atlas, recording, config=config).files[1])
    assert quality.column("knn_purity").to_pylist() == [None]
    assert quality.column("source_knn_purity").to_pylist() == [None]


def test_embed__too_few_images_is_an_error(atlas, make_raw, write_recording):
    raw = make_raw()
    valid = np.zeros_like(raw.valid)
    valid[:9] = True
    recording = write_recording(atlas, replace(raw, valid=valid))
    with pytest.raises(UserError, match="expected at least 10 valid images to embed, got 9"):
        embed(atlas, recording, config=CONFIG)


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_make_map__ten_images_are_enough(method):
    points = np.random.default_rng(0).normal(size=(10, 3))
    found = make_map(points, method, EmbedConfig(), threads=1)
    assert found.coordinates.shape == (10, 2)
    assert np.isfinite(found.coordinates).all()


def test_make_map__pca_of_images_all_alike_keeps_no_variance():
    found = make_map(np.ones((30, 4)), "pca", EmbedConfig(), threads=1)
    assert (found.coordinates == 0).all()
    assert found.explained_variance == 0


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_make_map__images_all_alike_lie_on_one_point(method):
    found = make_map(np.ones((30, 4)), method, EmbedConfig(), threads=1)
    assert (found.coordinates == 0).all()
    assert found.coordinates.shape == (30, 2)
    assert found.parameters["images_differ"] is False


def test_make_map__fewer_features_than_dimensions_leave_the_rest_flat():
    points = np.random.default_rng(0).normal(size=(20, 1))
    found = make_map(points, "pca", EmbedConfig(dimensions=3), threads=1)
    assert (found.coordinates[:, 1:] == 0).all()
    assert found.explained_variance == 1


def test_choose_sources__auto_takes_pixels_and_the_layers_ends(made):
    _, recording, _ = made
    assert choose_sources(recording, EmbedConfig()) == ["pixels", "conv1", "fc:2"]
    assert choose_sources(recording, EmbedConfig(pixels=False)) == ["conv1", "fc:2"]
    assert choose_sources(recording, EmbedConfig(layers=("f*",))) == ["pixels", "fc:2"]


def test_choose_sources__pattern_without_a_match_names_what_there_is(made):
    _, recording, _ = made
    with pytest.raises(UserError, match=r"'layer9\.\*' matches none .*: conv1, fc:2; record"):
        choose_sources(recording, EmbedConfig(layers=("fc*", "layer9.*")))


def test_read_source__pixels_are_shares_of_white(made):
    _, recording, _ = made
    found = read_source(recording, "pixels", np.array([3, 1]))
    assert found.shape == (2, 192)
    np.testing.assert_array_equal(found[1] * 255, recording.read("thumbnail")[1].ravel())
