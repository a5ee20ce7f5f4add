"""Responses and labels that several tests of moments share."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from activarium.tasks.statistics.moments import ClassMoments, class_moments

CLASSES = 5
EMPTY = 3
LONE = 4
"""The class of `recording` with one image."""


def row(values):
    return np.array([values], np.float32)


def moments_of(values, label, n_classes=CLASSES):
    return class_moments(row(values), np.array(label), n_classes)


def rounded_constant():
    """Moments of a unit of equal responses whose means and squares hold rounding errors."""
    count = np.array([2, 3, 4, 0, 1])
    mean = 0.1 + 1e-17 * np.array([[0.0, 1, 2, np.nan, 3]])
    squares = np.array([[1e-33, 2e-33, 3e-33, 0, 0]])
    return ClassMoments(count, mean, squares, np.array([0.1]), np.array([0.1]), np.zeros_like(mean))


@cache
def recording():
    """Ties, offsets, extreme sizes; class 3 is empty and class 4 has one image."""
    rng = np.random.default_rng(7)
    images = 611
    label = rng.choice([0, 1, 2], images, p=[0.2, 0.5, 0.3])
    label[100] = LONE
    noise = rng.standard_normal((9, images))
    noise[1] = np.maximum(noise[1] + 0.5 * (label == 1), 0)
    noise[2] = np.round(noise[2]) + label
    noise[3] = 1e4 + 0.1 * noise[3] + 0.02 * label
    noise[4] *= 1e30
    noise[5] *= 1e-43
    noise[6] = 100.0 * label + (1 + label) * noise[6]
    noise[7] = label == 2
    noise[8] = np.maximum(noise[8] - 2, 0)
    return noise.astype(np.float32), label


def unitless(values):
    """Scaled and centred in float64, where measures without a unit stay the same."""
    scaled = values.astype(np.float64) / np.abs(values).max()
    return scaled - scaled.mean()


def groups(values, label, least=1):
    return [values[label == c] for c in np.unique(label) if (label == c).sum() >= least]


@st.composite
def recordings(draw, lowest=-3):
    """Three units with ties or in steps of 1/8, in five classes of which some may be empty."""
    images = draw(st.integers(2, 40))
    value = draw(
        st.sampled_from(
            [st.integers(lowest, 3).map(float), st.integers(0, 5000).map(lambda v: v / 8)]
        )
    )
    responses = draw(hnp.arrays(np.float32, (3, images), elements=value))
    label = draw(hnp.arrays(np.int64, images, elements=st.integers(0, CLASSES - 1)))
    return responses, label


def reordered(responses, label, random):
    order = list(range(label.size))
    random.shuffle(order)
    return class_moments(responses[:, order], label[order], CLASSES)


def relabelled(responses, label, names):
    """Class c is called names[c]."""
    return class_moments(responses, np.array(names)[label], CLASSES)
