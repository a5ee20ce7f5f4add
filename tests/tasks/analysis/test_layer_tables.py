"""The tables layers and depth_trends against scikit-bio, scikit-learn, scipy and slow formulas."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from skbio import DistanceMatrix
from skbio.stats.distance import anosim, permanova
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from activarium.tasks.embedding.neighbours import sample_queries
from activarium.tasks.statistics.testing.label_permutations import permuted_labels

LAYERS = {"conv1": slice(0, 6), "layer1.0": slice(6, 15), "fc:2": slice(15, 20)}
MEASURES = ("selectivity", "auroc", "eta2", "epsilon2", "mutual_information", "sparseness")


@pytest.fixture(params=LAYERS)
def layer(request, studied):
    """Return the row of one layer, its standardised responses and the labels."""
    values, label = studied.labelled
    own = values[:, LAYERS[request.param]]
    own = own[:, np.ptp(own, axis=0) > 0]
    row = studied.frame("layers").set_index("layer").loc[request.param]
    return row, (own - own.mean(axis=0)) / own.std(axis=0), label


def distance_matrix(points):
    return DistanceMatrix(squareform(pdist(points)))


def test_layers__means_and_shares_are_those_of_their_units(studied):
    frame, units = studied.frame("layers"), studied.frame("units")
    for row in frame.itertuples():
        own = units[units.layer == row.layer]
        assert row.familywise_fraction == pytest.approx((own.fwer_p <= 0.05).mean())
        assert row.redundant_fraction == pytest.approx(own.copies_unit.notna().mean())
        assert row.selective_fraction == pytest.approx((own.q_value <= 0.05).mean())
    assert (frame.redundant_fraction > 0).tolist() == [False, True, False]


def test_layers__intervals_hold_their_means(studied):
    frame = studied.frame("layers")
    for name, of in (
        ("eta2_mean", "eta2_mean"),
        ("selectivity", "selectivity_mean"),
        ("knn_purity", "knn_purity"),
        ("probe_accuracy", "probe_accuracy"),
    ):
        given = frame[frame[f"{name}_low"].notna()]
        assert (given[f"{name}_low"] < given[of]).all(), name
        assert (given[of] < given[f"{name}_high"]).all(), name
    assert frame.probe_accuracy_low.notna().all()
    # One of the classes has fewer than ten images.
    assert frame.eta2_mean_low.isna().all()


def test_layers__permanova_equals_scikit_bio(layer):
    row, points, label = layer
    found = permanova(distance_matrix(points), label, permutations=0)
    assert row.permanova_f == pytest.approx(found["test statistic"], rel=1e-9)
    f, classes = row.permanova_f, len(np.unique(label))
    ratio = f * (classes - 1) / (len(label) - classes)
    assert row.permanova_r2 == pytest.approx(ratio / (1 + ratio), rel=1e-9)


def explained(points, label):
    """Return the share of the sum of squares of standardised units between the classes."""
    between = sum(
        (label == code).sum() * (points[label == code].mean(axis=0) ** 2).sum()
        for code in np.unique(label)
    )
    return between / (points**2).sum()


def test_layers__permanova_p_counts_permuted_labels(layer):
    row, points, label = layer
    observed = explained(points, label)
    shuffled = permuted_labels(label, seed=0, first=0, size=199)
    reached = sum(explained(points, labels) >= observed * (1 - 1e-5) for labels in shuffled)
    assert row.permanova_p == (1 + reached) / 200
    assert row.chance_verdict == ("beyond" if row.permanova_p <= 0.05 else "not beyond")


def test_layers__planted_layer_is_beyond_chance(studied):
    frame = studied.frame("layers").set_index("layer")
    assert frame.permanova_p["fc:2"] == 1 / 200
    assert frame.chance_verdict["fc:2"] == "beyond"


def test_layers__anosim_and_silhouette_are_of_the_declared_sample(layer):
    row, points, label = layer
    sample = sample_queries(len(label), most=40, seed=0)
    assert row.sampled_images == len(sample) == 40
    found = anosim(distance_matrix(points[sample]), label[sample], permutations=0)
    assert row.anosim_r == pytest.approx(found["test statistic"], rel=1e-9)
    expected = silhouette_score(points[sample], label[sample])
    assert row.silhouette == pytest.approx(expected, rel=1e-9)


def test_layers__similarities_are_mean_cosines_over_all_pairs(layer):
    row, points, label = layer
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosine = {True: [], False: []}
    for one, other in combinations(range(len(label)), 2):
        cosine[bool(label[one] == label[other])].append(unit[one] @ unit[other])
    assert row.within_similarity == pytest.approx(np.mean(cosine[True]), rel=1e-9)
    assert row.between_similarity == pytest.approx(np.mean(cosine[False]), rel=1e-9)


def probed(points, label):
    """Return the accuracy of scikit-learn's ridge classifier over the same folds."""
    place = np.array([(label[:image] == label[image]).sum() for image in range(len(label))])
    fold, right = place % 5, 0
    for held_out in range(5):
        train, test = fold != held_out, fold == held_out
        probe = RidgeClassifier(alpha=0.01 * train.sum()).fit(points[train], label[train])
        right += (probe.predict(points[test]) == label[test]).sum()
    return right / len(label)


