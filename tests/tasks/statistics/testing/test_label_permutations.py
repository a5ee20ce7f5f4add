"""Permutations of labels against the algorithm in plain integers, and their uniformity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from activarium.tasks.statistics.testing.label_permutations import (
    permuted_labels,
    permuted_positions,
)

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def shuffled(images, seed, index):
    """Fisher and Yates, a bounded integer being the first draw that is not in the biased part."""
    state = mix((mix(seed) + (index + 1) * GOLDEN) & MASK)
    order = list(range(images))
    for i in range(images - 1, 0, -1):
        while True:
            state = (state + GOLDEN) & MASK
            j, low = divmod((mix(state) >> 32) * (i + 1), 1 << 32)
            if low >= (1 << 32) % (i + 1):
                break
        order[i], order[j] = order[j], order[i]
    return order


def many_orders(images, size, seed=5):
    return permuted_labels(np.arange(images, dtype=np.uint16), seed=seed, first=0, size=size)


def test_reference__is_splitmix64():
    # The first outputs for seed 1234567, as published with the generator's ports.
    states = [(1234567 + k * GOLDEN) & MASK for k in (1, 2)]
    assert [mix(s) for s in states] == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize("seed", [0, 1, 12345, MASK])
@pytest.mark.parametrize("images", [0, 1, 2, 3, 1000])
def test_permuted_positions__equal_the_algorithm_in_plain_integers(seed, images):
    for index in (0, 1, 998):
        found = permuted_positions(images, seed=seed, index=index)
        assert found.tolist() == shuffled(images, seed, index)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_permuted_labels__are_the_labels_at_the_permuted_positions(dtype):
    label = np.random.default_rng(0).integers(0, 7, 501).astype(dtype)
    found = permuted_labels(label, seed=3, first=40, size=5)
    assert found.dtype == dtype
    for p in range(5):
        position = permuted_positions(501, seed=3, index=40 + p)
        np.testing.assert_array_equal(found[p], label[position])


def test_permuted_labels__all_orders_are_equally_likely():
    orders = many_orders(4, 24_000) @ [64, 16, 4, 1]
    _, count = np.unique(orders, return_counts=True)
    assert count.size == 24
    assert stats.chisquare(count).pvalue > 1e-3


def test_permuted_labels__every_label_reaches_every_position_equally_often():
    orders = many_orders(23, 20_000)
    for position in range(23):
        count = np.bincount(orders[:, position], minlength=23)
        assert stats.chisquare(count).pvalue > 1e-4


@pytest.mark.parametrize("step", [1, 2, 16])
def test_permuted_labels__one_order_says_nothing_about_another(step):
    _, order = np.unique(many_orders(3, 36_000) @ [9, 3, 1], return_inverse=True)
    pairs = np.bincount(6 * order[:-step] + order[step:], minlength=36).reshape(6, 6)
    assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_permuted_labels__seeds_give_other_permutations():
    first, second = many_orders(50, 20, seed=0), many_orders(50, 20, seed=1)
    rows = {tuple(row) for row in np.concatenate((first, second)).tolist()}
    assert len(rows) == 40


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_permuted_labels__seed_out_of_range_is_an_error(seed):
    with pytest.raises(ValueError, match="seed must be"):
        many_orders(3, 1, seed=seed)
    with pytest.raises(ValueError, match="seed must be"):
        permuted_positions(3, seed=seed, index=0)


def test_permuted_positions__negative_number_is_an_error():
    with pytest.raises(ValueError, match="index must be"):
        permuted_positions(3, seed=0, index=-1)
