"""Detection of classes against scikit-learn, by hand, and held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from activarium.tasks.statistics.ranks.detection import average_precision_chance
from activarium.tasks.statistics.ranks.halves import image_halves
from activarium.tasks.statistics.ranks.ranking import rank_units

CLASSES = 3


@st.composite
def recordings(draw):
    images = draw(st.integers(4, 40))
    value = draw(st.sampled_from([st.floats(-100, 100, width=32), st.integers(-2, 3).map(float)]))
    responses = draw(hnp.arrays(np.float32, (2, images), elements=value))
    codes = st.integers(0, CLASSES - 1)
    label = draw(hnp.arrays(np.int64, images, elements=codes))
    return responses, label, draw(hnp.arrays(np.int64, images, elements=st.integers(0, 1)))


@given(recordings())
@settings(deadline=None, max_examples=60)
def test_detection__average_precision_equals_scikit_learn_on_all_and_on_held_out_images(recording):
    responses, label, half = recording
    found = rank_units(responses, label, CLASSES, half=half).detection
    for unit, x in enumerate(responses):
        for code in np.unique(label):
            expected = average_precision_score(label == code, x)
            assert found.average_precision[unit, code] == pytest.approx(expected, rel=1e-12)
        for chosen in range(2):
            first, second = found.held_class[unit, chosen]
            if first < 0:
                continue
            own, other = half == chosen, half != chosen
            area = [
                roc_auc_score(label[own] == code, x[own])
                if len({*(label[own] == code)}) == 2 == len({*(label[other] == code)})
                else -1
                for code in range(CLASSES)
            ]
            assert area[second] == pytest.approx(max(area), rel=1e-12)
            held = found.held[unit, chosen]
            truth = label[other] == first
            assert held[0] == pytest.approx(average_precision_score(truth, x[other]), rel=1e-12)
            assert held[3] == pytest.approx(roc_auc_score(truth, x[other]), rel=1e-12)
            assert held[4] == pytest.approx(
                roc_auc_score(label[other] == second, x[other]), rel=1e-12
            )


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_detection__image_order_changes_no_bit(recording, random):
    responses, label, half = recording
    order = np.array(random.sample(range(len(label)), len(label)))
    found = rank_units(responses, label, CLASSES, half=half).detection
    moved = rank_units(responses[:, order], label[order], CLASSES, half=half[order]).detection
    for name, value in found._asdict().items():
        np.testing.assert_array_equal(getattr(moved, name), value, name)


@pytest.mark.parametrize("kind", ["continuous", "ties", "zeros"])
def test_average_precision_chance__is_the_mean_over_permuted_labels(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=30).astype(np.float32)
    x = {"continuous": x, "ties": np.round(x), "zeros": np.maximum(x, 0)}[kind]
    label = np.repeat([0, 1, 2], [4, 10, 16])
    found = rank_units(x[None], label, 3, half=np.arange(30) % 2).detection
    chance = average_precision_chance(np.array([4, 10, 16]), 30, found.harmonic)[0]
    permuted = [
        [average_precision_score(order == code, x) for code in range(3)]
        for order in (rng.permutation(label) for _ in range(1_000))
    ]
    error = np.std(permuted, axis=0) / np.sqrt(1_000)
    assert (np.abs(np.mean(permuted, axis=0) - chance) < 4 * error).all()


def test_detection__by_hand():
    # From the strongest down: b, a, b, a, c, c; the two c tie.
    x = np.array([[4, 2, 5, 3, 0, 0]], np.float32)
    label = np.array([0, 0, 1, 1, 2, 2])
    ranks = rank_units(x, label, 3, half=np.array([0, 1, 0, 1, 0, 1]))
    found = ranks.detection
    np.testing.assert_allclose(found.average_precision[0], [0.5, (1 + 2 / 3) / 2, 2 / 6])
    np.testing.assert_allclose(
        found.best_f1[0], [2 * 2 / (2 + 4), 2 * 2 / (2 + 3), 2 * 2 / (2 + 6)]
    )
    np.testing.assert_array_equal(ranks.at_rank[0], [2, 3, 0])
    np.testing.assert_allclose(found.top[0], [0.5, 0.5, 0])
    assert found.harmonic[0] == pytest.approx(1 + 1 / 2 + 1 / 3 + 1 / 4 + 2 / 6)


def test_detection__a_perfect_detector_of_a_small_class_has_a_top_precision_of_one():
    label = np.repeat([0, 1], [5, 200])
    x = (label == 0).astype(np.float32)[None]
    found = rank_units(x, label, 2, half=np.arange(205) % 2, top_images=60).detection
    assert found.top[0, 0] == 1
    assert found.average_precision[0, 0] == 1


def test_image_halves__have_half_of_each_class_by_id_and_seed():
    code = np.repeat([0, 1, 2], [10, 7, 4])
    place = np.random.default_rng(0).permutation(21)
    half = image_halves(code, place, seed=1)
    for each in range(3):
        assert abs((2 * half[code == each] - 1).sum()) <= 1
    order = np.random.default_rng(2).permutation(21)
    np.testing.assert_array_equal(image_halves(code[order], place[order], seed=1), half[order])
    assert (image_halves(code, place, seed=2) != half).any()


def test_image_halves__keep_groups_whole():
    group = np.arange(60) // 5
    half = image_halves(np.arange(60) // 20, np.arange(60), seed=0, group=group)
    for each in range(12):
        assert len(set(half[group == each])) == 1
    for each in range(3):
        assert half[each * 20 : each * 20 + 20].sum() == 10
