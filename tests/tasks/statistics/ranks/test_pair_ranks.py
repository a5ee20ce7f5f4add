"""U and tie sums of pairs of classes against SciPy, on both ways to compute them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from activarium.tasks.statistics.ranks import pair_ranks
from activarium.tasks.statistics.ranks.pair_ranks import all_pairs, pair_u

CLASSES = 5
WAYS = ["counting", "merging"]


def ranked(way, responses, label, n_classes=CLASSES, pairs=None):
    """`pair_u` by one of its two ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_ranks, "_merging_is_faster", lambda *_: way == "merging")
        return pair_u(responses, label, n_classes, pairs=pairs)


def reference(responses, label, pair):
    u = np.zeros((len(responses), len(pair)))
    tie_sum = np.zeros_like(u)
    for unit, values in enumerate(responses):
        for p, (a, b) in enumerate(pair):
            one, other = values[label == a], values[label == b]
            if one.size and other.size:
                u[unit, p] = stats.mannwhitneyu(one, other, method="asymptotic").statistic
            t = np.unique(np.concatenate([one, other]), return_counts=True)[1].astype(float)
            tie_sum[unit, p] = (t**3 - t).sum()
    return u, tie_sum


def assert_as_scipy(responses, label, n_classes=CLASSES):
    u, tie_sum = reference(responses, label, all_pairs(n_classes))
    for way in WAYS:
        found = ranked(way, responses, label, n_classes)
        np.testing.assert_array_equal(found.u, u, way)
        np.testing.assert_array_equal(found.tie_sum, tie_sum, way)


