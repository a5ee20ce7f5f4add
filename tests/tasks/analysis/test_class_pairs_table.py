"""The table class_pairs against scikit-learn, scipy and slow formulas on the stored matrix."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import analyse

LAYERS = {"conv1": slice(0, 6), "layer1.0": slice(6, 15), "fc:2": slice(15, 20)}
EMPTY, SINGLE = "dodo", "eel"


def rows_of(store):
    """Return each row, the responses of its layer, and the images of both classes."""
    values, label = store.labelled
    names = store.array("class").tolist()
    for row in store.frame("class_pairs").to_dict("records"):
        own = values[:, LAYERS[row["layer"]]]
        one, other = (label == names.index(row[key]) for key in ("class", "other_class"))
        yield row, own, one, other


def standardised(own):
    varies = np.ptp(own, axis=0) > 0
    return (own[:, varies] - own[:, varies].mean(axis=0)) / own[:, varies].std(axis=0, ddof=1)


def test_class_pairs__one_row_per_layer_and_pair_of_classes(studied):
    frame, names = studied.frame("class_pairs"), studied.array("class").tolist()
    found = list(zip(frame.layer, frame["class"], frame.other_class, strict=True))
    expected = [(layer, *pair) for layer in LAYERS for pair in combinations(names, 2)]
    assert sorted(found) == sorted(expected)
    assert frame.depth.tolist() == [list(LAYERS).index(layer) for layer in frame.layer]
    assert frame.units.tolist() == [
        LAYERS[layer].stop - LAYERS[layer].start for layer in frame.layer
    ]


def test_class_pairs__centroids_equal_numpy(studied):
    compared = 0
    for row, own, one, other in rows_of(studied):
        if {EMPTY, SINGLE} & {row["class"], row["other_class"]}:
            assert np.isnan([row["centroid_cosine"], row["centroid_distance"]]).all()
            continue
        points = standardised(own)
        a, b = points[one].mean(axis=0), points[other].mean(axis=0)
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert row["centroid_cosine"] == pytest.approx(cosine, rel=1e-7, abs=1e-9)
        distance = np.sqrt(((a - b) ** 2).mean())
        assert row["centroid_distance"] == pytest.approx(distance, rel=1e-7)
        compared += 1
    assert compared == 3 * 3


def test_class_pairs__fisher_ratio_is_null_without_two_images_of_each(studied):
    for row, own, one, other in rows_of(studied):
        if {EMPTY, SINGLE} & {row["class"], row["other_class"]}:
            assert np.isnan(row["fisher_ratio"])
            continue
        points = standardised(own)
        between = ((points[one].mean(axis=0) - points[other].mean(axis=0)) ** 2).sum()
        within = points[one].var(axis=0, ddof=1).sum() + points[other].var(axis=0, ddof=1).sum()
        assert row["fisher_ratio"] == pytest.approx(between / within, rel=1e-7)


def test_class_pairs__best_unit_has_the_largest_auroc_of_scikit_learn(studied):
    for row, own, one, other in rows_of(studied):
        if {EMPTY, SINGLE} & {row["class"], row["other_class"]}:
            assert np.isnan(row["best_auroc"])
            assert not isinstance(row["best_unit"], str)
            continue
        both = one | other
        area = [roc_auc_score(one[both], own[both, unit]) for unit in range(own.shape[1])]
        size = np.maximum(area, 1 - np.array(area))
        assert row["best_auroc"] == pytest.approx(size.max(), rel=1e-9)
        best = np.flatnonzero(size >= size.max() - 1e-9)[0]
        assert row["best_unit"] == f"{row['layer']}/{best}"


def test_class_pairs__separating_units_have_a_small_q_within_the_pair_and_layer(studied):
    separating = 0
    for row, own, one, other in rows_of(studied):
        if {EMPTY, SINGLE} & {row["class"], row["other_class"]}:
            assert np.isnan(row["separating_units"])
            continue
        p = [
            stats.mannwhitneyu(own[one, unit], own[other, unit], method="asymptotic").pvalue
            if np.ptp(own[one | other, unit]) > 0
            else 1.0
            for unit in range(own.shape[1])
        ]
        expected = (stats.false_discovery_control(p) <= 0.05).sum()
        assert row["separating_units"] == expected
        separating += expected
    assert separating > 3


def test_class_pairs__best_unit_lies_in_any_block_of_the_layer(
    atlas, wide, write_recording, stored
):
    raw = replace(wide, responses=wide.responses.copy())
    raw.responses[:, 288] = raw.label + 0.1 * np.arange(len(raw.label)) / len(raw.label)
    raw.responses[~raw.valid] = np.nan
    config = AnalyseConfig(scheduler="synchronous", permutations=0)
    analyse(atlas, write_recording(atlas, raw), config=config)
    frame = stored(atlas).frame("class_pairs").set_index(["layer", "class", "other_class"])
    row = frame.loc["a", "ant", "bee"]
    assert (row.best_auroc, row.best_unit) == (1, "a/288")
    assert row.units == 290


def test_class_pairs__of_many_classes_the_nearest_ones_are_compared(
    atlas, analysed, write_recording, stored
):
    config = AnalyseConfig(
        scheduler="synchronous", permutations=0, pair_classes=4, pair_neighbours=1
    )
    analyse(atlas, write_recording(atlas, analysed.raw), config=config)
    store = stored(atlas)
    names, (values, label) = store.array("class"), store.labelled
    frame, whole = store.frame("class_pairs"), stored(analysed.atlas).frame("class_pairs")
    keys = ["layer", "class", "other_class"]
    for layer, own in LAYERS.items():
        points = standardised(values[:, own])
        centre = {code: points[label == code].mean(axis=0) for code in np.unique(label)}
        expected = set()
        for code, mean in centre.items():
            others = {other: np.linalg.norm(mean - centre[other]) for other in centre}
            del others[code]
            expected.add(tuple(sorted((code, min(others, key=others.get)))))
        found = frame[frame.layer == layer]
        pairs = list(zip(found["class"], found.other_class, strict=True))
        assert sorted(pairs) == sorted((names[one], names[other]) for one, other in expected)
    same = frame.merge(whole, on=keys, suffixes=("", "_whole"))
    assert len(same) == len(frame)
    for column in ("centroid_cosine", "centroid_distance", "fisher_ratio", "best_auroc"):
        np.testing.assert_array_equal(same[column], same[f"{column}_whole"])
