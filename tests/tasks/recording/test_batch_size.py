"""Batch sizes: by rule, by trial, and halved when memory ends."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch

from activarium.schemas.errors import UserError
from activarium.tasks.recording.batch_size import (
    default_batch_size,
    even_batch_size,
    find_batch_size,
    halved,
)


@pytest.mark.parametrize(
    ("side", "cpu"), [(8, 256), (32, 256), (64, 256), (96, 128), (224, 32), (512, 4), (4_096, 4)]
)
def test_default_batch_size__follows_from_the_pixels(side, cpu):
    assert default_batch_size(side, side, "cpu") == cpu
    assert default_batch_size(side, side, "cuda") == 8 * cpu


class Model:
    """A stand-in with a clock of its own: quickest per image at one size, and out of memory."""

    def __init__(self, *, fastest, fits=10**9):
        self.fastest, self.fits = fastest, fits
        self.seconds = 0.0
        self.tried, self.open = [], []
        self.find = partial(find_batch_size, self.opened, clock=lambda: self.seconds)

    @contextmanager
    def opened(self, images):
        self.open += [images]
        yield partial(self.run, images)

    def run(self, images):
        self.tried.append(images)
        if images > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        slower = max(1, self.fastest / images) ** 0.5
        self.seconds += images * 2e-4 * slower


def test_find_batch_size__doubles_while_it_gets_faster():
    model = Model(fastest=64)
    assert model.find(first=8, most=1_000) == 64
    assert max(model.tried) == 128
    assert model.open == [8, 16, 32, 64, 128]


def test_find_batch_size__the_first_pass_of_a_size_compiles_and_is_not_timed():
    model = Model(fastest=64)
    run = model.run

    def compiling(images):
        model.seconds += 0.0 if images in model.tried else 1_000.0
        run(images)

    model.run = compiling
    assert model.find(first=8, most=1_000) == 64


def test_find_batch_size__the_real_clock_times_the_passes():
    sizes = []

    @contextmanager
    def opened(images):
        yield partial(sizes.append, images)

    assert find_batch_size(opened, first=8, most=8) == 8
    assert sizes == [8, 8, 8]


def test_find_batch_size__stops_before_the_memory_ends():
    assert Model(fastest=10_000, fits=40).find(first=8, most=1_000) == 32


def test_find_batch_size__goes_below_the_first_where_that_does_not_fit():
    assert Model(fastest=10_000, fits=3).find(first=16, most=1_000) == 2


def test_find_batch_size__is_at_most_a_shard():
    model = Model(fastest=10_000)
    assert model.find(first=16, most=10) == 10
    assert max(model.tried) == 10


def test_find_batch_size__other_faults_are_raised():
    def fail():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        find_batch_size(lambda _: nullcontext(fail), first=16, most=10)


def test_halved__one_image_is_one_clear_line():
    assert [halved(size) for size in (9, 2)] == [4, 1]
    with pytest.raises(UserError, match="out of memory with a batch of one image"):
        halved(1)


@pytest.mark.parametrize(
    ("size", "shard", "even"),
    [(256, 834, 209), (256, 256, 256), (256, 100, 100), (256, 257, 129), (1, 7, 1), (32, 4096, 32)],
)
def test_even_batch_size__as_many_passes_and_little_left_over(size, shard, even):
    assert even_batch_size(size, shard) == even
    assert -(-shard // even) == -(-shard // size)
