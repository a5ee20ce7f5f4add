from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activarium.tasks.capture import openmp
from activarium.tasks.capture.openmp import region
from activarium.tasks.capture.row_transforms import Operations, reduce_rows, transform_rows
from activarium.tasks.recording.cores import torch_threads

ALL = ("mean", "max", "sd", "active")


def in_float64(rows):
    """Return what torch gives in float64 for (image, position, channel)."""
    values = rows.double()
    return {
        "mean": values.mean(1),
        "max": values.amax(1),
        "sd": values.std(1, correction=0),
        "active": (values > 0).double().mean(1),
    }


def assert_reduced(found, rows):
    for reduction, expected in in_float64(rows).items():
        size = float((expected if reduction == "sd" else rows).abs().max())
        difference = float((found[reduction].double() - expected).abs().max())
        assert difference <= 3e-7 * size, reduction


@given(
    images=st.integers(1, 3),
    positions=st.integers(1, 70),
    channels=st.integers(1, 40) | st.sampled_from([512, 513, 1_100]),
    center=st.sampled_from([0.0, 1.0, -30.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=300, deadline=None)
def test_reduce_rows__any_shape_agrees_with_float64(images, positions, channels, center, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(images, positions, channels, generator=generator) + center
    found = dict(zip(ALL, reduce_rows(rows, ALL), strict=True))
    assert_reduced(found, rows)


def test_reduce_rows__large_values_with_little_noise_keep_their_deviation():
    rows = torch.randn(2, 3_000, 5, generator=torch.Generator().manual_seed(0)) * 0.01 + 1e4
    (deviation,) = reduce_rows(rows, ("sd",))
    expected = rows.double().std(1, correction=0)
    torch.testing.assert_close(deviation.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.1, -3e7, 1e-30])
def test_reduce_rows__constant_maps_have_no_deviation(value):
    rows = torch.full((1, 777, 5), value)
    mean, deviation = reduce_rows(rows, ("mean", "sd"))
    assert deviation.max() == 0
    torch.testing.assert_close(mean, rows[:, 0], rtol=1e-7, atol=0)


@pytest.mark.parametrize("reductions", [("sd",), ("active", "max"), ("max", "mean")])
def test_reduce_rows__only_what_is_asked_in_that_order(reductions):
    rows = torch.randn(2, 30, 4)
    every = dict(zip(ALL, reduce_rows(rows, ALL), strict=True))
    found = reduce_rows(rows, reductions)
    assert len(found) == len(reductions)
    for reduction, values in zip(reductions, found, strict=True):
        assert torch.equal(values, every[reduction])


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(("positions", "channels"), [(64, 8), (50, 100), (9, 700), (4_000, 16)])
def test_transform_rows__operations_in_order_and_reductions_at_every_stage(
    positions, channels, in_place
):
    generator = torch.Generator().manual_seed(0)
    rows, other = torch.randn(2, 2, positions, channels, generator=generator)
    scale, shift = torch.randn(2, channels, generator=generator)
    source = rows.clone()
    result = source if in_place else torch.empty_like(source)
    operations = Operations((scale, shift), other, 1.5)
    stages = transform_rows(source, result, operations, (ALL, ALL, ALL, ALL))
    scaled = (rows.double() * scale.double() + shift.double()).float()
    added = scaled + other
    rectified = added.clamp(0, 1.5)
    for found, expected in zip(stages, (rows, scaled, added, rectified), strict=True):
        assert_reduced(found, expected)
    torch.testing.assert_close(result, rectified, rtol=2e-7, atol=2e-7)
    assert in_place or torch.equal(source, rows)


@pytest.mark.parametrize("own_threads", [True, False])
def test_transform_rows__threads_change_nothing(own_threads, monkeypatch):
    if own_threads:
        monkeypatch.setattr(openmp, "region", lambda: None)
    rows = torch.randn(7, 700, 64)
    results = []
    for threads in (1, 2, 3):
        result = torch.empty_like(rows)
        with torch_threads(threads):
            stages = transform_rows(
                rows, result, Operations(upper=math.inf), (ALL, None, None, ALL)
            )
        results.append((result, *stages[0].values(), *stages[3].values()))
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


def test_transform_rows__fewer_threads_than_asked_for_leave_nothing_out():
    code = """
import torch
from activarium.tasks.capture.openmp import region
from activarium.tasks.capture.row_transforms import reduce_rows
assert region() is not None
rows = torch.randn(6, 900, 64)
torch.set_num_threads(4)
many = reduce_rows(rows, ("mean", "sd"))
torch.set_num_threads(1)
one = reduce_rows(rows, ("mean", "sd"))
print(all(torch.equal(*pair) for pair in zip(many, one)))
"""
    if region() is None:
        pytest.skip("torch has no GNU OpenMP here")
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
