"""CKA, debiased CKA, RSA and Procrustes of two layers: references, invariances, known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import procrustes

from .similarity_examples import directly, related, rotation, similarities

RANGE = {"cka": (0, 1), "cka_debiased": (-1, 1), "rsa": (-1, 1), "procrustes": (0, 1)}


@pytest.mark.parametrize("units", [(5, 9), (1, 1), (1, 30), (80, 70)])
@pytest.mark.parametrize("images", [6, 60])
def test_measures__equal_those_by_all_pairs_of_images(images, units):
    x, y = related(images=images, units=units)
    assert similarities(x, y) == pytest.approx(directly(x, y), abs=1e-10)


def test_cka__published_example():
    # Kornblith et al. (2019), notebook of the paper's demo code: linear CKA, and debiased.
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    y = rng.randn(100, 10) + x
    found = similarities(x, y)
    assert found["cka"] == pytest.approx(0.55761, abs=5e-6)
    assert found["cka_debiased"] == pytest.approx(0.51346, abs=5e-6)


def test_measures__by_hand():
    x, y = np.array([[1.0], [1], [-1], [-1]]), np.array([[1.0], [-1], [1], [-1]])
    apart, same = similarities(x, y), similarities(x, np.hstack([x, x]))
    assert (apart["cka"], apart["procrustes"]) == (0, 0)
    # Two of six pairs are at distance 0 in each, none in both: ranks 1.5 and 4.5.
    assert apart["rsa"] == pytest.approx(-0.5)
    # K off the diagonal is +1 within a half and -1 beyond; L the same for other halves.
    assert apart["cka_debiased"] == pytest.approx(-0.5)
    assert same == pytest.approx(dict.fromkeys(same, 1.0))


def test_cka__of_single_units_is_the_squared_correlation():
    x, y = related(units=(1, 1))
    r = np.corrcoef(x.T, y.T)[0, 1]
    found = similarities(x, y)
    assert found["cka"] == pytest.approx(r**2, rel=1e-12)
    assert found["procrustes"] == pytest.approx(abs(r), rel=1e-12)


def test_procrustes__square_is_what_scipy_s_disparity_leaves():
    x, y = related(units=(6, 6))
    assert similarities(x, y)["procrustes"] ** 2 == pytest.approx(1 - procrustes(x, y)[2])


@pytest.mark.parametrize("scale", [1.0, 1e-3, -7.0])
def test_measures__do_not_see_rotation_scale_or_shift(scale):
    x, y = related(units=(6, 9))
    turned = scale * (y @ rotation(9) + np.arange(9))
    changed, found = similarities(x, turned), similarities(x, y)
    # Ranks of distances that were equal are not, once rotated and rounded to float32.
    assert changed.pop("rsa") == pytest.approx(found.pop("rsa"), abs=1e-3)
    assert changed == pytest.approx(found, abs=1e-6)


def test_measures__see_what_is_no_rotation():
    x, _ = related(units=(6, 6))
    stretched = x * np.array([30, 1, 1, 1, 1, 1])
    assert max(similarities(x, stretched).values()) < 0.9


def test_measures__are_symmetric_and_1_for_the_same_layer():
    x, y = related()
    assert similarities(x, y) == pytest.approx(similarities(y, x), abs=1e-12)
    assert similarities(y, y) == pytest.approx(dict.fromkeys(RANGE, 1.0))


def test_cka__of_independent_layers_grows_with_units_and_debiased_does_not():
    rng = np.random.default_rng(0)
    images, units = 40, 200
    found = [
        similarities(rng.normal(size=(images, units)), rng.normal(size=(images, units)))
        for _ in range(4)
    ]
    mean = {name: np.mean([each[name] for each in found]) for name in RANGE}
    # E|X^T Y|^2 = n p^2 and E|X^T X|^2 = n p (n + p + 1) with n degrees of freedom.
    degrees = images - 1
    assert mean["cka"] == pytest.approx(units / (degrees + units + 1), abs=0.01)
    assert abs(mean["cka_debiased"]) < 0.03
    assert abs(mean["rsa"]) < 0.03


@pytest.mark.parametrize("block", [1, 2, 13, 64])
def test_measures__do_not_depend_on_blocks_or_on_the_order_of_images(block):
    x, y = related(images=61)
    order = np.random.default_rng(1).permutation(61)
    found = similarities(x, y)
    assert similarities(x, y, block=block) == pytest.approx(found, abs=1e-12)
    assert similarities(x[order], y[order], block=block) == pytest.approx(found, abs=1e-12)


def test_measures__large_mean_and_small_spread_keep_their_digits():
    x, y = related(images=40)
    # Steps of 1/16 at 2^17 are exact in float32; squares of responses would need 42 bits more.
    near = np.round(x * 16) / 16
    far = near + 2.0**17
    assert similarities(far, y) == pytest.approx(similarities(near, y), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30])
def test_measures__extreme_responses_stay_in_range(scale):
    x, y = related(images=30)
    expected = similarities((x * scale).astype(np.float32) / scale, y)
    found = similarities(x * scale, y)
    assert found == pytest.approx(expected, abs=1e-5)


def test_measures__constant_units_change_nothing():
    x, y = related()
    with_constant = np.hstack([x, np.full((len(x), 3), 0.1)])
    found, expected = similarities(with_constant, y), similarities(x, y)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8])
def test_measures__constant_layer_is_undefined(constant):
    x, _ = related()
    found = similarities(x, np.full((len(x), 4), constant))
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("images", "defined"),
    [(1, set()), (2, {"cka", "procrustes"}), (3, {"cka", "procrustes", "rsa"}), (4, set(RANGE))],
)
def test_measures__few_images(images, defined):
    x, y = related(images=images)
    found = similarities(x, y)
    assert {name for name, value in found.items() if not math.isnan(value)} == defined


def test_cka_debiased__images_all_equally_far_are_undefined():
    # The centred Gram matrix off the diagonal is constant: nothing is left of it.
    found = similarities(np.eye(12), related(images=12)[1])
    assert math.isnan(found["cka_debiased"])
    assert math.isnan(found["rsa"])
    assert found["cka"] > 0


VALUES = st.sampled_from([0.0, 0.0, 0.1, 1.0, -3.0, 1e-20, 1e5, 1e18])


@given(data=st.data(), images=st.integers(1, 9))
def test_measures__are_in_range_or_undefined(data, images):
    x, y = (
        data.draw(arrays(np.float32, (images, units), elements=VALUES.map(np.float32)))
        for units in (3, 2)
    )
    for name, value in similarities(x, y, block=3).items():
        low, high = RANGE[name]
        assert math.isnan(value) or low <= value <= high