def units(images, scale=1.0, seed=0):
    """Units with no ties, zeros by the dozen, few values, pairs of equal values, and none."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((8, images)) * scale
    values[1] = np.maximum(values[1], 0)
    values[2] = np.minimum(values[2], 0)
    values[3] = np.round(rng.standard_normal(images))
    values[4] = 5
    values[5] = 1e4 + 0.1 * rng.standard_normal(images)
    values[6] = rng.permutation(np.repeat(values[6], 2)[:images])
    values[7] = rng.integers(0, max(images // 3, 1), images)
    return values.astype(np.float32)


@st.composite
def recordings(draw):
    images = draw(st.integers(1, 30))
    value = draw(
        st.sampled_from(
            [
                st.floats(-(2.0**100), 2.0**100, width=32),
                st.integers(-3, 3).map(float),
                st.integers(0, 20).map(float),
                st.floats(-(2.0**-130), 2.0**-130, width=32),
                st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0]),
            ]
        )
    )
    responses = draw(hnp.arrays(np.float32, (2, images), elements=value))
    label = draw(hnp.arrays(np.int32, images, elements=st.integers(0, CLASSES - 1)))
    return responses, label


@pytest.mark.parametrize("images", [1, 2, 3, 57, 1001])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-44])
def test_pair_u__equals_scipy(images, scale):
    label = np.random.default_rng(images).choice([0, 1, 2, 4], images, p=[0.1, 0.5, 0.3, 0.1])
    assert_as_scipy(units(images, scale, seed=images), label)


@pytest.mark.parametrize("n_classes", [70, 200])
def test_pair_u__many_classes_equal_rank_sums_of_each_pair(n_classes):
    rng = np.random.default_rng(n_classes)
    responses, label = units(1500, seed=n_classes), rng.integers(0, n_classes, 1500)
    found = {way: ranked(way, responses, label, n_classes) for way in WAYS}
    for p in rng.choice(len(found["counting"].pair), 60, replace=False):
        a, b = found["counting"].pair[p]
        either = (label == a) | (label == b)
        ranks = stats.rankdata(responses[:, either].astype(float), axis=1)
        n = (label == a).sum()
        u = ranks[:, label[either] == a].sum(axis=1) - n * (n + 1) / 2
        np.testing.assert_array_equal(found["counting"].u[:, p], u)
    for one, other in zip(found["counting"], found["merging"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("way", WAYS)
def test_pair_u__hand_worked_case(way):
    # Class 0: 1, 3, 3; class 1: 3, 7; class 2: 1; class 3 is empty.
    responses, label = np.array([[3, 1, 3, 7, 1, 3]], np.float32), np.array([0, 0, 1, 1, 2, 0])
    found = ranked(way, responses, label, 4)
    assert found.pair.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    # 0 over 1: two ties. 0 over 2: two wins, one tie. 1 over 2: two wins.
    np.testing.assert_array_equal(found.u, [[1.0, 2.5, 0.0, 2.0, 0.0, 0.0]])
    # Three 3s: 24. Two 1s and two 3s: 12. Class 0 alone has two 3s: 6.
    np.testing.assert_array_equal(found.tie_sum, [[24.0, 12.0, 6.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("way", WAYS)
def test_pair_u__negative_zero_ties_with_zero(way):
    responses = np.array([[0.0, -0.0, 1.0, -1.0], [-0.0, 0.0, -0.0, -0.0]], np.float32)
    found = ranked(way, responses, np.array([0, 1, 0, 1]), 2)
    np.testing.assert_array_equal(found.u, [[3.5], [2.0]])
    np.testing.assert_array_equal(found.tie_sum, [[6.0], [60.0]])


@pytest.mark.parametrize("way", WAYS)
def test_pair_u__extremes_keep_their_order(way):
    tiny, huge = np.float32(1e-45), np.finfo(np.float32).max
    ordered = np.array([-huge, -1e30, -1, -tiny, 0, tiny, 2 * tiny, 1, 1e30, huge], np.float32)
    found = ranked(way, ordered[None, :], np.arange(10), 10)
    np.testing.assert_array_equal(found.u, np.zeros((1, 45)))
    found = ranked(way, ordered[None, ::-1].copy(), np.arange(10), 10)
    np.testing.assert_array_equal(found.u, np.ones((1, 45)))
    np.testing.assert_array_equal(found.tie_sum, np.zeros((1, 45)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.3, 1e30, 1e-45])
def test_pair_u__constant_unit_is_half_of_all_image_pairs(way, value):
    responses = np.full((1, 1007), value, np.float32)
    found = ranked(way, responses, np.arange(1007) % 2, 2)
    np.testing.assert_array_equal(found.u, [[504 * 503 / 2]])
    np.testing.assert_array_equal(found.tie_sum, [[1007.0**3 - 1007]])


@pytest.mark.parametrize("way", WAYS)
def test_pair_u__more_image_pairs_than_32_bits_hold(way):
    responses = np.arange(200_000, dtype=np.float32)[None]
    label = (responses[0] < 100_000).astype(np.int64)
    np.testing.assert_array_equal(ranked(way, responses, label, 2).u, [[1e10]])
    np.testing.assert_array_equal(ranked(way, responses, 1 - label, 2).u, [[0.0]])


def test_pair_u__listed_pairs_equal_those_of_all():
    rng = np.random.default_rng(0)
    responses, label = units(400), rng.integers(0, CLASSES, 400)
    every = ranked("counting", responses, label)
    chosen = np.array([7, 2, 2, 9])
    for way in WAYS:
        found = ranked(way, responses, label, pairs=every.pair[chosen])
        np.testing.assert_array_equal(found.pair, every.pair[chosen])
        np.testing.assert_array_equal(found.u, every.u[:, chosen])
        np.testing.assert_array_equal(found.tie_sum, every.tie_sum[:, chosen])


def test_pair_u__counts_for_all_pairs_and_merges_for_few(monkeypatch):
    seen = []
    choose = pair_ranks._merging_is_faster

    def watched(pair, count):
        seen.append(choose(pair, count))
        return seen[-1]

    monkeypatch.setattr(pair_ranks, "_merging_is_faster", watched)
    responses, label = units(1000), np.arange(1000) % 100
    pair_u(responses, label, 100)
    pair_u(responses, label, 100, pairs=np.array([[0, 1], [0, 99]]))
    assert seen == [False, True]


def test_pair_u__no_images_is_zero():
    found = pair_u(np.empty((3, 0), np.float32), np.empty(0, np.int64), 3)
    np.testing.assert_array_equal(found.u, np.zeros((3, 3)))
    np.testing.assert_array_equal(found.tie_sum, np.zeros((3, 3)))


@pytest.mark.parametrize("way", WAYS)
def test_pair_u__no_units_is_empty(way):
    found = ranked(way, np.empty((0, 3), np.float32), np.zeros(3, np.int64), 3)
    assert found.u.shape == found.tie_sum.shape == (0, 3)


def test_pair_u__one_class_has_no_pairs():
    found = pair_u(np.ones((2, 3), np.float32), np.zeros(3, np.int64), 1)
    assert found.pair.shape == (0, 2)
    assert found.u.shape == found.tie_sum.shape == (2, 0)


@pytest.mark.parametrize("way", WAYS)
def test_pair_u__leaves_its_input_alone_and_takes_views(way):
    responses = units(9).T.copy()
    responses[0, 0] = -0.0
    before, label = responses.copy(), np.arange(9) % CLASSES
    found = ranked(way, responses.T, label)
    np.testing.assert_array_equal(found.u, reference(before.T, label, found.pair)[0])
    np.testing.assert_array_equal(responses.view(np.int32), before.view(np.int32))


@pytest.mark.parametrize("way", WAYS)
def test_pair_u__threads_agree_with_one_after_the_other(way):
    label = np.random.default_rng(3).integers(0, CLASSES, 500)
    blocks = [units(500, seed=seed) for seed in range(8)]
    alone = [ranked(way, block, label) for block in blocks]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(pair_ranks, "_merging_is_faster", lambda *_: way == "merging")
        threaded = list(pool.map(lambda block: pair_u(block, label, CLASSES), blocks))
    for one, other in zip(alone, threaded, strict=True):
        np.testing.assert_array_equal(one.u, other.u)
        np.testing.assert_array_equal(one.tie_sum, other.tie_sum)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("block", [1, 3, 8])
def test_pair_u__does_not_depend_on_block_size(way, block):
    responses, label = units(333), np.random.default_rng(1).integers(0, CLASSES, 333)
    whole = ranked(way, responses, label)
    parts = [ranked(way, responses[i : i + block], label) for i in range(0, 8, block)]
    np.testing.assert_array_equal(np.concatenate([part.u for part in parts]), whole.u)
    np.testing.assert_array_equal(np.concatenate([part.tie_sum for part in parts]), whole.tie_sum)


@given(recordings())
@settings(deadline=None, max_examples=40)
def test_pair_u__any_values_equal_scipy(recording):
    assert_as_scipy(*recording)


@given(recordings(), st.randoms(use_true_random=False), st.sampled_from(WAYS))
@settings(deadline=None, max_examples=40)
def test_pair_u__does_not_depend_on_image_order(recording, random, way):
    responses, label = recording
    order = list(range(label.size))
    random.shuffle(order)
    one, other = ranked(way, responses, label), ranked(way, responses[:, order], label[order])
    np.testing.assert_array_equal(one.u, other.u)
    np.testing.assert_array_equal(one.tie_sum, other.tie_sum)


@given(recordings(), st.permutations(range(CLASSES)), st.sampled_from(WAYS))
@settings(deadline=None, max_examples=40)
def test_pair_u__follows_a_relabelling_of_classes(recording, names, way):
    responses, label = recording
    names, count = np.array(names), np.bincount(label, minlength=CLASSES)
    one, other = ranked(way, responses, label), ranked(way, responses, names[label])
    place = {tuple(pair): p for p, pair in enumerate(other.pair.tolist())}
    for p, (a, b) in enumerate(one.pair):
        q = place[tuple(sorted((names[a], names[b])))]
        turned = names[a] > names[b]
        u = count[a] * count[b] - other.u[:, q] if turned else other.u[:, q]
        np.testing.assert_array_equal(one.u[:, p], u)
        np.testing.assert_array_equal(one.tie_sum[:, p], other.tie_sum[:, q])


@pytest.mark.parametrize("pair", [[1, 1], [2, 1], [-1, 1], [0, CLASSES]])
def test_pair_u__pair_that_is_not_two_codes_in_order_is_an_error(pair):
    with pytest.raises(ValueError, match=r"0 <= a < b < 5, got .* at 1"):
        ranked("merging", units(4), np.zeros(4, np.int64), pairs=np.array([[0, 1], pair]))


@pytest.mark.parametrize("pairs", [np.array([0, 1]), np.zeros((1, 3), int), np.array([[0.0, 1.0]])])
def test_pair_u__pairs_of_wrong_shape_or_type_are_an_error(pairs):
    with pytest.raises(ValueError, match=r"expected integer pairs of shape \(pair, 2\)"):
        pair_u(units(4), np.zeros(4, np.int64), CLASSES, pairs=pairs)


@pytest.mark.parametrize("code", [-1, CLASSES])
def test_pair_u__label_out_of_range_is_an_error(code):
    with pytest.raises(ValueError, match="class codes must be 0 to 4"):
        pair_u(np.zeros((1, 2), np.float32), np.array([0, code]), CLASSES)


def test_pair_u__responses_of_another_type_are_an_error():
    with pytest.raises(ValueError, match="expected float32 responses"):
        pair_u(np.zeros((1, 2)), np.array([0, 1]), CLASSES)
