"""Statistics of responses that differ in their last digits, against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest

from activarium.tasks.statistics.layers.class_pairs import standardised_centroids
from activarium.tasks.statistics.merged_moments import combine_moments
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.units.omega_squared import omega2
from activarium.tasks.statistics.units.preference import (
    anova,
    class_z,
    hedges_g,
    lifetime_sparseness,
)
from activarium.tasks.statistics.units.selectivity import ccmas, general_index
from activarium.tasks.statistics.units.sparseness import treves_rolls
from activarium.tasks.statistics.units.welch import welch_f

CLASSES = 4
CLOSE = {"rel": 1e-9}


def sample(level):
    """Responses of eight values or so around a level, in classes of which none stands out."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, CLASSES, 601)
    noise = rng.standard_normal(601)
    return np.array([level + abs(level) * 1e-7 * noise], np.float32), label


@pytest.fixture(scope="module", params=[1e4, -1e4, 3e-30])
def responses_and_label(request):
    return sample(request.param)


@pytest.fixture(scope="module")
def groups(responses_and_label):
    """Return the responses of each class as fractions."""
    (values,), label = responses_and_label
    return [[Fraction(float(v)) for v in values[label == c]] for c in range(CLASSES)]


@pytest.fixture(scope="module")
def moments(responses_and_label):
    return class_moments(*responses_and_label, CLASSES)


def mean(values):
    return sum(values) / len(values)


def squares(values):
    centre = mean(values)
    return sum((v - centre) ** 2 for v in values)


def test_hedges_g__equals_fractions(groups, moments):
    found = hedges_g(moments)[0]
    for c, one in enumerate(groups):
        rest = [v for other in groups if other is not one for v in other]
        df = len(one) + len(rest) - 2
        pooled = (squares(one) + squares(rest)) / df
        difference = mean(one) - mean(rest)
        g = float(difference) / sqrt(pooled) * (1 - 3 / (4 * df - 1))
        assert found[c] == pytest.approx(g, **CLOSE)


def test_anova_and_omega__equal_fractions(groups, moments):
    everything = [v for group in groups for v in group]
    within = sum(map(squares, groups))
    between = squares(everything) - within
    df = CLASSES - 1, len(everything) - CLASSES
    f = between / df[0] / (within / df[1])
    assert anova(moments).f[0] == pytest.approx(float(f), **CLOSE)
    assert anova(moments).eta2[0] == pytest.approx(float(between / (between + within)), **CLOSE)
    error = within / df[1]
    omega = (between - df[0] * error) / (between + within + error)
    assert omega2(moments)[0] == pytest.approx(float(omega), **CLOSE)


def test_welch_f__equals_fractions(groups, moments):
    weight = [len(each) * (len(each) - 1) / squares(each) for each in groups]
    centre = sum(w * mean(each) for w, each in zip(weight, groups, strict=True)) / sum(weight)
    spread = sum(
        (1 - w / sum(weight)) ** 2 / (len(each) - 1) for w, each in zip(weight, groups, strict=True)
    )
    between = sum(w * (mean(each) - centre) ** 2 for w, each in zip(weight, groups, strict=True))
    f = between / (CLASSES - 1) / (1 + Fraction(2 * (CLASSES - 2), CLASSES**2 - 1) * spread)
    assert welch_f(moments).f[0] == pytest.approx(float(f), **CLOSE)


def test_class_z__equals_fractions(groups, moments):
    means = [mean(each) for each in groups]
    expected = [float(m - mean(means)) / sqrt(squares(means) / CLASSES) for m in means]
    assert class_z(moments.offset)[0] == pytest.approx(expected, **CLOSE)


def test_selectivity_and_sparseness__equal_fractions(groups, moments):
    everything = [v for group in groups for v in group]
    shift = min(*everything, 0)
    means = [mean(each) - shift for each in groups]
    best = max(means)
    rest = mean([m for m in means if m != best])
    assert general_index(moments)[0] == pytest.approx(float((best - rest) / (best + rest)), **CLOSE)
    others = mean([v - shift for each in groups if mean(each) - shift != best for v in each])
    expected = float((best - others) / (best + others))
    assert ccmas(moments)[0] == pytest.approx(expected, **CLOSE)
    activity = (mean(everything) - shift) ** 2 / mean([(v - shift) ** 2 for v in everything])
    assert treves_rolls(moments)[0] == pytest.approx(float(1 - activity), **CLOSE)
    scale = 1 - Fraction(1, len(everything))
    expected = float((1 - activity) / scale)
    assert lifetime_sparseness(moments)[0] == pytest.approx(expected, **CLOSE)


def test_standardised_centroids__equal_fractions(groups, moments):
    everything = [v for group in groups for v in group]
    sd = sqrt(squares(everything) / (len(everything) - 1))
    expected = [float(mean(each) - mean(everything)) / sd for each in groups]
    assert standardised_centroids(moments)[0] == pytest.approx(expected, **CLOSE)


def test_combined_moments__keep_the_digits(responses_and_label):
    responses, label = responses_and_label
    halves = [
        class_moments(responses[:, h], label[h], CLASSES) for h in (slice(200), slice(200, None))
    ]
    whole = class_moments(responses, label, CLASSES)
    merged = combine_moments(*halves)
    assert hedges_g(merged)[0] == pytest.approx(hedges_g(whole)[0], **CLOSE)
    assert anova(merged).f == pytest.approx(anova(whole).f, **CLOSE)
