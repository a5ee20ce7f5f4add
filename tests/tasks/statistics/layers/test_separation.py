"""Silhouette and ANOSIM against scikit-learn, scikit-bio and all pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from skbio.stats.distance import DistanceMatrix, anosim
from sklearn.metrics import silhouette_score

from activarium.tasks.statistics.layers.layer_moments import column_moments, standardised
from activarium.tasks.statistics.layers.layer_rows import ArrayRows
from activarium.tasks.statistics.layers.separation import anosim_r, separation, silhouette

from .layer_examples import awkward_layer, clear_layer


def slow_silhouette(values, code):
    classes = len(np.unique(code))
    if not 2 <= classes < len(code):
        return np.nan
    # From exact distances: those that scikit-learn makes of products lose digits.
    return silhouette_score(squareform(pdist(values)), code, metric="precomputed")


def slow_anosim(values, code):
    rank = rankdata(pdist(values))
    first, second = np.triu_indices(len(code), 1)
    same = code[first] == code[second]
    if same.all() or not same.any():
        return np.nan
    return (rank[~same].mean() - rank[same].mean()) / (len(rank) / 2)


@pytest.fixture(scope="module")
def sample():
    values, code = awkward_layer()
    return standardised(values, column_moments(ArrayRows(values))), code


def test_silhouette__equals_scikit_learn(sample):
    values, code = sample
    assert silhouette(values, code) == pytest.approx(silhouette_score(values, code), rel=1e-9)
    assert silhouette(values, code) == pytest.approx(slow_silhouette(values, code), rel=1e-9)


def test_anosim__equals_scikit_bio(sample):
    values, code = sample
    expected = anosim(DistanceMatrix(squareform(pdist(values))), code, permutations=0)
    assert anosim_r(values, code) == pytest.approx(expected["test statistic"], rel=1e-9)


@pytest.mark.parametrize("images", [31, 32, 33, 65])
def test_separation__equals_references_around_the_size_of_a_tile(images):
    values, code = clear_layer(images, images, units=19)
    found = separation(values, code)
    assert found.silhouette == pytest.approx(slow_silhouette(values, code), rel=1e-6)
    exact = values.astype(np.float64)
    assert found.silhouette == pytest.approx(slow_silhouette(exact, code), rel=1e-9)
    assert found.anosim_r == pytest.approx(slow_anosim(exact, code), rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), images=st.integers(2, 14))
def test_separation__with_ties_follows_neither_labels_nor_order(data, images):
    element = st.integers(-1, 2).map(float)
    values = data.draw(hnp.arrays(np.float64, (images, 2), elements=element))
    code = data.draw(hnp.arrays(np.int64, images, elements=st.integers(0, 2)))
    found = separation(values, code)
    np.testing.assert_allclose(
        found.silhouette, slow_silhouette(values, code), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(found.anosim_r, slow_anosim(values, code), rtol=1e-9, atol=1e-12)
    order = data.draw(st.permutations(range(images)))
    names = np.array(data.draw(st.permutations([-7, 0, 40])))
    again = separation(values[order], names[code[order]])
    np.testing.assert_allclose(again, found, rtol=1e-9, atol=1e-12)


def test_separation__by_hand():
    values = np.array([[0.0], [1], [4]])
    code = np.array([0, 0, 1])
    # Image 0: a 1, b 4; image 1: a 1, b 3; image 2 is alone. Ranks 1 within, 3 and 2 between.
    assert silhouette(values, code) == pytest.approx((3 / 4 + 2 / 3 + 0) / 3, rel=1e-15)
    assert anosim_r(values, code) == pytest.approx((2.5 - 1) / 1.5, rel=1e-15)


def test_separation__far_classes_give_one_in_anosim():
    values, _ = clear_layer(0, images=40)
    code = np.arange(40) % 2
    assert anosim_r(values + 1e4 * code[:, None], code) == pytest.approx(1, rel=1e-12)


def test_separation__equal_images_give_zero():
    assert separation(np.full((6, 3), 0.1), np.arange(6) % 2) == (0.0, 0.0)
    assert separation(np.empty((6, 0)), np.arange(6) % 2) == (0.0, 0.0)


@pytest.mark.parametrize("code", [[], [0], [0, 0], [0, 1], [3, 3, 3], [0, 1, 2]])
def test_separation__one_class_or_every_image_its_own_is_nan(code):
    values = np.arange(float(len(code)))[:, None]
    assert np.isnan(separation(values, np.array(code, int))).all()


@pytest.mark.parametrize("scale", [1e-43, 1e30])
def test_separation__extreme_sizes_do_not_matter(scale):
    values, code = clear_layer(6)
    extreme = (np.round(values * 8) * scale).astype(np.float32)
    expected = separation(extreme.astype(np.float64) / extreme.max(), code)
    np.testing.assert_allclose(separation(extreme, code), expected, rtol=1e-9)


def test_anosim__distances_that_differ_by_rounding_are_equal():
    # Whole numbers have many equal distances, which dividing by 3 and adding 0.1 tears apart.
    rng = np.random.default_rng(1)
    values, code = rng.integers(0, 4, (50, 3)).astype(float), rng.integers(0, 3, 50)
    torn = values / 3 + 0.1
    assert len(np.unique(pdist(torn))) > len(np.unique(pdist(values)))
    assert anosim_r(torn, code) == anosim_r(values, code)
    assert anosim_r(values, code) == pytest.approx(slow_anosim(values, code), rel=1e-9)


def test_separation__parts_are_the_functions(sample):
    values, code = sample
    assert separation(values, code) == (silhouette(values, code), anosim_r(values, code))


def test_separation__misfits_are_errors():
    with pytest.raises(ValueError, match="finite values of shape"):
        separation(np.array([[1.0], [np.nan]]), np.array([0, 1]))
    with pytest.raises(ValueError, match="each of 2 images, got int64 of shape"):
        silhouette(np.zeros((2, 1)), np.array([0]))
    with pytest.raises(ValueError, match="got float64"):
        anosim_r(np.zeros((2, 1)), np.zeros(2))
