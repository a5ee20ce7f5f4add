"""One ranking of each unit against scipy.stats.rankdata, at ties, signed zeros, subnormals and odd sizes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from activarium.tasks.statistics.ranks.ranking import rank_units

CLASSES = 4


def rank_sums(responses, label, n_classes):
    return rank_units(responses, label, n_classes)[:2]


def reference(responses, label, n_classes):
    ranks = stats.rankdata(responses, axis=1)
    rank_sum = np.stack([ranks[:, label == c].sum(axis=1) for c in range(n_classes)], axis=1)
    tie_sum = []
    for row in responses:
        t = np.unique(row, return_counts=True)[1].astype(float)
        tie_sum.append((t**3 - t).sum())
    return rank_sum, np.array(tie_sum)


def assert_as_scipy(responses, label, n_classes=CLASSES):
    rank_sum, tie_sum = rank_sums(responses, label, n_classes)
    expected_sum, expected_ties = reference(responses, label, n_classes)
    np.testing.assert_array_equal(rank_sum, expected_sum)
    np.testing.assert_allclose(tie_sum, expected_ties, rtol=1e-12)


@st.composite
def recordings(draw):
    images = draw(st.integers(1, 40))
    units = draw(st.integers(1, 4))
    value = draw(
        st.sampled_from(
            [
                st.floats(-(2.0**100), 2.0**100, width=32),
                st.integers(-3, 3).map(float),
                st.floats(-(2.0**-130), 2.0**-130, width=32),
                st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0]),
            ]
        )
    )
    responses = draw(hnp.arrays(np.float32, (units, images), elements=value))
    label = draw(hnp.arrays(np.int32, images, elements=st.integers(0, CLASSES - 1)))
    return responses, label


@pytest.mark.parametrize("images", [1, 2, 3, 57, 1000, 5001])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-44])
def test_rank_units__equal_scipy_rankdata(images, scale):
    rng = np.random.default_rng(images)
    responses = (rng.standard_normal((7, images)) * scale).astype(np.float32)
    responses[1] = np.maximum(responses[1], 0)
    responses[2] = np.minimum(responses[2], 0)
    responses[3] = np.round(rng.standard_normal(images))
    responses[4] = 5
    responses[5] = 1e4 + 0.1 * rng.standard_normal(images)
    assert_as_scipy(responses, rng.integers(0, CLASSES, images))


def test_rank_units__units_that_need_different_widths_lie_side_by_side():
    # Keys of units of one sign and narrow range fit beside the class into 32 bits, others do not.
    rng = np.random.default_rng(4)
    wide = rng.random((40, 300)) < 0.5
    responses = np.where(wide, rng.normal(size=wide.shape), 1.0).astype(np.float32)
    for unit in (0, 3, 4, 5, 15, 16, 20, 38):
        responses[unit] = rng.uniform(1.0, 1.5, 300)
        responses[unit + 1, :2] = 1e-45, -1e30
    assert_as_scipy(responses, rng.integers(0, 100, 300), 100)


def test_rank_units__hand_worked_case():
    # Ranks of 3, 1, 3, 7, 1: 3.5, 1.5, 3.5, 5, 1.5.
    responses = np.array([[3, 1, 3, 7, 1]], np.float32)
    rank_sum, tie_sum = rank_sums(responses, np.array([0, 0, 1, 1, 2]), 4)
    np.testing.assert_array_equal(rank_sum, [[5.0, 8.5, 1.5, 0.0]])
    np.testing.assert_array_equal(tie_sum, [12.0])


def test_rank_units__negative_zero_ties_with_zero():
    responses = np.array([[0.0, -0.0, 1.0, -1.0], [-0.0, 0.0, -0.0, -0.0]], np.float32)
    rank_sum, tie_sum = rank_sums(responses, np.arange(4), 4)
    np.testing.assert_array_equal(rank_sum, [[2.5, 2.5, 4, 1], [2.5, 2.5, 2.5, 2.5]])
    np.testing.assert_array_equal(tie_sum, [6.0, 60.0])


def test_rank_units__extremes_keep_their_order():
    tiny, huge = np.float32(1e-45), np.finfo(np.float32).max
    ordered = np.array([-huge, -1e30, -1, -tiny, 0, tiny, 2 * tiny, 1, 1e30, huge], np.float32)
    rank_sum, tie_sum = rank_sums(ordered[None, ::-1].copy(), np.arange(10), 10)
    np.testing.assert_array_equal(rank_sum, [np.arange(10, 0, -1)])
    np.testing.assert_array_equal(tie_sum, [0.0])


def test_rank_units__no_images_is_zero():
    rank_sum, tie_sum = rank_sums(np.empty((3, 0), np.float32), np.empty(0, np.int64), 2)
    np.testing.assert_array_equal(rank_sum, np.zeros((3, 2)))
    np.testing.assert_array_equal(tie_sum, np.zeros(3))


def test_rank_units__no_units_is_empty():
    rank_sum, tie_sum = rank_sums(np.empty((0, 3), np.float32), np.zeros(3, np.int64), 2)
    assert rank_sum.shape == (0, 2)
    assert tie_sum.shape == (0,)


def test_rank_units__one_class_takes_every_rank():
    rank_sum, _ = rank_sums(np.array([[4, 2, 2]], np.float32), np.zeros(3, np.int64), 1)
    np.testing.assert_array_equal(rank_sum, [[6.0]])


def test_rank_units__leaves_its_input_alone_and_takes_views():
    responses = np.random.default_rng(0).standard_normal((9, 30)).astype(np.float32)
    responses[0, 0] = -0.0
    before = responses.copy()
    label = np.arange(9) % CLASSES
    assert_as_scipy(responses.T, label)
    np.testing.assert_array_equal(responses.view(np.int32), before.view(np.int32))


def test_rank_units__threads_agree_with_one_after_the_other():
    rng = np.random.default_rng(3)
    blocks = [rng.standard_normal((20, 500)).astype(np.float32) for _ in range(8)]
    label = rng.integers(0, CLASSES, 500)
    with ThreadPoolExecutor(2) as pool:
        threaded = list(pool.map(lambda block: rank_sums(block, label, CLASSES), blocks))
    for block, (rank_sum, tie_sum) in zip(blocks, threaded, strict=True):
        alone = rank_sums(block, label, CLASSES)
        np.testing.assert_array_equal(rank_sum, alone[0])
        np.testing.assert_array_equal(tie_sum, alone[1])


@given(recordings())
@settings(deadline=None, max_examples=60)
def test_rank_units__any_values_equal_scipy_rankdata(recording):
    assert_as_scipy(*recording)


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_rank_units__do_not_depend_on_image_order(recording, random):
    responses, label = recording
    order = list(range(label.size))
    random.shuffle(order)
    shuffled = rank_sums(np.ascontiguousarray(responses[:, order]), label[order], CLASSES)
    for one, other in zip(rank_sums(responses, label, CLASSES), shuffled, strict=True):
        np.testing.assert_array_equal(one, other)


@given(recordings(), st.permutations(range(CLASSES)))
@settings(deadline=None, max_examples=25)
def test_rank_units__follow_a_relabelling_of_classes(recording, names):
    responses, label = recording
    names = np.array(names)
    relabelled, _ = rank_sums(responses, names[label], CLASSES)
    np.testing.assert_array_equal(relabelled[:, names], rank_sums(responses, label, CLASSES)[0])


@pytest.mark.parametrize("block", [1, 2, 5, 11])
def test_rank_units__do_not_depend_on_block_size(block):
    rng = np.random.default_rng(block)
    responses = np.maximum(rng.standard_normal((11, 333)), 0).astype(np.float32)
    label = rng.integers(0, CLASSES, 333)
    whole = rank_sums(responses, label, CLASSES)
    parts = [rank_sums(responses[i : i + block], label, CLASSES) for i in range(0, 11, block)]
    for one, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(one, np.concatenate(pieces))


@pytest.mark.parametrize("code", [-1, CLASSES])
def test_rank_units__label_out_of_range_is_an_error(code):
    with pytest.raises(ValueError, match="class codes must be 0 to 3"):
        rank_sums(np.zeros((1, 2), np.float32), np.array([0, code]), CLASSES)


@pytest.mark.parametrize(
    ("responses", "label"),
    [
        (np.zeros((1, 2), np.float64), np.array([0, 1])),
        (np.zeros(2, np.float32), np.array([0, 1])),
        (np.zeros((1, 2), np.float32), np.array([0])),
        (np.zeros((1, 2), np.float32), np.array([0.0, 1.0])),
    ],
)
def test_rank_units__wrong_shape_or_type_is_an_error(responses, label):
    with pytest.raises(ValueError, match="expected"):
        rank_sums(responses, label, CLASSES)


# --- what else is read off the order ---------------------------------------------------------


def kinds_of_units(images, rng):
    """Continuous, half zero, few levels, constant, ties of two, negative and huge, 1e4 + noise."""
    responses = rng.standard_normal((7, images))
    responses[1] = np.maximum(responses[1], 0)
    responses[2] = np.round(responses[2])
    responses[3] = 5
    responses[4] = np.round(responses[4], 2)
    responses[5] *= -1e30
    responses[6] = 1e4 + 0.01 * responses[6]
    return responses.astype(np.float32)


def delong(own, rest):
    """The two variances of DeLong's from all pairs, as in the paper."""
    pairs = (own[:, None] > rest) + 0.5 * (own[:, None] == rest)
    return pairs.mean(1).var(ddof=1), pairs.mean(0).var(ddof=1)


