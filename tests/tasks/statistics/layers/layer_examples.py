"""Responses of made-up layers, and what slow references say about them."""

from __future__ import annotations

import numpy as np

CLASSES = 5
EMPTY = 3
SINGLE = 4
CONSTANT = [7, 8]


def awkward_layer(images=211, seed=3):
    """Ties, offsets, extreme sizes and constants; class 3 is empty and class 4 has one image."""
    rng = np.random.default_rng(seed)
    code = rng.choice([0, 1, 2], images, p=[0.2, 0.5, 0.3])
    code[images // 2] = SINGLE
    value = rng.standard_normal((images, 11))
    value[:, 0] = 1e4 + 0.1 * value[:, 0] + 0.05 * code
    value[:, 1] = np.maximum(value[:, 1] + 0.5 * (code == 1), 0)
    value[:, 2] = np.round(value[:, 2]) + code
    value[:, 3] *= 1e30
    value[:, 4] *= 1e-42
    value[:, 5] = code == 2
    value[:, 6] = -2.5 * value[:, 1]
    value[:, 7] = 0.1
    value[:, 8] = np.where(rng.random(images) < 0.5, -0.0, 0.0)
    value[:, 9] += 0.7 * code
    return value.astype(np.float32), code


def clear_layer(seed, images=60, units=7, classes=3):
    """Responses without ties that tell the classes apart in part."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, classes, images)
    signal = rng.standard_normal((classes, units))[code]
    return (rng.standard_normal((images, units)) + 0.8 * signal).astype(np.float32), code


def slowly_standardised(values):
    """(x - mean) / sd of the units that vary, in extended precision."""
    exact = values.astype(np.longdouble)
    varies = values.min(axis=0) < values.max(axis=0)
    centred = exact[:, varies] - exact[:, varies].mean(axis=0)
    # Brought near 1 first: where the extended type is a double, 1e-42 squared is still in range.
    return (centred / np.sqrt((centred**2).mean(axis=0))).astype(np.float64)
