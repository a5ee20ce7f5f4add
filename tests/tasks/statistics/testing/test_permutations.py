"""Effects under permuted labels against SciPy, scikit-learn and float64 sums, and at their edges."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.feature_selection import f_classif

from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.testing import permutations
from activarium.tasks.statistics.testing.label_permutations import permuted_positions
from activarium.tasks.statistics.testing.permutations import permuted_effects
from activarium.tasks.statistics.units.preference import anova

CLASSES = 5


def effects(responses, label, n_classes=CLASSES, size=20, seed=11):
    return permuted_effects(responses, label, n_classes, permutations=size, seed=seed)


def row(values):
    return np.array([values], np.float32)


def exact_eta2(values, label):
    """Return eta squared in float64, about the mean."""
    value = values.astype(np.float64) / np.abs(values).max()
    value -= value.mean()
    count = np.bincount(label)
    filled = count > 0
    sums = np.bincount(label, value)[filled]
    return (sums**2 / count[filled]).sum() / (value**2).sum()


def expected_effects(responses, label, size=20, seed=11):
    orders = [permuted_positions(label.size, seed=seed, index=b) for b in range(size)]
    return np.array([[exact_eta2(values, label[o]) for o in orders] for values in responses])


@pytest.fixture(scope="module")
def recording():
    """Ties, offsets, extreme sizes; class 3 is empty and class 4 has one image."""
    rng = np.random.default_rng(7)
    images = 1611
    label = rng.choice([0, 1, 2], images, p=[0.2, 0.5, 0.3])
    label[100] = 4
    noise = rng.standard_normal((10, images))
    noise[1] = np.maximum(noise[1] + 0.5 * (label == 1), 0)
    noise[2] = np.round(noise[2]) + label
    noise[3] = 1e4 + 0.1 * noise[3] + 0.02 * label
    noise[4] *= 1e30
    noise[5] *= 1e-43
    noise[6] = 100.0 * label + noise[6]
    noise[7] = label == 2
    noise[8] = np.maximum(noise[8] - 3, 0)
    noise[9] = 0
    noise[9, 17] = 3e38
    return noise.astype(np.float32), label


@pytest.fixture(scope="module")
def result(recording):
    return effects(*recording)


def test_observed__equals_the_analysis_of_variance(recording, result):
    eta2 = anova(class_moments(*recording, CLASSES)).eta2
    np.testing.assert_allclose(result.observed, eta2, rtol=1e-9)


def test_observed__equals_scipy_and_scikit_learn(recording, result):
    responses, label = recording
    between, within = 4 - 1, label.size - 4
    centred = [0, 1, 2, 6]
    f, _ = f_classif(responses[centred].T.astype(np.float64), label)
    np.testing.assert_allclose(result.observed[centred], f / (f + within / between), rtol=1e-9)
    for unit in (0, 1, 2, 3, 4, 5, 6, 8):
        values = responses[unit].astype(np.float64) / np.abs(responses[unit]).max()
        values -= values.mean()
        f = stats.f_oneway(*(values[label == c] for c in np.unique(label))).statistic
        np.testing.assert_allclose(result.observed[unit], f / (f + within / between), rtol=1e-9)


def test_permuted__equals_float64_sums_of_the_permuted_labels(recording, result):
    assert result.permuted.dtype == np.float32
    np.testing.assert_allclose(result.permuted, expected_effects(*recording), rtol=1e-6)


def test_effects__hand_worked_case():
    # Means 2, 6, 4 about 4: between 16; squares about 4: 9 + 1 + 1 + 9 + 1 + 1.
    got = effects(row([1, 3, 5, 7, 3, 5]), np.array([0, 0, 1, 1, 2, 2]), 3, size=200)
    np.testing.assert_allclose(got.observed, [16 / 22], rtol=1e-12)
    # Pairs of six values: sums s, t and 24 - s - t give between 0 to 18, in steps.
    steps = np.unique(np.round(got.permuted * 22, 4))
    assert set(steps.tolist()) <= set(range(19))
    assert steps.size > 3


def test_permuted__error_stays_below_a_millionth_for_a_million_images():
    rng = np.random.default_rng(1)
    label = np.sort(rng.choice(10, 1_000_000, p=[0.55] + [0.05] * 9))
    noise = rng.standard_normal((6, label.size), dtype=np.float32)
    noise[1] = 2 * (label == 3) + 0.01 * noise[1]
    noise[2] = np.maximum(noise[2], 0)
    noise[3] = np.maximum(noise[3] - 4, 0)
    noise[4] = 1e4 + 0.1 * noise[4]
    noise[5] = noise[5] > 0.3
    got = effects(noise, label, 10, size=3)
    np.testing.assert_allclose(got.permuted, expected_effects(noise, label, 3), rtol=1e-6)


@pytest.mark.parametrize("classes", [100, 1000, 66_000])
def test_permuted__many_classes_equal_float64_sums(classes):
    rng = np.random.default_rng(2)
    images = 2 * classes + 3001
    label = np.concatenate((np.arange(classes), rng.integers(0, classes, images - classes)))
    responses = rng.standard_normal((2, images), dtype=np.float32)
    got = effects(responses, label, classes, size=2)
    np.testing.assert_allclose(got.permuted, expected_effects(responses, label, 2), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
@pytest.mark.parametrize("images", [2, 3, 1001])
def test_effects__constant_unit_is_zero(value, images):
    got = effects(row([value] * images), np.arange(images) % 3)
    np.testing.assert_array_equal(got.observed, [0])
    np.testing.assert_array_equal(got.permuted, np.zeros((1, 20)))


def test_effects__zeros_of_both_signs_are_constant():
    got = effects(row([0.0, -0.0] * 10), np.arange(20) % 3)
    np.testing.assert_array_equal(got.observed, [0])
    np.testing.assert_array_equal(got.permuted, np.zeros((1, 20)))


@pytest.mark.parametrize(
    ("values", "label"),
    [([1, 2, 5], [1, 1, 1]), ([1, 3], [0, 1]), ([1, 2, 5], [4, 0, 2]), ([7], [2]), ([], [])],
    ids=["one class", "two images", "an image per class", "one image", "no image"],
)
def test_effects__nothing_to_compare_is_zero(values, label):
    got = effects(row(values), np.array(label, np.int64))
    np.testing.assert_array_equal(got.observed, [0])
    np.testing.assert_array_equal(got.permuted, np.zeros((1, 20)))


def test_effects__no_variance_within_classes_is_one():
    got = effects(row([1, 1, 2, 2, 2]), np.array([0, 0, 1, 1, 2]), size=300)
    np.testing.assert_allclose(got.observed, [1], rtol=1e-12)
    assert got.permuted.max() == pytest.approx(1, rel=1e-6)
    assert (got.permuted <= 1).all()


def test_effects__no_units_and_no_permutations_have_their_shapes():
    label = np.arange(9) % 3
    assert effects(np.empty((0, 9), np.float32), label).permuted.shape == (0, 20)
    got = effects(row(np.arange(9)), label, size=0)
    assert got.permuted.shape == (1, 0)
    assert got.observed[0] > 0


def test_effects__one_seed_is_one_result_and_another_seed_another(recording, result):
    again = effects(*recording)
    np.testing.assert_array_equal(again.permuted, result.permuted)
    other = effects(*recording, seed=12)
    np.testing.assert_array_equal(other.observed, result.observed)
    assert (other.permuted[:3] != result.permuted[:3]).all()


@pytest.mark.parametrize("block", [1, 3, 7])
def test_effects__do_not_depend_on_block_size(recording, result, block):
    responses, label = recording
    for start in range(0, len(responses), block):
        part = effects(responses[start : start + block], label)
        np.testing.assert_array_equal(part.observed, result.observed[start : start + block])
        np.testing.assert_array_equal(part.permuted, result.permuted[start : start + block])


def test_effects__units_beyond_one_pass_are_the_same(recording, result):
    responses, label = recording
    got = effects(np.tile(responses, (30, 1)), label)
    np.testing.assert_array_equal(got.observed, np.tile(result.observed, 30))
    np.testing.assert_array_equal(got.permuted, np.tile(result.permuted, (30, 1)))


@pytest.mark.parametrize("batch", [1, 3, 19])
def test_effects__do_not_depend_on_the_batch_of_permutations(recording, result, batch, monkeypatch):
    monkeypatch.setattr(permutations, "_batch_size", lambda *_: batch)
    np.testing.assert_array_equal(effects(*recording).permuted, result.permuted)


def test_effects__place_makes_the_image_order_irrelevant(recording, result):
    responses, label = recording
    order = np.random.default_rng(3).permutation(label.size)
    moved = permuted_effects(
        responses[:, order], label[order], CLASSES, permutations=20, seed=11, place=order
    )
    # Means are rounded in the order of the images, and deviations with them.
    np.testing.assert_allclose(moved.permuted, result.permuted, rtol=1e-6)


def test_effects__first_permutations_are_those_of_a_longer_run(recording, result):
    got = effects(*recording, size=7)
    np.testing.assert_array_equal(got.permuted, result.permuted[:, :7])


def test_effects__do_not_depend_on_the_memory_order(recording, result):
    responses, label = recording
    got = effects(np.asfortranarray(responses), label.astype(np.int16))
    np.testing.assert_array_equal(got.observed, result.observed)
    np.testing.assert_array_equal(got.permuted, result.permuted)


@st.composite
def recordings(draw):
    images = draw(st.integers(2, 40))
    value = draw(
        st.sampled_from([st.integers(-3, 3).map(float), st.floats(-(2.0**99), 2.0**99, width=32)])
    )
    responses = draw(hnp.arrays(np.float32, (3, images), elements=value))
    label = draw(hnp.arrays(np.int64, images, elements=st.integers(0, CLASSES - 1)))
    return responses, label


@given(recordings(), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=60)
def test_effects__names_of_classes_change_no_bit(recording, names):
    responses, label = recording
    first = effects(responses, label, size=5)
    second = effects(responses, np.array(names)[label], size=5)
    np.testing.assert_array_equal(first.observed, second.observed)
    np.testing.assert_array_equal(first.permuted, second.permuted)


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_observed__does_not_depend_on_image_order(recording, random):
    responses, label = recording
    order = list(range(label.size))
    random.shuffle(order)
    first, second = effects(responses, label), effects(responses[:, order], label[order])
    np.testing.assert_allclose(first.observed, second.observed, rtol=1e-9, atol=1e-12)


@given(recordings())
@settings(deadline=None, max_examples=60)
def test_effects__are_shares_for_any_recording(recording):
    got = effects(*recording, size=5)
    for values in got:
        assert np.all((values >= 0) & (values <= 1))


def test_effects__memory_does_not_grow_with_the_images():
    label = np.arange(1_000_000) % 10
    responses = np.random.default_rng(0).standard_normal((2, label.size), dtype=np.float32)
    tracemalloc.start()
    effects(responses, label, 10, size=34)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 120e6


@pytest.mark.parametrize(
    ("size", "seed", "match"),
    [(-1, 0, "permutations must"), (1, -1, "seed must"), (1, 1 << 64, "seed must")],
)
def test_effects__arguments_out_of_range_are_an_error(recording, size, seed, match):
    with pytest.raises(ValueError, match=match):
        effects(*recording, size=size, seed=seed)


def test_effects__class_out_of_range_is_an_error(recording):
    with pytest.raises(ValueError, match="class codes must be"):
        effects(*recording, 3)
