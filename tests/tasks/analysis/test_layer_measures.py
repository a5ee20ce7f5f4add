"""The table of layers against scikit-learn and numpy on the stored matrix."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import analyse


def test_layers__summaries_are_means_over_their_units(toy):
    frame, units = toy.frame("layers"), toy.frame("units")
    assert frame.layer.tolist() == ["conv1", "layer1.0", "fc:2"]
    assert frame.units.tolist() == [6, 9, 5]
    assert frame[["kind", "height", "width"]].to_numpy().tolist() == [
        ["conv", 8, 8], ["block", 4, 4], ["linear", 1, 1],
    ]  # fmt: skip
    by_layer = units.groupby("depth")
    assert (frame.fdr == 0.05).all()
    selective = (units.q_value <= 0.05).groupby(units.depth).mean()
    np.testing.assert_allclose(frame.selective_fraction, selective)
    np.testing.assert_allclose(frame.dead_fraction, by_layer.is_dead.mean())
    for column in ("selectivity", "auroc", "eta2", "epsilon2"):
        np.testing.assert_allclose(frame[f"{column}_mean"], by_layer[column].mean())


def test_layers__knn_purity_equals_scikit_learn(analysed, write_recording, atlas, stored):
    recording = write_recording(atlas, analysed.raw)
    analyse(atlas, recording, config=AnalyseConfig(scheduler="synchronous"))
    store = stored(atlas)
    frame, (values, label) = store.frame("layers"), store.labelled
    stops = np.cumsum(frame.units)
    for row, stop in zip(frame.itertuples(), stops, strict=True):
        points = values[:, stop - row.units : stop]
        near = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(points)
        neighbours = near.kneighbors(return_distance=False)
        # Ties in distance may be taken in either order.
        purity = np.mean(label[neighbours] == label[:, None])
        assert row.knn_purity == pytest.approx(purity, abs=0.01)
        assert (row.knn_neighbours, row.knn_queries) == (10, len(label))


def test_layers__declare_the_sample_of_labelled_queries(toy):
    assert set(toy.frame("layers").knn_queries) == {20}


def test_layers__effective_dimension_is_the_participation_ratio(toy):
    frame = toy.frame("layers")
    stops = np.cumsum(frame.units)
    for row, stop in zip(frame.itertuples(), stops, strict=True):
        values = np.linalg.eigvalsh(np.cov(toy.responses[:, stop - row.units : stop].T))
        expected = values.sum() ** 2 / (values**2).sum()
        assert row.effective_dimension == pytest.approx(expected, rel=1e-6)


def test_layers__declare_the_neighbours_that_could_be_found(
    atlas, make_raw, write_recording, stored
):
    raw = make_raw()
    raw.label[6:] = -1
    labelled = int((raw.label[raw.valid] >= 0).sum())
    analyse(atlas, write_recording(atlas, raw), config=AnalyseConfig(scheduler="synchronous"))
    frame = stored(atlas).frame("layers")
    assert set(frame.knn_neighbours) == {(labelled - 1) // 2}
    assert set(frame.knn_queries) == set(frame.knn_images) == {labelled}
    assert frame.knn_purity.between(0, 1).all()
