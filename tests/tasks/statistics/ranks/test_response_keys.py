"""Ranges of keys against Python's integers, and the order of the keys against the floats'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.tasks.statistics.ranks.response_keys import compact_key, key_range, response_of

MAX = float(np.finfo(np.float32).max)
TINY = float(np.float32(1e-45))
EXTREMES = [-MAX, -1e30, -1.0, -2 * TINY, -TINY, -0.0, 0.0, TINY, 2 * TINY, 1.0, 1e30, MAX]


def bits_of(values):
    return np.array(values, np.float32).view(np.int32)


def slow_key(bits):
    return int(bits) if bits >= 0 else -(int(bits) + 2**31)


def slow_range(values):
    keys = [slow_key(bits) for bits in bits_of(values)]
    low, high = min(keys), max(keys)
    negative, positive = [key for key in keys if key < 0], [key for key in keys if key > 0]
    negatives = max(negative) - low + 1 if negative else 0
    base = 0
    if positive:
        base = low if low > 0 else min(positive) - 1
    largest = high - low if high < 0 else high - base + negatives
    return low, negatives, base, largest


def compact(values):
    lowest, negatives, base, _ = key_range(bits_of(values))
    return [
        compact_key(int(bits), lowest, negatives, base) for bits in map(slow_key, bits_of(values))
    ]


any_value = st.one_of(
    st.sampled_from(EXTREMES),
    st.floats(-MAX, MAX, width=32),
    st.floats(9999, 10001, width=32),
    st.floats(-(2.0**-130), 2.0**-130, width=32),
)


@given(st.lists(any_value, min_size=1, max_size=40))
@settings(deadline=None, max_examples=200)
def test_key_range__equals_the_same_in_whole_numbers(values):
    assert key_range(bits_of(values)) == slow_range(values)


@given(st.lists(any_value, min_size=1, max_size=40))
@settings(deadline=None, max_examples=100)
def test_key_range__its_keys_order_like_the_responses_and_lead_back(values):
    lowest, negatives, base, largest = key_range(bits_of(values))
    keys = compact(values)
    assert (min(keys), max(keys)) == (0, largest)
    singles = np.array(values, np.float32)
    np.testing.assert_array_equal(
        np.unique(keys, return_inverse=True)[1], np.unique(singles, return_inverse=True)[1]
    )
    found = [response_of(key, lowest, negatives, base) for key in keys]
    np.testing.assert_array_equal(found, singles)


def test_key_range__largest_floats_of_both_signs_need_more_than_32_bits_with_a_sign():
    # The keys of float32's maximum and minimum are 2 * 0x7F7FFFFF apart, beyond int32.
    assert key_range(bits_of([-MAX, MAX])) == (-0x7F7FFFFF, 1, 0x7F7FFFFE, 2)
    assert key_range(bits_of([-MAX, -TINY, TINY, MAX])) == (-0x7F7FFFFF, 0x7F7FFFFF, 0, 0xFEFFFFFE)


@pytest.mark.parametrize("zeros", [[0.0], [-0.0], [0.0, -0.0], [-0.0, 0.0, 0.0]])
def test_key_range__zeros_of_both_signs_are_one_key(zeros):
    assert key_range(bits_of(zeros)) == (0, 0, 0, 0)
    assert compact([-1.0, *zeros, 1.0]) == [0, *[1] * len(zeros), 2]


@pytest.mark.parametrize("value", EXTREMES)
def test_key_range__constant_unit_has_one_key(value):
    values = [value] * 33  # longer than a vector register
    assert key_range(bits_of(values)) == slow_range(values)
    assert compact(values) == [0] * 33


@pytest.mark.parametrize("images", [1, 7, 8, 9, 31, 32, 33, 100])
def test_key_range__finds_ends_at_any_place(images):
    rng = np.random.default_rng(images)
    for place in range(images):
        values = rng.standard_normal(images).astype(np.float32)
        values[place] = rng.choice([-MAX, -1e30, 1e30, MAX])
        assert key_range(bits_of(values)) == slow_range(values)
