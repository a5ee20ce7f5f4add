"""Exemplars against numpy's stable sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from activarium.tasks.statistics.units.exemplars import extreme_images


def first_of_a_stable_sort(values, images, ranks, *, least):
    order = images[np.argsort(values[images] if least else -values[images], kind="stable")][:ranks]
    return np.pad(order, (0, ranks - len(order)), constant_values=-1)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    units=st.integers(1, 4),
    images=st.integers(0, 25),
    ranks=st.integers(1, 6),
    class_ranks=st.integers(0, 4),
    least=st.booleans(),
)
def test_extreme_images__are_the_first_of_a_stable_sort(
    data, units, images, ranks, class_ranks, least
):
    few = st.sampled_from([-2.0, -0.0, 0.0, 0.5, 3.0])
    responses = data.draw(arrays(np.float32, (units, images), elements=few))
    label = data.draw(arrays(np.int32, images, elements=st.integers(-1, 2)))
    found = extreme_images(responses, label, 3, ranks=ranks, class_ranks=class_ranks, least=least)
    for unit, values in enumerate(responses):
        expected = first_of_a_stable_sort(values, np.arange(images), ranks, least=least)
        np.testing.assert_array_equal(found.overall[unit], expected)
        for code in range(3):
            own = np.flatnonzero(label == code)
            expected = first_of_a_stable_sort(values, own, class_ranks, least=least)
            np.testing.assert_array_equal(found.by_class[unit, code], expected)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), images=st.integers(0, 25), ranks=st.integers(0, 6), least=st.booleans())
def test_extreme_images__equals_are_ranked_by_any_order(data, images, ranks, least):
    few = st.sampled_from([-np.inf, -2.0, -0.0, 0.0, 1e-45, 3.0, np.inf])
    responses = data.draw(arrays(np.float32, (2, images), elements=few))
    label = data.draw(arrays(np.int32, images, elements=st.integers(-1, 2)))
    order = np.array(data.draw(st.permutations(range(images))), np.int64)
    found = extreme_images(
        responses, label, 3, order=order, ranks=ranks, class_ranks=ranks, least=least
    )
    for unit, values in enumerate(responses):
        expected = first_of_a_stable_sort(values, order, ranks, least=least)
        np.testing.assert_array_equal(found.overall[unit], expected)
        for code in range(3):
            own = order[label[order] == code]
            expected = first_of_a_stable_sort(values, own, ranks, least=least)
            np.testing.assert_array_equal(found.by_class[unit, code], expected)


@pytest.mark.parametrize("least", [False, True])
@pytest.mark.parametrize("kind", ["ascending", "descending", "few levels", "constant"])
def test_extreme_images__do_not_depend_on_where_images_lie(kind, least):
    rng = np.random.default_rng(3)
    images = 500
    responses = {
        "ascending": np.arange(images),
        "descending": -np.arange(images),
        "few levels": rng.integers(0, 4, images),
        "constant": np.zeros(images),
    }[kind].astype(np.float32)[None]
    label = rng.integers(-1, 5, images)
    kept = {"ranks": 8, "class_ranks": 3, "least": least}
    as_they_are = extreme_images(responses, label, 5, **kept)
    # Image moved[k] of the old matrix is image k of the new one; `order` undoes it.
    moved = rng.permutation(images)
    found = extreme_images(responses[:, moved], label[moved], 5, order=np.argsort(moved), **kept)
    np.testing.assert_array_equal(moved[found.overall], as_they_are.overall)
    np.testing.assert_array_equal(moved[found.by_class], as_they_are.by_class)
    expected = first_of_a_stable_sort(responses[0], np.arange(images), 8, least=least)
    np.testing.assert_array_equal(as_they_are.overall[0], expected)


def test_extreme_images__an_earlier_place_beats_the_last_one_kept():
    # Images 0 to 3 tie; they come as 2, 0, 3, 1, so image 2 enters above those already kept.
    responses = np.array([[1, 1, 1, 1, 0]], np.float32)
    order = np.array([2, 4, 0, 3, 1])
    found = extreme_images(responses, np.zeros(5, int), 1, order=order, ranks=2, class_ranks=3)
    assert found.overall.tolist() == [[2, 0]]
    assert found.by_class.tolist() == [[[2, 0, 3]]]


@pytest.mark.parametrize("least", [False, True])
def test_extreme_images__no_ranks_keep_nothing(least):
    responses = np.array([[-np.inf, 0, np.inf]], np.float32)
    found = extreme_images(responses, np.zeros(3, int), 1, ranks=0, class_ranks=0, least=least)
    assert found.overall.shape == (1, 0)
    assert found.by_class.shape == (1, 1, 0)


def test_extreme_images__take_views_and_leave_the_order_alone():
    rng = np.random.default_rng(0)
    stored, label = rng.standard_normal((60, 4)).astype(np.float32), rng.integers(0, 3, 60)
    order = rng.permutation(60)
    before = order.copy()
    kept = {"order": order, "ranks": 4, "class_ranks": 2}
    found = extreme_images(stored.T, label, 3, **kept)
    copied = extreme_images(np.ascontiguousarray(stored.T), label, 3, **kept)
    np.testing.assert_array_equal(found.overall, copied.overall)
    np.testing.assert_array_equal(found.by_class, copied.by_class)
    np.testing.assert_array_equal(order, before)


def test_extreme_images__by_hand():
    responses = np.array([[1, 5, 5, 0, 2]], np.float32)
    label = np.array([0, 1, 0, -1, 1])
    most = extreme_images(responses, label, 2, ranks=3, class_ranks=1)
    assert most.overall.tolist() == [[1, 2, 4]]
    assert most.by_class.tolist() == [[[2], [1]]]
    least = extreme_images(responses, label, 2, ranks=2, class_ranks=1, least=True)
    assert least.overall.tolist() == [[3, 0]]
    assert least.by_class.tolist() == [[[0], [4]]]


def test_extreme_images__constant_unit_takes_the_first_images():
    found = extreme_images(
        np.zeros((1, 9), np.float32), np.zeros(9, int), 1, ranks=3, class_ranks=2
    )
    assert found.overall.tolist() == [[0, 1, 2]]
    assert found.by_class.tolist() == [[[0, 1]]]


def test_extreme_images__infinite_responses_are_ranked():
    responses = np.array([[-np.inf, 1, np.inf]], np.float32)
    found = extreme_images(responses, np.zeros(3, int), 1, ranks=5, class_ranks=0)
    assert found.overall.tolist() == [[2, 1, 0, -1, -1]]


def test_extreme_images__no_class_and_no_image():
    found = extreme_images(
        np.empty((2, 0), np.float32), np.empty(0, int), 0, ranks=2, class_ranks=2
    )
    assert found.overall.tolist() == [[-1, -1], [-1, -1]]
    assert found.by_class.shape == (2, 0, 2)


def test_exemplars__are_the_first_of_a_stable_sort(toy):
    frame, valid = toy.frame("exemplars"), np.flatnonzero(toy.valid)
    overall = frame[frame["class"].isna()]
    ids = toy.array("image")
    for unit, name in enumerate(toy.array("unit")):
        for extreme, sign in (("most", -1), ("least", 1)):
            rows = overall[(overall.unit == name) & (overall.extreme == extreme)]
            order = np.argsort(sign * toy.responses[:, unit], kind="stable")[:8]
            assert rows.exemplar_rank.tolist() == list(range(1, 9))
            assert rows.image_index.tolist() == valid[order].tolist()
            assert rows.image.tolist() == ids[valid[order]].tolist()
            assert rows.response.tolist() == toy.responses[order, unit].tolist()


def test_exemplars__within_a_class_hold_only_its_images(toy):
    frame = toy.frame("exemplars")
    frame = frame[frame["class"].notna()]
    names = dict(enumerate(toy.array("class")))
    label = toy.array("label")
    assert (frame["class"] == frame.image_index.map(lambda row: names[label[row]])).all()
    sizes = frame.groupby(["unit", "extreme", "class"]).size()
    assert set(sizes.xs("eel", level="class")) == {1}
    assert set(sizes.xs("bee", level="class")) == {3}
    assert "dodo" not in set(frame["class"])
