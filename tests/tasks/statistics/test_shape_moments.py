"""Third and fourth moments of classes and of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.shape_moments import rest_shapes, shape_moments

from .moment_examples import CLASSES, EMPTY, recording


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_shape_moments__are_the_sums_of_powers(offset):
    responses, label = recording()
    responses = (responses + np.float32(offset)).astype(np.float32)
    moments = class_moments(responses, label, CLASSES)
    shapes = shape_moments(responses, label, moments)
    rest = rest_shapes(moments, shapes)
    for unit, row in enumerate(responses.astype(np.longdouble)):
        for code in range(CLASSES):
            for found, chosen in ((shapes, label == code), (rest, label != code)):
                own = row[chosen]
                deviation = own - own.mean() if own.size else own
                size = float((deviation**4).sum())
                np.testing.assert_allclose(
                    found.m3[unit, code], float((deviation**3).sum()), 1e-9, 1e-9 * size**0.75
                )
                np.testing.assert_allclose(found.m4[unit, code], size, 1e-9)
    assert (shapes.m4[:, EMPTY] == 0).all()


def test_rest_shapes__keep_the_digits_of_a_small_rest_beside_a_large_class():
    rng = np.random.default_rng(0)
    responses = np.concatenate([rng.normal(0, 1e3, 500), rng.normal(0, 1e-2, 20)])[None]
    responses, label = responses.astype(np.float32), np.repeat([0, 1], [500, 20])
    moments = class_moments(responses, label, 2)
    shapes = shape_moments(responses, label, moments)
    np.testing.assert_allclose(rest_shapes(moments, shapes).m4[0, 0], shapes.m4[0, 1], rtol=1e-12)
