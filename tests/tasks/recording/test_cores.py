"""Threads on purpose: the cores that a process may use, and no more."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from activarium.tasks import processes
from activarium.tasks.recording import cores
from activarium.tasks.recording.cores import (
    keep_freed_memory,
    threads_per_process,
    torch_threads,
    usable_cores,
)


def test_usable_cores__are_at_most_the_processors_that_the_process_may_use():
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_usable_cores__two_threads_of_one_core_count_once(tmp_path, monkeypatch):
    for processor, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / str(processor)).write_text(f"{siblings}\n")
    monkeypatch.setattr(cores, "SIBLINGS", str(tmp_path / "{}"))
    monkeypatch.setattr(processes, "CPU_QUOTAS", ())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert usable_cores() == 2


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("150000 100000", 2), ("20000 100000", 1), ("", 4)]
)
def test_usable_cores__keep_to_the_quota_of_a_container(tmp_path, monkeypatch, quota, expected):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(processes, "CPU_QUOTAS", ((str(tmp_path / "cpu.max"),),))
    monkeypatch.setattr(cores, "SIBLINGS", str(tmp_path / "none{}"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert usable_cores() == expected


def test_threads_per_process__shares_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    assert [threads_per_process(processes) for processes in (1, 2, 3, 20)] == [8, 4, 2, 1]
    assert threads_per_process(2, threads=5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_process(2) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert threads_per_process(2) == 4


def test_torch_threads__are_put_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_keep_freed_memory__takes_effect_with_glibc():
    assert keep_freed_memory()
