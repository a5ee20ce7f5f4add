"""The linear probe against scikit-learn's ridge classifier, fold by fold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier

from activarium.tasks.statistics.layers import linear_probe
from activarium.tasks.statistics.layers.layer_moments import column_moments
from activarium.tasks.statistics.layers.layer_rows import ArrayRows
from activarium.tasks.statistics.layers.linear_probe import (
    PENALTY,
    probe_accuracy,
    probe_predictions,
)

from .layer_examples import CLASSES, SINGLE, awkward_layer, clear_layer, slowly_standardised


def fold_by_fold(values, code, folds, penalty):
    fold = np.empty(len(code), int)
    for c in np.unique(code):
        own = np.flatnonzero(code == c)
        fold[own] = np.arange(len(own)) % folds
    vectors = slowly_standardised(values)
    predicted = np.empty(len(code), int)
    for f in np.unique(fold):
        train = fold != f
        if len(np.unique(code[train])) == 1:
            predicted[~train] = code[train][0]
            continue
        model = RidgeClassifier(alpha=penalty * train.sum(), solver="cholesky")
        predicted[~train] = model.fit(vectors[train], code[train]).predict(vectors[~train])
    return predicted


@pytest.fixture(params=["all folds in one pass", "one fold per pass"])
def _held(request, monkeypatch):
    if request.param == "one fold per pass":
        monkeypatch.setattr(linear_probe, "_MOST", 0)


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize("penalty", [1e-6, PENALTY, 3.0])
@pytest.mark.parametrize("folds", [2, 5, 300])
def test_probe__equals_scikit_learn(folds, penalty):
    values, code = awkward_layer()
    rows = ArrayRows(values, 50)
    found = probe_predictions(rows, code, CLASSES, folds=folds, penalty=penalty)
    expected = fold_by_fold(values, code, folds, penalty)
    np.testing.assert_array_equal(found, expected)
    accuracy = probe_accuracy(rows, code, CLASSES, folds=folds, penalty=penalty)
    assert accuracy.accuracy == np.mean(expected == code)
    assert accuracy.chance == np.bincount(code).max() / len(code)


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize(("images", "units"), [(40, 60), (300, 3)])
@pytest.mark.parametrize("classes", [2, 4])
def test_probe__equals_scikit_learn_with_few_or_many_units(images, units, classes):
    values, code = clear_layer(images, images, units, classes)
    found = probe_predictions(ArrayRows(values), code, classes)
    np.testing.assert_array_equal(found, fold_by_fold(values, code, 5, PENALTY))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), block=st.integers(1, 61), names=st.permutations(range(4)))
def test_probe__follows_neither_labels_nor_the_order_between_classes_nor_blocks(seed, block, names):
    values, code = clear_layer(seed)
    found = probe_predictions(ArrayRows(values), code, 3)
    names = np.array(names)
    order = np.argsort(code, kind="stable")  # each class keeps its own order
    again = probe_predictions(ArrayRows(values[order], block), names[code[order]], 4)
    np.testing.assert_array_equal(again, names[found[order]])


def test_probe__by_hand():
    values = np.array([[0], [1], [10], [11], [12]], np.float32)
    code = np.array([0, 0, 1, 1, 1])
    # Without fold 1 the line through (0, class 0) and (10, 12, class 1) is above one half at 11
    # and below at 1; without fold 0 likewise.
    found = probe_accuracy(ArrayRows(values), code, 2, folds=2)
    assert found[:2] == (1.0, 0.6)


def test_probe__says_nothing_where_classes_say_nothing():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4000, 5)).astype(np.float32)
    found = probe_accuracy(ArrayRows(values), rng.integers(0, 4, 4000), 4)
    assert found.accuracy == pytest.approx(0.25, abs=0.03)


def test_probe__single_image_of_a_class_is_always_wrong():
    values, code = awkward_layer()
    found = probe_predictions(ArrayRows(values), code, CLASSES)
    own = np.flatnonzero(code == SINGLE)
    assert len(own) == 1
    assert found[own[0]] != SINGLE


def test_probe__empty_classes_are_never_predicted():
    values, code = clear_layer(4)
    found = probe_predictions(ArrayRows(values), 2 * code + 1, 9)
    np.testing.assert_array_equal(found, 2 * probe_predictions(ArrayRows(values), code, 3) + 1)


def test_probe__where_all_units_are_constant_the_largest_training_class_is_predicted():
    values = np.full((8, 2), 0.1, np.float32)
    code = np.array([2, 1, 2, 1, 1, 0, 0, 1])
    found = probe_predictions(ArrayRows(values), code, 3)
    assert found.tolist() == [1] * 8
    assert probe_accuracy(ArrayRows(values), code, 3)[:2] == (0.5, 0.5)


def test_probe__of_equal_scores_the_lowest_code_is_predicted():
    # Without any image of the largest class, two classes are as large.
    values = np.full((6, 1), 3, np.float32)
    found = probe_predictions(ArrayRows(values), np.array([4, 1, 4, 1, 2, 2]), 5, folds=2)
    assert found.tolist() == [1] * 6
    # The image held out lies midway between the classes of the others.
    values = np.array([[-1], [0], [1], [1], [0], [-1]], np.float32)
    found = probe_predictions(ArrayRows(values), np.array([1, 1, 1, 0, 0, 0]), 2, folds=3)
    assert found[[1, 4]].tolist() == [0, 0]


def test_probe__scores_that_differ_by_rounding_only_are_equal():
    # Both classes hold the same images, in every fold, but in another order.
    half = np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32)
    values = np.concatenate([half, np.roll(half, 35, axis=0)])
    found = probe_predictions(ArrayRows(values, 7), np.arange(200) // 100, 2)
    assert set(found.tolist()) == {0}


@pytest.mark.parametrize("code", [[0, 0, 0, 0], [0, 1, 2, 3], [2, 2, 2, 2]])
def test_probe__one_class_or_no_class_of_two_is_nan(code):
    values, _ = clear_layer(3, images=4)
    code = np.array(code)
    found = probe_accuracy(ArrayRows(values), code, 4)
    assert np.isnan(found.accuracy)
    assert found.chance == np.bincount(code).max() / 4
    assert set(probe_predictions(ArrayRows(values), code, 4).tolist()) == {-1}


def test_probe__without_images_is_nan():
    found = probe_accuracy(ArrayRows(np.empty((0, 3), np.float32)), np.empty(0, int), 2)
    assert np.isnan(found[:2]).all()


def test_probe__three_images_of_two_classes():
    values = np.array([[0], [1], [5]], np.float32)
    # Each image of class 0 is held out once; the only one of class 1 has nothing to learn from.
    found = probe_predictions(ArrayRows(values), np.array([0, 0, 1]), 2)
    assert found.tolist() == [0, 0, 0]


def test_probe__takes_moments_measured_before():
    values, code = clear_layer(8)
    rows = ArrayRows(values, 10)
    given_moments = probe_predictions(rows, code, 3, moments=column_moments(rows))
    np.testing.assert_array_equal(given_moments, probe_predictions(rows, code, 3))


@pytest.mark.parametrize("setting", [{"folds": 1}, {"penalty": 0.0}, {"penalty": float("nan")}])
def test_probe__settings_out_of_range_are_errors(setting):
    values, code = clear_layer(0)
    with pytest.raises(ValueError, match="at least 2 folds and a penalty above 0"):
        probe_accuracy(ArrayRows(values), code, 3, **setting)