def test_layers__probe_equals_scikit_learn(layer):
    row, points, label = layer
    assert row.probe_accuracy == pytest.approx(probed(points, label), rel=1e-12)
    assert row.probe_chance == pytest.approx(np.bincount(label).max() / len(label), rel=1e-12)


def test_layers__knn_purity_is_of_the_declared_samples(studied):
    values, label = studied.labelled
    taken = sample_queries(len(label), most=50, seed=0)
    queries = sample_queries(50, most=30, seed=0)
    for row in studied.frame("layers").itertuples():
        points, own = values[taken][:, LAYERS[row.layer]], label[taken]
        near = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(points)
        neighbours = near.kneighbors(return_distance=False)[queries]
        assert row.knn_purity == pytest.approx(np.mean(own[neighbours] == own[queries, None]))
        assert (row.knn_neighbours, row.knn_queries, row.knn_images) == (5, 30, 50)


def test_layers__dimensions_are_those_of_the_covariance_of_all_images(studied):
    for row in studied.frame("layers").itertuples():
        value = np.linalg.eigvalsh(np.cov(studied.responses[:, LAYERS[row.layer]].T))[::-1]
        expected = value.sum() ** 2 / (value**2).sum()
        assert row.effective_dimension == pytest.approx(expected, rel=1e-7)
        explained_to = np.cumsum(value) / value.sum()
        assert row.sufficient_dimensions == (explained_to < 0.99).sum() + 1


def test_layers__wide_layer_equals_the_references(wide_store):
    row = wide_store.frame("layers").iloc[0]
    values, label = wide_store.labelled
    own = values[:, :290]
    own = own[:, np.ptp(own, axis=0) > 0]
    points = (own - own.mean(axis=0)) / own.std(axis=0)
    found = permanova(distance_matrix(points), label, permutations=0)
    assert row.permanova_f == pytest.approx(found["test statistic"], rel=1e-8)
    assert row.permanova_r2 == pytest.approx(explained(points, label), rel=1e-8)
    assert row.silhouette == pytest.approx(silhouette_score(points, label), rel=1e-8)
    assert row.probe_accuracy == pytest.approx(probed(points, label), rel=1e-12)


def test_depth_trends__one_row_per_measure(studied):
    frame = studied.frame("depth_trends")
    assert sorted(frame.measure) == sorted(MEASURES)
    assert set(frame.layers) == {3}


@pytest.mark.parametrize("measure", MEASURES)
def test_depth_trends__spearman_is_of_the_layers_means(measure, studied):
    row = studied.frame("depth_trends").set_index("measure").loc[measure]
    units = studied.frame("units")
    means = [units[measure][each].mean() for each in LAYERS.values()]
    rho = stats.spearmanr([0, 1, 2], means).statistic
    assert row.spearman_rho == pytest.approx(rho, rel=1e-12)
