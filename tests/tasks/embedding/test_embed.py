"""Maps of a small recording: all methods, their quality, and what is not repeated."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import EmbedConfig
from activarium.schemas.errors import UserError
from activarium.tasks.embedding import space_components as module
from activarium.tasks.embedding.embed import embed
from activarium.tasks.embedding.fitted_map import fit_map
from activarium.tasks.embedding.space_components import space_components
from activarium.tasks.features.spaces import Space, open_space, stored_space
from activarium.tasks.stores.parquet_files import read_table

CONFIG = EmbedConfig(layers=("fc:2",), threads=1)
POOLED = {"features": ("pooled",)}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_raw, write_recording):
    """Return an atlas with all maps of the pixels and of one layer, and the receipt."""
    atlas = Atlas(tmp_path_factory.mktemp("embedded"))
    recording = write_recording(atlas, make_raw(images=62))
    return atlas, recording, embed(atlas, recording, config=CONFIG)


def read_points(recording, source):
    space = Space("pixels" if source == "pixels" else "pooled", source)
    row = np.flatnonzero(recording.valid)
    return open_space(recording, space, row).take(np.arange(len(row))).astype(np.float64)


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
        points = read_points(recording, source)
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
        assert np.isnan(frame.explained_variance[0]) == (method not in {"pca", "autoencoder"})


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
    config = CONFIG.model_copy(update={"methods": ("pca",), **POOLED})
    (first, _) = embed(atlas, recording, config=config).files
    before = first.stat().st_mtime_ns
    more = embed(
        atlas, recording, config=config.model_copy(update={"features": ("pooled", "pixels")})
    )
    assert more.made
    assert first in more.files
    assert first.stat().st_mtime_ns == before


def test_embed__changed_setting_makes_the_map_anew(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    config = CONFIG.model_copy(update={"methods": ("pca",), **POOLED})
    assert embed(atlas, recording, config=config).made
    three = embed(atlas, recording, config=config.model_copy(update={"dimensions": 3}))
    assert three.made
    assert not read_table(three.files[0]).column("z").null_count


def test_embed__sample_of_a_larger_set_is_seeded_and_declared(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    update = {"methods": ("pca",), "max_images": 20, "place_rest": False, **POOLED}
    receipt = embed(atlas, recording, config=CONFIG.model_copy(update=update))
    frame = rows(receipt, "embeddings")["fc:2", "pca"]
    assert len(frame) == 20
    assert not frame.is_placed.any()
    assert recording.valid[frame.image_index].all()
    quality = rows(receipt, "embedding_quality")["fc:2", "pca"].iloc[0]
    assert (quality.images, quality.quality_images, quality.placed_images) == (20, 20, 0)
    assert np.isnan(quality.placed_knn_purity)


def test_embed__unlabelled_recording_has_no_purity(atlas, make_raw, write_recording):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, label=np.full_like(raw.label, -1)))
    config = CONFIG.model_copy(update={"methods": ("pca",), **POOLED})
    quality = read_table(embed(atlas, recording, config=config).files[1])
    assert quality.column("knn_purity").to_pylist() == [None]
    assert quality.column("source_knn_purity").to_pylist() == [None]


@pytest.mark.parametrize(("images", "has"), [(9, "9 valid images"), (1, "1 valid image")])
@pytest.mark.parametrize("into", [None, "other"])
def test_embed__maps_of_too_few_images_are_left_out_with_a_notice(
    images, has, into, atlas, make_raw, write_recording
):
    raw = make_raw()
    valid = np.zeros_like(raw.valid)
    valid[:images] = True
    recording = write_recording(atlas, replace(raw, valid=valid))
    receipt = embed(atlas, recording, config=CONFIG.model_copy(update={"into": into}))
    assert (receipt.files, receipt.made) == ((), False)
    assert receipt.notices == (f"toy has {has}: maps are left out, which need 10",)
    assert not atlas.tables.exists()


@pytest.mark.parametrize("label", [range(61), [2] * 61, [0, 0, *range(1, 60)]])
def test_embed__classes_that_cannot_be_told_apart_have_no_purity(
    label, atlas, make_raw, write_recording
):
    raw = make_raw()
    names = tuple(f"class {code:02d}" for code in range(61))
    code = np.array(label, np.int32)
    bare = replace(raw, label=code, class_names=names, logits=raw.logits[:, :1])
    update = {"methods": ("pca",), "max_images": 50, **POOLED}
    receipt = embed(atlas, write_recording(atlas, bare), config=CONFIG.model_copy(update=update))
    quality = rows(receipt, "embedding_quality")["fc:2", "pca"].iloc[0]
    for column in (
        "knn_purity", "source_knn_purity", "placed_knn_purity", "silhouette", "source_silhouette",
    ):  # fmt: skip
        assert quality[column] is None or np.isnan(quality[column]), column
    assert 0 <= quality.trustworthiness <= 1


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_fit_map__ten_images_are_enough(method):
    points = np.random.default_rng(0).normal(size=(10, 3))
    found = fit_map(points, method, EmbedConfig(), threads=1)
    assert found.coordinates.shape == (10, 2)
    assert np.isfinite(found.coordinates).all()


def test_fit_map__pca_of_images_all_alike_keeps_no_variance():
    found = fit_map(np.ones((30, 4)), "pca", EmbedConfig(), threads=1)
    assert (found.coordinates == 0).all()
    assert found.explained_variance == 0


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_fit_map__images_all_alike_lie_on_one_point(method):
    found = fit_map(np.ones((30, 4)), method, EmbedConfig(), threads=1)
    assert (found.coordinates == 0).all()
    assert found.coordinates.shape == (30, 2)
    assert found.parameters["images_differ"] is False


def test_fit_map__fewer_features_than_dimensions_leave_the_rest_flat():
    points = np.random.default_rng(0).normal(size=(20, 1))
    found = fit_map(points, "pca", EmbedConfig(dimensions=3), threads=1)
    assert (found.coordinates[:, 1:] == 0).all()
    assert found.explained_variance == 1


def test_embed__every_kind_of_features(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    update = {"features": ("means", "logits"), "layers": ("conv1",), "methods": ("pca",)}
    receipt = embed(atlas, recording, config=CONFIG.model_copy(update=update))
    found = {
        (frame.features[0], frame.layer[0])
        for file in receipt.files
        for frame in [read_table(file).to_pandas()]
    }
    assert found == {("means", "conv1"), ("logits", "logits")}
    logits = recording.read("logits")[recording.valid]
    expected = PCA(2, svd_solver="full").fit_transform(logits)
    frame = rows(receipt, "embeddings")["logits", "pca"]
    np.testing.assert_allclose(np.abs(frame[["x", "y"]]), np.abs(expected), rtol=1e-3, atol=1e-4)


def test_embed__tells_the_largest_that_fits(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw(images=13))
    config = CONFIG.model_copy(update={"quality_neighbours": 50, "features": ("logits",)})
    told = embed(atlas, recording, config=config).notices
    assert told == (
        "embed.perplexity 30 does not fit 11 images: t-SNE takes 3.33333, the largest that fits",
        "embed.neighbours 15 does not fit 11 images: UMAP takes 10, the most that fit",
        "embed.quality_neighbours 50 does not fit 11 images: quality takes 5, the most that fit",
    )
    assert embed(atlas, recording, config=config).notices == told, "also where nothing is made"


def test_embed__constant_features_are_told_and_lie_on_one_point(atlas, make_raw, write_recording):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, logits=np.ones_like(raw.logits)))
    receipt = embed(atlas, recording, config=CONFIG.model_copy(update={"features": ("logits",)}))
    same = [line for line in receipt.notices if "all images have the same features" in line]
    assert len(same) == 3
    for frame in rows(receipt, "embeddings").values():
        assert (frame[["x", "y"]] == 0).all(axis=None)
    for frame in rows(receipt, "embedding_quality").values():
        assert np.isnan(frame.stress[0])


def test_embed__features_that_are_not_finite_are_an_error_in_one_line(
    atlas, make_raw, write_recording
):
    raw = make_raw()
    logits = raw.logits.copy()
    logits[np.flatnonzero(raw.valid)[7], 2] = np.nan
    recording = write_recording(atlas, replace(raw, logits=logits))
    with pytest.raises(UserError, match="logits lacks values of images") as caught:
        embed(atlas, recording, config=CONFIG.model_copy(update={"features": ("logits",)}))
    assert "\n" not in str(caught.value)


def test_embed__recording_that_keeps_no_features_says_so(atlas, make_raw, write_recording):
    raw = make_raw()
    bare = replace(raw, thumbnail=raw.thumbnail[:, :0, :0], pooled=raw.pooled[:, :0])
    recording = write_recording(atlas, bare)
    receipt = embed(atlas, recording, config=EmbedConfig(methods=("pca",)))
    assert not receipt.files
    assert "holds no raw pixels to embed: record.thumbnail keeps them" in receipt.notices[0]
    assert (
        "holds no pooled features to embed: record.pooled_layers keeps them" in receipt.notices[1]
    )


def test_embed__same_seed_and_threads_give_the_same_maps_bit_for_bit(
    made, tmp_path, make_raw, write_recording
):
    _, _, first = made
    atlas = Atlas(tmp_path / "again")
    again = embed(atlas, write_recording(atlas, make_raw(images=62)), config=CONFIG)
    for key, frame in rows(first, "embeddings").items():
        other = rows(again, "embeddings")[key]
        np.testing.assert_array_equal(frame[["x", "y"]], other[["x", "y"]], err_msg=str(key))


def test_space_components__pieces_by_dask_equal_one(made, monkeypatch):
    _, recording, _ = made
    rows_of = stored_space(recording, Space("logits", "logits"), np.flatnonzero(recording.valid))
    whole = space_components(rows_of, dimensions=3, threads=1)
    monkeypatch.setattr(module, "PIECE_IMAGES", 9)
    pieces = space_components(rows_of, dimensions=3, threads=2)
    np.testing.assert_allclose(pieces.components, whole.components, atol=1e-9)
    again = space_components(rows_of, dimensions=3, threads=1)
    np.testing.assert_array_equal(again.components, pieces.components)


@pytest.mark.slow
def test_embed__other_processes_make_the_same_maps_bit_by_bit(made, tmp_path):
    _, recording, receipt = made
    config = CONFIG.model_copy(update={"scheduler": "processes"})
    others = embed(Atlas(tmp_path), recording, config=config)
    for table in ("embeddings", "embedding_quality"):
        here, there = rows(receipt, table), rows(others, table)
        for key, frame in here.items():
            same = frame.columns.drop("seconds", errors="ignore")
            pd.testing.assert_frame_equal(frame[same], there[key][same], check_exact=True)


def test_embed__threads_are_refused_as_a_scheduler():
    with pytest.raises(ValueError, match=r"expected synchronous, processes or .*got 'threads'"):
        EmbedConfig(scheduler="threads")