@pytest.mark.parametrize("images", [4, 17, 300])
def test_rank_units__variances_of_placements_are_delongs(images):
    rng = np.random.default_rng(images)
    responses, label = kinds_of_units(images, rng), rng.integers(0, CLASSES, images)
    ranks = rank_units(responses, label, CLASSES)
    found = np.stack([ranks.class_variance, ranks.rest_variance], axis=-1)
    for unit, row in enumerate(responses):
        for code in range(CLASSES):
            own, rest = row[label == code], row[label != code]
            if min(len(own), len(rest)) < 2:
                assert np.isnan(found[unit, code]).all()
            else:
                np.testing.assert_allclose(found[unit, code], delong(own, rest), 1e-9, 1e-16)


def test_rank_units__lowest_counts_the_smallest_response_by_class():
    rng = np.random.default_rng(8)
    responses, label = kinds_of_units(90, rng), rng.integers(0, CLASSES, 90)
    found = rank_units(responses, label, CLASSES).lowest
    for unit, row in enumerate(responses):
        expected = np.bincount(label[row == row.min()], minlength=CLASSES)
        np.testing.assert_array_equal(found[unit], expected)


def test_rank_units__variances_stay_exact_where_classes_hardly_overlap():
    # One pair in 25 million is the wrong way round: a difference of squares would leave nothing.
    responses = np.arange(10_000, dtype=np.float32)[None]
    responses[0, [4_999, 5_000]] = responses[0, [5_000, 4_999]]
    ranks = rank_units(responses, np.arange(10_000) // 5_000, 2)
    spread = (1 / 5_000 - 1 / 5_000**2) / 5_000
    for found in (ranks.class_variance, ranks.rest_variance):
        np.testing.assert_allclose(found, np.full((1, 2), spread / 4_999), rtol=1e-12)


@pytest.mark.parametrize("bins", [1, 3, 10])
def test_rank_units__joint_counts_images_by_bin_and_class(bins):
    rng = np.random.default_rng(bins)
    responses, label = kinds_of_units(205, rng), rng.integers(0, CLASSES, 205)
    found = rank_units(responses, label, CLASSES, bins=bins).joint
    lowest = stats.rankdata(responses, axis=1, method="min").astype(int) - 1
    expected = np.zeros_like(found)
    for unit in range(len(responses)):
        np.add.at(expected[unit], (lowest[unit] * bins // 205, label), 1)
    np.testing.assert_array_equal(found, expected)


def test_rank_units__quantiles_equal_numpys():
    responses = kinds_of_units(203, np.random.default_rng(0))
    levels = (0.0, 0.01, 0.5, 0.9, 1.0)
    found = rank_units(responses, np.zeros(203, int), 1, quantiles=levels).quantile
    expected = np.quantile(responses.astype(float), levels, axis=1).T
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_rank_units__a_thousand_classes_are_packed_in_wider_keys():
    rng = np.random.default_rng(0)
    responses, label = kinds_of_units(3_000, rng), rng.integers(0, 1_000, 3_000)
    assert_as_scipy(responses, label, 1_000)


@given(recordings(), st.permutations(range(CLASSES)), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_rank_units__everything_follows_relabelling_and_image_order_bitwise(
    recording, names, random
):
    responses, label = recording
    order = np.array(random.sample(range(len(label)), len(label)))
    moved = rank_units(responses[:, order], np.array(names)[label[order]], CLASSES)
    for name, value in rank_units(responses, label, CLASSES)._asdict().items():
        if value is None:
            continue
        other = getattr(moved, name)
        by_class = name not in {"tie_sum", "quantile"}
        np.testing.assert_array_equal(other[..., names] if by_class else other, value, name)


def test_rank_units__too_many_images_are_refused():
    with pytest.raises(ValueError, match="at most 4,000,000"):
        rank_units(np.zeros((0, 4_000_001), np.float32), np.zeros(4_000_001, int), 1)
