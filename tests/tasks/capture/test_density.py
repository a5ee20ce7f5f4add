from __future__ import annotations

import numpy as np
import pytest
import torch

from activarium.schemas.density import BINS, NEAR_ZERO, bin_edges
from activarium.tasks.capture.density import DensityCounter, _count_by_torch, bin_of

EDGES = np.array(bin_edges())


def expected_counts(maps, classes, count):
    """Count by searching the edges, value by value."""
    counts = np.zeros((count, BINS), np.int64)
    for image, code in zip(maps, classes, strict=True):
        if code < 0:
            continue
        values = image.double().numpy().ravel()
        values = values[~np.isnan(values)]
        magnitude = np.searchsorted(EDGES[NEAR_ZERO + 1 :], np.abs(values), side="right")
        magnitude = np.minimum(magnitude, NEAR_ZERO)
        np.add.at(counts[code], NEAR_ZERO + np.sign(values).astype(int) * magnitude, 1)
    return counts


def test_bin_edges__rise_and_are_symmetric():
    assert len(EDGES) == BINS + 1
    assert (np.diff(EDGES) > 0).all()
    np.testing.assert_array_equal(EDGES, -EDGES[::-1])
    assert EDGES[NEAR_ZERO] < 0 < EDGES[NEAR_ZERO + 1]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e7])
def test_density__counts_every_position_by_class(layout, scale):
    maps = (torch.randn(6, 5, 4, 3) * scale).contiguous(memory_format=layout)
    maps[0, 0, 0] = 0.0
    maps[1, 1, 0, 0], maps[1, 1, 1, 0] = float("inf"), float("-inf")
    maps[2, 2, 0, 0] = float("nan")
    classes = torch.tensor([0, 1, 1, 2, -1, 0])
    counter = DensityCounter(2, 4, torch.device("cpu"))
    counter.classes = classes
    counter.add(1, maps)
    counts = counter.take()
    assert counts.shape == (2, 4, BINS)
    np.testing.assert_array_equal(counts[1], expected_counts(maps, classes, 4))
    assert counts[0].sum() == 0
    assert counts[1].sum() == 5 * 60 - 1
    assert counter.take().sum() == 0


def test_density__edges_belong_to_the_bin_of_larger_magnitude():
    values = torch.tensor(EDGES[1:-1], dtype=torch.float32)
    bins = bin_of(values).numpy()
    places = np.arange(1, BINS)
    np.testing.assert_array_equal(bins, np.where(EDGES[1:-1] > 0, places, places - 1))


def test_density__accelerators_count_what_the_cpu_counts():
    maps = torch.randn(5, 7, 6, 4) * 3
    maps[0, 0, 0, 0] = float("nan")
    classes = torch.tensor([0, 2, 2, -1, 1])
    counts = torch.zeros(4, BINS + 1, dtype=torch.int64)
    _count_by_torch(maps.permute(0, 2, 3, 1).reshape(5, -1), classes, counts)
    np.testing.assert_array_equal(counts[:3, :BINS], expected_counts(maps, classes, 3))
