"""The writer: beside the model, one shard at a time, in memory that is used again."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from activarium.schemas.layout import Shard
from activarium.tasks.recording.shard_writer import FilledShard, ShardRows, ShardWriter

CPU = torch.device("cpu")
COLUMNS = {"channel_mean": slice(0, 3), "logits": slice(3, 5)}


def rows():
    return ShardRows(4, COLUMNS, (1, 1, 3), CPU)


def shard(index):
    return Shard(index, 4 * index, 4 * index + 4)


def test_shard_rows__hold_every_array_of_every_batch():
    made = rows()
    captured = torch.arange(20.0).reshape(4, 5)
    small = np.arange(12, dtype=np.uint8).reshape(4, 1, 1, 3)
    for first in (0, 3):
        part = slice(first, first + 3)
        valid = np.array([True, False, True])[: len(captured[part])]
        made.put(first, captured[part], valid, small[part])
    made.wait()
    values = made.values(0, 4)
    np.testing.assert_array_equal(values["channel_mean"], captured[:, :3])
    np.testing.assert_array_equal(values["logits"], captured[:, 3:])
    np.testing.assert_array_equal(values["thumbnail"], small)
    assert values["valid"].tolist() == [True, False, True, True]
    assert made.values(1, 2)["logits"].tolist() == [[8.0, 9.0]]


def test_shard_writer__stores_one_shard_while_the_next_one_fills():
    may_end, order = threading.Event(), []

    def store(filled):
        order.append(("begins", filled.shard.index))
        may_end.wait(10)
        order.append(("ends", filled.shard.index))

    with ShardWriter(store, rows) as writer:
        first = writer.rows()
        writer.hand_over(FilledShard(shard(0), first, 2))
        second = writer.rows()
        assert second is not first
        order.append(("filled", 1))
        may_end.set()
        writer.hand_over(FilledShard(shard(1), second, 2))
        assert writer.rows() is first, "memory is used again"
    assert order.index(("ends", 0)) < order.index(("begins", 1)) < order.index(("ends", 1))


def test_shard_writer__its_fault_stops_the_model_soon():
    def store(filled):
        raise OSError("disk full")

    writer = ShardWriter(store, rows)
    with pytest.raises(OSError, match="disk full"), writer:  # noqa: PT012 - at any check
        writer.hand_over(FilledShard(shard(0), writer.rows(), 2))
        while True:
            writer.check()


def test_shard_writer__a_fault_of_the_last_shard_is_not_lost():
    def store(filled):
        raise OSError("disk full")

    writer = ShardWriter(store, rows)
    with pytest.raises(OSError, match="disk full"), writer:
        writer.hand_over(FilledShard(shard(0), writer.rows(), 2))


def test_shard_writer__what_is_full_is_stored_though_a_later_batch_fails():
    stored = []
    with (  # noqa: PT012 - the fault of the second line
        pytest.raises(ValueError, match="the model"),
        ShardWriter(lambda filled: stored.append(filled.shard.index), rows) as writer,
    ):
        writer.hand_over(FilledShard(shard(0), writer.rows(), 2))
        raise ValueError("the model")
    assert stored == [0]


def test_shard_writer__the_thread_that_stores_is_told_of_its_device_first():
    seen = []

    def note(*_):
        seen.append(threading.current_thread().name)

    with ShardWriter(note, rows, begin_thread=note) as writer:
        writer.hand_over(FilledShard(shard(0), writer.rows(), 4))
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert seen[0] != threading.current_thread().name
