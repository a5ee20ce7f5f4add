"""Class moments against NumPy in float64, and their merging over images."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from activarium.tasks.statistics.merged_moments import combine_moments, rest_moments
from activarium.tasks.statistics.moments import class_moments

CLASSES = 4
FIELDS = ("count", "mean", "m2", "low", "high")


def assert_as_numpy(moments, responses, label, n_classes=CLASSES):
    exact = responses.astype(np.longdouble)
    for c in range(n_classes):
        part = exact[:, label == c]
        assert moments.count[c] == part.shape[1]
        if part.shape[1] == 0:
            assert np.isnan(moments.mean[:, c]).all()
            assert not moments.m2[:, c].any()
            continue
        mean = part.mean(axis=1)
        scale = np.abs(part).max(axis=1).astype(float)
        error = np.abs(moments.mean[:, c] - mean).astype(float)
        assert (error <= 1e-14 * scale).all()
        m2 = ((part - mean[:, None]) ** 2).sum(axis=1).astype(float)
        np.testing.assert_allclose(moments.m2[:, c], m2, rtol=1e-9, atol=0)
    np.testing.assert_array_equal(moments.low, responses.min(axis=1))
    np.testing.assert_array_equal(moments.high, responses.max(axis=1))


def assert_same(one, other, rtol=1e-9):
    scale = np.maximum(np.abs(one.low), np.abs(one.high)).max(initial=0.0)
    for field in FIELDS:
        # Means may cancel, so they are held to the size of the responses.
        atol = {"mean": 1e-13 * scale, "m2": 1e-20 * scale**2}.get(field, 0.0)
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=rtol, atol=atol)


@st.composite
def recordings(draw):
    images = draw(st.integers(2, 40))
    value = draw(
        st.sampled_from(
            [
                st.floats(-1e4, 1e4, width=32),
                st.integers(-3, 3).map(float),
                st.floats(9999, 10001, width=32),
            ]
        )
    )
    responses = draw(hnp.arrays(np.float32, (3, images), elements=value))
    label = draw(hnp.arrays(np.int32, images, elements=st.integers(0, CLASSES - 1)))
    return responses, label


@pytest.mark.parametrize("images", [5, 57, 1000, 5001])
@pytest.mark.parametrize(
    ("mean", "sd"), [(0, 1), (1e4, 0.1), (-1e4, 0.1), (0, 1e30), (1e30, 1e29), (0, 1e-42)]
)
def test_class_moments__equal_numpy(images, mean, sd):
    rng = np.random.default_rng(images)
    responses = (mean + sd * rng.standard_normal((5, images))).astype(np.float32)
    label = rng.integers(0, CLASSES - 1, images)  # the last class stays empty
    label[0] = 0
    assert_as_numpy(class_moments(responses, label, CLASSES), responses, label)


def test_class_moments__hand_worked_case():
    responses = np.array([[1, 2, 3, 10, 20, -4]], np.float32)
    moments = class_moments(responses, np.array([0, 0, 0, 1, 1, 2]), 4)
    np.testing.assert_array_equal(moments.count, [3, 2, 1, 0])
    np.testing.assert_array_equal(moments.mean, [[2, 15, -4, np.nan]])
    np.testing.assert_array_equal(moments.m2, [[2, 50, 0, 0]])
    np.testing.assert_array_equal(moments.low, [-4])
    np.testing.assert_array_equal(moments.high, [20])
    np.testing.assert_allclose(moments.class_sd, [[1, np.sqrt(50), np.nan, np.nan]])


def test_overall__equals_numpy_over_all_images():
    rng = np.random.default_rng(1)
    responses = (1e4 + 0.1 * rng.standard_normal((6, 501))).astype(np.float32)
    moments = class_moments(responses, rng.integers(0, CLASSES, 501), CLASSES)
    exact = responses.astype(np.float64)
    np.testing.assert_allclose(moments.overall_mean, exact.mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(moments.overall_sd, exact.std(axis=1, ddof=1), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45, 12345.678])
def test_class_moments__constant_unit_is_exact(value):
    responses = np.full((2, 1237), value, np.float32)
    moments = class_moments(responses, np.arange(1237) % 3, CLASSES)
    np.testing.assert_array_equal(moments.mean[:, :3], float(np.float32(value)))
    np.testing.assert_array_equal(moments.m2, 0)
    np.testing.assert_array_equal(moments.overall_mean, float(np.float32(value)))
    np.testing.assert_array_equal(moments.overall_sd, 0)
    assert moments.is_constant.all()


@pytest.mark.parametrize("zeros", [[0.0, -0.0], [-0.0, 0.0], [0.0, 0.0, -0.0], [-0.0, 0.0, 0.0]])
def test_class_moments__zeros_of_both_signs_are_low_below_and_high_above(zeros):
    responses = np.array([zeros, zeros[::-1]], np.float32)
    moments = class_moments(responses, np.arange(len(zeros)) % 2, 2)
    np.testing.assert_array_equal(np.signbit(moments.low), True)
    np.testing.assert_array_equal(np.signbit(moments.high), False)
    np.testing.assert_array_equal([moments.low, moments.high], 0)
    assert moments.is_constant.all()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_class_moments__zeros_of_one_sign_keep_it(zero):
    moments = class_moments(np.full((1, 20), zero, np.float32), np.zeros(20, int), 1)
    assert np.signbit([moments.low[0], moments.high[0]]).tolist() == [np.signbit(zero)] * 2


@pytest.mark.parametrize("images", [1, 2, 7, 8, 9, 33, 100])
def test_class_moments__low_and_high_are_found_at_any_place(images):
    huge, tiny = np.finfo(np.float32).max, np.float32(1e-45)
    pairs = [(-huge, huge), (-1e30, 1e30), (-tiny, tiny), (-huge, -tiny), (tiny, huge)]
    for place in range(images):
        for one, other in pairs:
            responses = np.full((2, images), [[other], [one]], np.float32)
            responses[:, place] = one, other
            moments = class_moments(responses, np.zeros(images, int), 1)
            np.testing.assert_array_equal(moments.low, responses.min(axis=1))
            np.testing.assert_array_equal(moments.high, responses.max(axis=1))


def wide(units, images):
    """Responses whose sums round: each order of addition has other last digits."""
    return np.exp(8 * np.random.default_rng(units).standard_normal((units, images))).astype(
        np.float32
    )


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5, 11])
def test_class_moments__mean_adds_images_in_their_order(units):
    responses, label = wide(units, 1003), np.arange(1003) % 3
    moments = class_moments(responses, label, 3)
    for c in range(3):
        own = responses[:, label == c].astype(np.float64)
        np.testing.assert_array_equal(moments.mean[:, c], own.cumsum(axis=1)[:, -1] / own.shape[1])


@pytest.mark.parametrize("block", [1, 2, 3, 5, 7])
def test_class_moments__units_beside_a_unit_do_not_change_it(block):
    responses, label = wide(11, 333), np.arange(333) % CLASSES
    whole = class_moments(responses, label, CLASSES)
    parts = [class_moments(responses[i : i + block], label, CLASSES) for i in range(0, 11, block)]
    for field in ("mean", "m2", "low", "high"):
        pieces = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(pieces, getattr(whole, field))


def test_class_moments__no_units_is_empty():
    moments = class_moments(np.empty((0, 6), np.float32), np.arange(6) % 2, 2)
    assert [getattr(moments, field).shape for field in FIELDS] == [(2,), (0, 2), (0, 2), (0,), (0,)]


def test_class_moments__what_is_kept_stays_with_its_moments():
    responses, label = wide(3, 60), np.arange(60) % 2
    one = class_moments(responses[:, :30], label[:30], 2)
    other = class_moments(responses[:, 30:], label[30:], 2)
    names = ("is_constant", "overall_mean", "between_m2", "within_m2", "overall_m2")
    for name in names:
        assert getattr(one, name) is getattr(one, name)
    merged, whole = combine_moments(one, other), class_moments(responses, label, 2)
    for name in names:
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-12)


def test_class_moments__one_image_has_no_sd():
    moments = class_moments(np.array([[3.0]], np.float32), np.array([1]), 2)
    np.testing.assert_array_equal(moments.overall_mean, [3.0])
    assert np.isnan(moments.overall_sd).all()


def test_class_moments__no_images_is_the_neutral_element():
    empty = class_moments(np.empty((2, 0), np.float32), np.empty(0, np.int64), CLASSES)
    assert np.isnan(empty.overall_mean).all()
    assert empty.is_constant.all()
    rng = np.random.default_rng(2)
    responses = rng.standard_normal((2, 30)).astype(np.float32)
    full = class_moments(responses, rng.integers(0, 3, 30), CLASSES)
    for merged in (combine_moments(empty, full), combine_moments(full, empty)):
        assert_same(merged, full, rtol=0)


@given(recordings(), st.data())
@settings(deadline=None, max_examples=40)
def test_combine_moments__any_split_equals_the_whole(recording, data):
    responses, label = recording
    cuts = sorted(data.draw(st.lists(st.integers(0, label.size), max_size=4)))
    parts = zip([0, *cuts], [*cuts, label.size], strict=True)
    blocks = [class_moments(responses[:, a:b], label[a:b], CLASSES) for a, b in parts]
    assert_same(reduce(combine_moments, blocks), class_moments(responses, label, CLASSES))


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_class_moments__do_not_depend_on_image_order(recording, random):
    responses, label = recording
    order = list(range(label.size))
    random.shuffle(order)
    shuffled = class_moments(responses[:, order], label[order], CLASSES)
    assert_same(shuffled, class_moments(responses, label, CLASSES))


@given(recordings(), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=25)
def test_class_moments__follow_a_relabelling_of_classes(recording, names):
    responses, label = recording
    names = np.array(names)
    moments = class_moments(responses, label, CLASSES)
    relabelled = class_moments(responses, names[label], CLASSES)
    np.testing.assert_array_equal(relabelled.mean[:, names], moments.mean)
    np.testing.assert_array_equal(relabelled.m2[:, names], moments.m2)
    np.testing.assert_array_equal(relabelled.count[names], moments.count)


@pytest.mark.parametrize("block", [1, 3, 4])
def test_class_moments__do_not_depend_on_block_size(block):
    rng = np.random.default_rng(block)
    responses = rng.standard_normal((11, 333)).astype(np.float32)
    label = rng.integers(0, CLASSES, 333)
    whole = class_moments(responses, label, CLASSES)
    for start in range(0, 11, block):
        part = class_moments(responses[start : start + block], label, CLASSES)
        np.testing.assert_array_equal(part.mean, whole.mean[start : start + block])
        np.testing.assert_array_equal(part.m2, whole.m2[start : start + block])


@pytest.mark.parametrize(("mean", "sd"), [(0, 1), (1e4, 0.1)])
def test_rest_moments__equal_numpy_even_for_a_small_rest(mean, sd):
    rng = np.random.default_rng(4)
    responses = (mean + sd * rng.standard_normal((5, 4000))).astype(np.float32)
    label = np.ones(4000, np.int64)
    label[[5, 17, 99]] = [0, 2, 2]
    moments = class_moments(responses, label, CLASSES)
    count, rest_offset, rest_m2 = rest_moments(moments)
    first = responses[:, label == 0].astype(np.float64).mean(axis=1)
    for c in range(CLASSES):
        rest = responses[:, label != c].astype(np.float64)
        assert count[c] == rest.shape[1]
        np.testing.assert_allclose(first + rest_offset[:, c], rest.mean(axis=1), rtol=1e-11)
        m2 = ((rest - rest.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        np.testing.assert_allclose(rest_m2[:, c], m2, rtol=1e-9)


def test_rest_moments__nothing_outside_is_nan_and_zero():
    moments = class_moments(np.array([[1, 2]], np.float32), np.array([0, 0]), 2)
    count, offset, m2 = rest_moments(moments)
    np.testing.assert_array_equal(count, [0, 2])
    np.testing.assert_array_equal(offset, [[np.nan, 0.0]])
    np.testing.assert_array_equal(m2, [[0, 0.5]])


def test_class_moments__label_out_of_range_is_an_error():
    with pytest.raises(ValueError, match=r"class codes must be 0 to 1, got -1 to 1"):
        class_moments(np.zeros((1, 2), np.float32), np.array([-1, 1]), 2)
