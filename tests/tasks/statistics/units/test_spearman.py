"""Spearman's correlation against scipy, and against exact fractions where scipy rounds."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from activarium.tasks.statistics.units.spearman import (
    MOST_IMAGES,
    centred_ranks,
    check_target,
    sorted_words,
    spearman,
)


def exact(x, y):
    """Return rho, and log10 p by mpmath, from ranks as fractions."""
    ranks = [[Fraction(2 * r) for r in stats.rankdata(v).tolist()] for v in (x, y)]
    a, b = ([r - len(x) - 1 for r in each] for each in ranks)
    whole = sum(r * r for r in a) * sum(r * r for r in b)
    product = sum(r * s for r, s in zip(a, b, strict=True))
    if whole == 0 or len(x) < 3:
        return 0.0, 0.0
    square = product * product / whole
    if square == 1:
        return float(np.sign(product)), -np.inf
    with mpmath.workdps(60):
        rest = mpmath.mpf((1 - square).numerator) / (1 - square).denominator
        half = mpmath.mpf(1) / 2
        p = mpmath.betainc((len(x) - 2) * half, half, 0, rest, regularized=True)
        return float(np.sign(product)) * float(square) ** 0.5, float(mpmath.log10(p))


def assert_exact(responses, target):
    found = spearman(responses, target)
    expected = np.array([exact(row, target) for row in responses])
    np.testing.assert_allclose(found.rho, expected[:, 0], rtol=1e-14, atol=0)
    np.testing.assert_allclose(found.log10_p, expected[:, 1], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.p, 10.0 ** expected[:, 1], rtol=1e-9)


@st.composite
def recordings(draw):
    images = draw(st.integers(1, 30))
    value = draw(
        st.sampled_from(
            [
                st.floats(-(2.0**100), 2.0**100, width=32),
                st.integers(-2, 2).map(float),
                st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1e30]),
            ]
        )
    )
    responses = draw(hnp.arrays(np.float32, (3, images), elements=value))
    target = draw(hnp.arrays(np.float64, images, elements=st.integers(-4, 4).map(float) | value))
    return responses, target


@pytest.mark.parametrize("images", [4, 5, 57, 1000])
def test_spearman__equals_scipy(images):
    rng = np.random.default_rng(images)
    responses = rng.standard_normal((8, images)).astype(np.float32)
    responses[1] = np.maximum(responses[1], 0)
    responses[2, : images // 2] = 3
    responses[3] = 1e4 + 0.1 * responses[3]
    responses[4] *= 1e30
    responses[5] *= 1e-44
    for target in (rng.standard_normal(images), np.arange(images) // 2.0, responses[6] + 0.0):
        expected = [stats.spearmanr(row, target.astype(float)) for row in responses]
        found = spearman(responses, target.astype(float))
        np.testing.assert_allclose(
            found.rho, [e.statistic for e in expected], rtol=1e-9, atol=1e-14
        )
        rounded = np.abs(found.rho) == 1
        np.testing.assert_allclose(
            found.p[~rounded], np.array([e.pvalue for e in expected])[~rounded], rtol=1e-9
        )


@given(recordings())
@settings(deadline=None, max_examples=60)
def test_spearman__any_values_equal_exact_fractions(recording):
    assert_exact(*recording)


def test_spearman__log10_p_stays_exact_where_p_underflows():
    rng = np.random.default_rng(0)
    target = np.arange(3000.0)
    noise = np.array([[1e-3], [1.0], [30.0], [300.0]]) * rng.standard_normal((4, 3000))
    responses = (np.array([1, -1, 1, -1])[:, None] * target + noise).astype(np.float32)
    responses[0, :2] = responses[0, 1::-1]
    assert_exact(responses, target)
    found = spearman(responses, target)
    assert (found.p[:3] == 0).all()
    assert found.log10_p[0] < -10_000


def test_spearman__hand_worked_case():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 4, 3: centred products 2.25 + 0 + 0 + 0.75 = 3, squares 4.5, 5.
    found = spearman(np.array([[0, 5, 5, 9]], np.float32), np.array([1.0, 2.0, 4.0, 3.0]))
    np.testing.assert_allclose(found.rho, [3 / np.sqrt(22.5)], rtol=1e-15)
    # Two degrees of freedom: P(|T| > t) = 1 - t / sqrt(2 + t^2) = 1 - rho.
    np.testing.assert_allclose(found.p, [1 - 3 / np.sqrt(22.5)], rtol=1e-12)


def test_spearman__same_and_reversed_order_are_exactly_one():
    target = np.sort(np.random.default_rng(1).standard_normal(1001))
    responses = np.stack([np.arange(1001), -np.arange(1001)]).astype(np.float32)
    found = spearman(responses, target)
    assert found.rho.tolist() == [1.0, -1.0]
    assert found.p.tolist() == [0.0, 0.0]
    assert found.log10_p.tolist() == [-np.inf, -np.inf]


def test_spearman__constant_unit_is_zero():
    responses = np.array([[3, 3, 3, 3], [0.0, -0.0, 0.0, -0.0]], np.float32)
    found = spearman(responses, np.arange(4.0))
    for values, expected in zip(found, (0.0, 1.0, 0.0), strict=True):
        assert values.tolist() == [expected, expected]


def test_spearman__constant_target_is_zero():
    found = spearman(np.array([[1, 2, 3, 4]], np.float32), np.array([0.0, -0.0, 0.0, 0.0]))
    assert [values.tolist() for values in found] == [[0.0], [1.0], [0.0]]


@pytest.mark.parametrize("images", [0, 1, 2])
def test_spearman__fewer_than_three_images_is_zero(images):
    responses = np.arange(2.0 * images, dtype=np.float32).reshape(2, images)
    found = spearman(responses, np.arange(float(images)))
    assert [values.tolist() for values in found] == [[0.0] * 2, [1.0] * 2, [0.0] * 2]


def test_spearman__three_images():
    found = spearman(np.array([[1, 3, 2], [1, 2, 3]], np.float32), np.arange(3.0))
    # One degree of freedom: p = 1 - 2 atan(t) / pi with t = rho / sqrt(1 - rho^2) = 1 / sqrt(3).
    np.testing.assert_allclose(found.rho, [0.5, 1.0], rtol=1e-15)
    np.testing.assert_allclose(found.p, [2 / 3, 0.0], rtol=1e-12)


def test_spearman__no_units_is_empty():
    assert [v.shape for v in spearman(np.empty((0, 5), np.float32), np.arange(5.0))] == [(0,)] * 3


def test_spearman__subnormal_and_huge_responses_keep_their_order():
    tiny, huge = np.float32(1e-45), np.finfo(np.float32).max
    ordered = np.array([[-huge, -1e30, -1, -tiny, 0, tiny, 2 * tiny, 1, 1e30, huge]], np.float32)
    assert spearman(ordered, np.ldexp(np.arange(10.0), -1074)).rho.tolist() == [1.0]


@given(recordings(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_spearman__does_not_depend_on_image_order(recording, random):
    responses, target = recording
    order = list(range(target.size))
    random.shuffle(order)
    shuffled = spearman(np.ascontiguousarray(responses[:, order]), target[order])
    for one, other in zip(spearman(responses, target), shuffled, strict=True):
        np.testing.assert_array_equal(one, other)


@given(recordings())
@settings(deadline=None, max_examples=25)
def test_spearman__reversed_target_changes_only_the_sign(recording):
    responses, target = recording
    found, reverse = spearman(responses, target), spearman(responses, -target)
    np.testing.assert_array_equal(reverse.rho, -found.rho)
    np.testing.assert_array_equal(reverse.log10_p, found.log10_p)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_spearman__does_not_depend_on_block_size(rows, monkeypatch):
    rng = np.random.default_rng(rows)
    responses = np.maximum(rng.standard_normal((11, 333)), 0).astype(np.float32)
    target = rng.standard_normal(333)
    whole = spearman(responses, target)
    monkeypatch.setattr("activarium.tasks.statistics.units.spearman._BLOCK_BYTES", 8 * 333 * rows)
    assert len(list(sorted_words(responses, np.arange(333)))) == -(-11 // rows)
    for one, other in zip(whole, spearman(responses, target), strict=True):
        np.testing.assert_array_equal(one, other)


def test_spearman__leaves_its_input_alone_and_takes_views():
    rng = np.random.default_rng(2)
    responses = rng.standard_normal((40, 3)).astype(np.float32)
    responses[0, 0] = -0.0
    before = responses.copy()
    assert_exact(responses.T, rng.standard_normal(80)[::2])
    np.testing.assert_array_equal(responses.view(np.int32), before.view(np.int32))


def test_centred_ranks__sum_to_zero_and_share_ties():
    assert centred_ranks(np.array([7.0, 1.0, 7.0, -0.0, 0.0])).tolist() == [3, 0, 3, -3, -3]


def test_spearman__sums_over_the_most_images_fit_64_bits():
    n = MOST_IMAGES
    assert n * (n * n - 1) // 3 < 2**63
    # Both sums at once at a size where 32 bits or float64 would not hold them.
    images = 300_000
    found = spearman(np.arange(images, dtype=np.float32)[None], np.arange(float(images)))
    assert found.rho.tolist() == [1.0]


@pytest.mark.parametrize(
    ("responses", "target", "message"),
    [
        (np.zeros((1, 2)), np.zeros(2), "float32 responses"),
        (np.zeros(2, np.float32), np.zeros(2), "float32 responses"),
        (np.zeros((1, 2), np.float32), np.zeros(3), "for each of 2 images"),
        (np.zeros((1, 2), np.float32), np.zeros(2, np.int64), "one float64 number"),
        (np.zeros((1, 2), np.float32), np.array([0.0, np.nan]), "must be finite"),
        (np.zeros((1, 2), np.float32), np.array([0.0, np.inf]), "must be finite"),
        (
            np.zeros((0, MOST_IMAGES + 1), np.float32),
            np.zeros(MOST_IMAGES + 1),
            "at most 3,000,000",
        ),
    ],
)
def test_check_target__wrong_shape_type_or_value_is_an_error(responses, target, message):
    with pytest.raises(ValueError, match=message):
        check_target(responses, target)
