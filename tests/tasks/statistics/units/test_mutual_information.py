"""Mutual information against scikit-learn and from entropies, by hand, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import mutual_info_score

from activarium.tasks.statistics.units.mutual_information import mutual_information

tables = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.one_of(st.just(0), st.integers(0, 9), st.integers(0, 10_000)),
)


def entropy(count):
    """Return the plug-in entropy and Miller's, of counts that are not all 0."""
    p = count[count > 0] / count.sum()
    plug_in = -(p * np.log(p)).sum()
    return np.array([plug_in, plug_in + (p.size - 1) / (2 * count.sum())])


def from_entropies(table):
    """Return plug-in and corrected information of one table."""
    if table.sum() == 0:
        return np.zeros(2)
    both = entropy(table.sum(axis=1)) + entropy(table.sum(axis=0)) - entropy(table.ravel())
    return np.maximum(both, 0)


@given(tables)
@settings(deadline=None, max_examples=50)
def test_mutual_information__equals_scikit_learn_and_the_sum_of_entropies(joint):
    got = mutual_information(joint)
    for unit, table in enumerate(joint):
        if table.sum():
            expected = mutual_info_score(None, None, contingency=table)
            np.testing.assert_allclose(got.plug_in[unit], expected, rtol=1e-9, atol=1e-14)
        pair = [got.plug_in[unit], got.corrected[unit]]
        np.testing.assert_allclose(pair, from_entropies(table), rtol=1e-9, atol=1e-14)


def test_mutual_information__many_classes_of_more_units_than_are_looked_at_together():
    joint = np.random.default_rng(3).poisson(1.5, size=(7, 10, 2_000)).astype(np.int32)
    joint[2, 3:6], joint[4, :, 100:] = 0, 0
    expected = [mutual_info_score(None, None, contingency=table) for table in joint]
    np.testing.assert_allclose(mutual_information(joint).plug_in, expected, rtol=1e-11)


def test_mutual_information__hand_worked_case():
    # Of 8 images 2 are expected in each cell: two cells have 3/2 of that and two have 1/2.
    joint = np.array([[[3, 1], [1, 3]]])
    got = mutual_information(joint)
    plug_in = 2 * 3 / 8 * np.log(3 / 2) + 2 * 1 / 8 * np.log(1 / 2)
    np.testing.assert_allclose(got.plug_in, [plug_in], rtol=1e-14)
    # Two bins, two classes, four cells: (2 + 2 - 4 - 1) / 16.
    np.testing.assert_allclose(got.corrected, [plug_in - 1 / 16], rtol=1e-14)


def test_mutual_information__bins_that_are_the_classes_have_their_entropy():
    got = mutual_information(np.diag([4, 4, 4, 0])[None])
    np.testing.assert_allclose(got.plug_in, [np.log(3)], rtol=1e-14)
    # Three bins, classes and cells: upwards by 2 / 24, as for the entropy of the class.
    np.testing.assert_allclose(got.corrected, [np.log(3) + 2 / 24], rtol=1e-14)


@pytest.mark.parametrize("scale", [1, 1000, 50_000])
def test_mutual_information__independence_is_exactly_zero(scale):
    joint = np.outer([1, 2, 7], [3, 5, 11])[None] * scale
    got = mutual_information(joint)
    np.testing.assert_array_equal(got.plug_in, [0])
    np.testing.assert_array_equal(got.corrected, [0])


def test_mutual_information__near_independence_keeps_its_digits():
    # One image moved among 4e6: 1e-13, far below the rounding of a sum of entropies.
    n = 1_000_000
    got = mutual_information(np.array([[[n + 1, n - 1], [n - 1, n + 1]]])).plug_in
    np.testing.assert_allclose(got, [0.5 / n**2], rtol=1e-6)


@pytest.mark.parametrize(
    "table",
    [
        [[186_830_015, 293_826_223], [156_751_033, 246_521_224]],
        [[588_692_849, 233_918_774], [100_645_958, 39_991_957]],
        [[416_183_570, 425_360_619], [96_147_551, 98_267_651]],
    ],
)
def test_mutual_information__rounding_near_independence_is_never_below_zero(table):
    # The determinants are 1: what is true is far below the rounding of the terms.
    got = mutual_information(np.array([table])).plug_in[0]
    assert 0 <= got < 1e-30


@pytest.mark.parametrize(
    "table",
    [[[5, 7, 9]], [[5], [7]], [[0, 0], [5, 7]], [[0, 5], [0, 7]], [[1]], [[0, 0], [0, 0]]],
)
def test_mutual_information__one_bin_or_class_or_no_image_says_nothing(table):
    got = mutual_information(np.array([table]))
    np.testing.assert_array_equal(got.plug_in, [0])
    np.testing.assert_array_equal(got.corrected, [0])


def test_mutual_information__two_images_in_cells_of_their_own():
    got = mutual_information(np.array([[[1, 0], [0, 1]]]))
    np.testing.assert_allclose(got.plug_in, [np.log(2)], rtol=1e-14)
    np.testing.assert_allclose(got.corrected, [np.log(2) + 1 / 4], rtol=1e-14)


@given(tables, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_mutual_information__does_not_depend_on_order_or_sides(joint, random):
    bins, classes = list(range(joint.shape[1])), list(range(joint.shape[2]))
    random.shuffle(bins)
    random.shuffle(classes)
    whole = mutual_information(joint)
    for other in (joint[:, bins], joint[:, :, classes], joint.transpose(0, 2, 1)):
        for one, two in zip(mutual_information(other), whole, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-14)


@given(tables)
@settings(deadline=None, max_examples=40)
def test_mutual_information__is_at_most_the_entropy_of_either_side(joint):
    got = np.transpose(mutual_information(joint))
    for unit, table in enumerate(joint):
        assert (got[unit] >= 0).all()
        if table.sum():
            for axis in (0, 1):
                assert (got[unit] <= entropy(table.sum(axis=axis)) + 1e-12).all()


@pytest.mark.parametrize("block", [1, 2])
def test_mutual_information__does_not_depend_on_block_size(block):
    joint = np.random.default_rng(0).integers(0, 30, (5, 8, 10))
    whole = mutual_information(joint)
    for start in range(0, 5, block):
        part = mutual_information(joint[start : start + block].astype(np.int32))
        for one, two in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, two[start : start + block])


def test_mutual_information__the_correction_takes_most_of_the_bias():
    rng = np.random.default_rng(0)
    joint = rng.multinomial(500, np.full(40, 1 / 40), size=1000).reshape(1000, 4, 10)
    got = mutual_information(joint)
    assert got.plug_in.mean() > 0.02
    # Cut off at 0, what is left is positive.
    assert got.corrected.mean() < 0.2 * got.plug_in.mean()


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        (np.ones((2, 2), np.int64), r"shape \(unit, bin, class\), got int64 of shape \(2, 2\)"),
        (np.ones((1, 2, 2)), "integer counts of shape .* got float64"),
        (np.array([[[1, -2]]]), "counts of 0 or more, got -2"),
    ],
)
def test_mutual_information__other_tables_are_refused(joint, message):
    with pytest.raises(ValueError, match=message):
        mutual_information(joint)
