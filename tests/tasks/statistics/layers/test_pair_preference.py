"""p-values and areas of pairs of classes against SciPy and scikit-learn, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from activarium.tasks.statistics.layers import pair_preference
from activarium.tasks.statistics.layers.pair_preference import pair_auroc, pair_p, pair_separation
from activarium.tasks.statistics.ranks.pair_ranks import pair_u

CLASSES = 5
EMPTY, SINGLE = 3, 4


def compared(responses, label, n_classes=CLASSES):
    count = np.bincount(label, minlength=n_classes)
    ranks = pair_u(responses, label, n_classes)
    test = pair_p(ranks, count)
    area = pair_auroc(ranks, count)
    return ranks, test, area, pair_separation(ranks, count)


def row(values):
    return np.array([values], np.float32)


@pytest.fixture(scope="module")
def recording():
    """Ties, offsets, extreme sizes; class 3 is empty and class 4 has one image."""
    rng = np.random.default_rng(7)
    label = rng.choice([0, 1, 2], 611, p=[0.2, 0.5, 0.3])
    label[100] = SINGLE
    noise = rng.standard_normal((8, 611))
    noise[1] = np.maximum(noise[1] + 0.5 * (label == 1), 0)
    noise[2] = np.round(noise[2]) + label
    noise[3] = 1e4 + 0.1 * noise[3] + 0.02 * label
    noise[4] *= 1e30
    noise[5] *= 1e-43
    noise[6] = 100.0 * label + noise[6]
    noise[7] = label == 2
    return noise.astype(np.float32), label


def test_pair_p__equals_scipy(recording):
    responses, label = recording
    ranks, test, _, _ = compared(responses, label)
    for p, (a, b) in enumerate(ranks.pair):
        if EMPTY in (a, b):
            continue
        for unit, values in enumerate(responses.astype(np.float64)):
            one, other = values[label == a], values[label == b]
            if np.ptp(np.concatenate([one, other])) == 0:
                continue  # SciPy says NaN
            expected = stats.mannwhitneyu(one, other, method="asymptotic")
            np.testing.assert_allclose(test.p[unit, p], expected.pvalue, rtol=1e-9)
            log10_p = np.log10(expected.pvalue)
            np.testing.assert_allclose(test.log10_p[unit, p], log10_p, rtol=1e-9, atol=1e-12)


def test_pair_auroc__equals_scikit_learn(recording):
    responses, label = recording
    ranks, _, area, separation = compared(responses, label)
    for p, (a, b) in enumerate(ranks.pair):
        if EMPTY in (a, b):
            continue
        either = (label == a) | (label == b)
        for unit, values in enumerate(responses):
            expected = roc_auc_score(label[either] == a, values[either])
            np.testing.assert_allclose(area[unit, p], expected, rtol=1e-9)
            larger = max(expected, 1 - expected)
            np.testing.assert_allclose(separation[unit, p], larger, rtol=1e-9)


def test_pair_p__hand_worked_case():
    # Ranks of 1, 3 against 3, 5: U = 0.5 of 4, one tie of two, z = (1.5 - 0.5) / sd.
    _, test, area, separation = compared(row([1, 3, 3, 5]), np.array([0, 0, 1, 1]), 2)
    sd = np.sqrt(4 / 12 * (60 - 6) / 12)
    np.testing.assert_allclose(test.p, [[2 * stats.norm.sf(1 / sd)]], rtol=1e-12)
    np.testing.assert_array_equal(area, [[0.125]])
    np.testing.assert_array_equal(separation, [[0.875]])


def test_pair_p__pair_with_an_empty_class_is_one(recording):
    ranks, test, area, separation = compared(*recording)
    empty = (ranks.pair == EMPTY).any(axis=1)
    np.testing.assert_array_equal(test.p[:, empty], 1)
    np.testing.assert_array_equal(test.log10_p[:, empty], 0)
    np.testing.assert_array_equal(area[:, empty], 0.5)
    np.testing.assert_array_equal(separation[:, empty], 0.5)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
@pytest.mark.parametrize("images", [2, 3, 1001])
def test_pair_p__constant_unit_is_one(value, images):
    _, test, area, separation = compared(row([value] * images), np.arange(images) % 3, 3)
    np.testing.assert_array_equal(test.p, 1)
    np.testing.assert_array_equal(test.log10_p, 0)
    np.testing.assert_array_equal(area, 0.5)
    np.testing.assert_array_equal(separation, 0.5)


def test_pair_p__two_classes_all_tied_in_a_unit_that_varies_is_one():
    ranks, test, area, _ = compared(row([2, 2, 2, 2, 9]), np.array([0, 0, 1, 1, 2]), 3)
    assert ranks.pair[0].tolist() == [0, 1]
    assert test.p[0, 0] == 1
    assert area[0, 0] == 0.5
    assert test.p[0, 1] < 1


def test_pair_p__too_many_ties_for_a_double_are_still_one():
    ranks, test, _, _ = compared(np.zeros((1, 800_001), np.float32), np.arange(800_001) % 2, 2)
    assert ranks.tie_sum[0, 0] > 2**53
    assert test.p[0, 0] == 1


def test_pair_p__two_images_equal_scipy():
    _, test, area, separation = compared(row([1, 3]), np.array([0, 1]), 2)
    expected = stats.mannwhitneyu([1], [3], method="asymptotic").pvalue
    np.testing.assert_allclose(test.p, [[expected]], rtol=1e-12)
    np.testing.assert_array_equal(area, [[0]])
    np.testing.assert_array_equal(separation, [[1]])


def test_pair_p__beyond_a_double_is_zero_with_a_finite_logarithm():
    responses = np.arange(20_000, dtype=np.float32)[None]
    _, test, _, _ = compared(responses, (responses[0] < 10_000).astype(np.int64), 2)
    assert test.p[0, 0] == 0
    assert -1e4 < test.log10_p[0, 0] < -1000


def test_pair_p__does_not_depend_on_the_step(recording, monkeypatch):
    whole = compared(*recording)[1]
    monkeypatch.setattr(pair_preference, "_VALUES", 25)
    in_steps = compared(*recording)[1]
    np.testing.assert_array_equal(whole.p, in_steps.p)
    np.testing.assert_array_equal(whole.log10_p, in_steps.log10_p)


def test_pair_separation__order_of_the_classes_changes_no_digit(recording):
    responses, label = recording
    separation = compared(responses, label)[3]
    ranks, *_, turned = compared(responses, CLASSES - 1 - label)
    place = {(CLASSES - 1 - b, CLASSES - 1 - a): p for p, (a, b) in enumerate(ranks.pair.tolist())}
    order = [place[tuple(pair)] for pair in ranks.pair.tolist()]
    np.testing.assert_array_equal(separation, turned[:, order])


def test_pair_p__no_units_or_no_pairs_is_empty():
    assert compared(np.empty((0, 3), np.float32), np.arange(3), 3)[1].p.shape == (0, 3)
    assert compared(row([1, 2]), np.zeros(2, np.int64), 1)[1].log10_p.shape == (1, 0)
