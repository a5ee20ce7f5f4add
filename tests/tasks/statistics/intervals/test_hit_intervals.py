"""Intervals of shares of images: accuracy of the probe, purity of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from activarium.tasks.statistics.intervals.hit_intervals import accuracy_interval, purity_interval


def neighbours(points, k):
    distance = np.abs(points[:, None] - points[None]).astype(float)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, :k]


def purity_of(points, label, queries, k):
    near = neighbours(points, k)[queries]
    return (label[near] == label[queries, None]).mean()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_accuracy_interval__is_wilsons_of_four_fifths_of_the_images(level):
    right = np.arange(500) < 420
    found = accuracy_interval(right, folds=5, level=level)
    images = 500 * (4 / 5) * (499 / 500)
    expected = proportion_confint(0.84 * images, images, 1 - level, "wilson")
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_accuracy_interval__of_groups_counts_groups():
    right = np.repeat(np.arange(100) % 4 > 0, 5)
    group = np.repeat(np.arange(100)[::-1], 5)
    expected = accuracy_interval(right[::5], folds=5)
    np.testing.assert_allclose(accuracy_interval(right, folds=5, group=group), expected, rtol=1e-9)


@pytest.mark.parametrize("right", [True, False])
def test_accuracy_interval__of_all_or_no_images_is_wilsons(right):
    found = accuracy_interval(np.full(40, right), folds=5)
    expected = proportion_confint(40 * right, 40, 0.05, "wilson")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_accuracy_interval__without_images_is_nan():
    assert np.isnan(accuracy_interval(np.zeros(0, bool), folds=5)).all()


@pytest.mark.parametrize("queries", [60, 25])
def test_purity_interval__is_the_jackknife_over_images(queries):
    rng = np.random.default_rng(queries)
    k, label = 3, np.repeat([0, 1, 2], 20)
    points = rng.standard_normal(60) + 0.8 * label
    asked = np.sort(rng.permutation(60)[:queries])
    purity = purity_of(points, label, asked, k)
    # What the sum of the queries' purities loses with each image, beside its own query's place.
    change = np.empty(60)
    for image in range(60):
        kept = np.delete(np.arange(60), image)
        left = np.searchsorted(kept, asked[asked != image])
        total = purity_of(points[kept], label[kept], left, k) * left.size
        change[image] = total - purity * left.size
    for code in range(3):
        change[label == code] -= change[label == code].mean()
    variance = (change**2).sum() * 60 / 59 / queries**2
    near, pairs = neighbours(points, k), np.zeros((60, 60))
    for one in asked:
        pairs[one, near[one]] = 1 / k
    squares = ((label[:, None] == label) - purity) ** 2 * (pairs + pairs.T) ** 2
    variance -= min(np.triu(squares, 1).sum() / queries**2, variance / 2)
    images = purity * (1 - purity) / variance
    expected = proportion_confint(purity * images, images, 0.05, "wilson")
    further = neighbours(points, k + 1)[asked]
    found = purity_interval(label, further, asked)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    alone = purity_interval(label, further, asked, group=np.arange(60))
    np.testing.assert_allclose(alone, expected, rtol=1e-9)


def test_purity_interval__classes_that_neighbours_use_up_have_none():
    points = np.random.default_rng(0).standard_normal(40)
    label = np.repeat([0, 1], [7, 33])
    for k, given in ((3, True), (4, False)):
        found = purity_interval(label, neighbours(points, k + 1), np.arange(40))
        assert np.isfinite(found).all() == given
    label = np.repeat([0, 1], [3, 37])
    assert np.isnan(purity_interval(label, neighbours(points, 2), np.arange(40))).all()


def test_purity_interval__of_pure_classes_ends_at_one():
    points = np.concatenate([np.arange(20), 1_000 + np.arange(20)])
    label = np.repeat([0, 1], 20)
    found = purity_interval(label, neighbours(points, 4), np.arange(40))
    np.testing.assert_allclose(found, [1 - 3.841459 / 43.841459, 1], rtol=1e-6)
    assert stats.chi2.ppf(0.95, 1) == pytest.approx(3.841459)


def test_purity_interval__covers_the_mean_over_recordings():
    rng = np.random.default_rng(1)
    label, found, values = np.repeat([0, 1, 2], 40), [], []
    for _ in range(400):
        points = rng.standard_normal(120) + label
        further = neighbours(points, 6)
        found.append(purity_interval(label, further, np.arange(120)))
        values.append((label[further[:, :5]] == label[:, None]).mean())
    low, high = np.array(found).T
    covered = ((low <= np.mean(values)) & (np.mean(values) <= high)).mean()
    # Four standard errors of a share of 0.95 are 0.044.
    assert covered > 0.906
