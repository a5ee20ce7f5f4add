"""Processes: no more than the machine carries, and none without its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from activarium.schemas.errors import UserError
from activarium.tasks import processes
from activarium.tasks.processes import check_processes, most_processes, usable_memory
from activarium.tasks.recording.devices import device_per_process

GIB = 2**30

RECORDING = """
import sys
from pathlib import Path
from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RecordCall, RunConfig
from activarium.tasks.recording.checkpoints import choose_checkpoint
from activarium.tasks.recording.spreading import record_spread

config = RunConfig.model_validate(
    {
        "name": "orphans",
        "test_set": {"source": "digits"},
        "preprocessing": {"size": 160},
        "model": {"architecture": "resnet18", "width": 64, "weights": "untrained"},
        "record": {"devices": ["cpu:2"], "threads": 1, "batch_size": 512, "shard_images": 512},
    }
)
record_spread(Atlas(Path(sys.argv[1])), config, choose_checkpoint(config.model), call=RecordCall())
"""

PIECES = """
import sys, time
from activarium.tasks.scheduling import run_pieces

run_pieces(time.sleep, [(600,), (600,)], scheduler="processes", advance=print)
"""


def children(pid):
    try:
        return [each for each in psutil.Process(pid).children(recursive=True) if each.is_running()]
    except psutil.NoSuchProcess:
        return []


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.mark.skipif(processes.usable_processors() < 2, reason="needs two processors")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "busy"), [(RECORDING, True), (RECORDING, False), (PIECES, True)]
)
def test_workers__end_when_their_parent_is_killed(tmp_path, program, busy):
    command = [sys.executable, "-Wignore", "-c", program, str(tmp_path / "atlas")]
    # In an own session, as a terminal that is closed leaves nobody who ends them.
    parent = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        workers = wait_for(
            lambda: (
                len(found := children(parent.pid)) >= 2
                and (not busy or min(each.memory_info().rss for each in found) > 10_000_000)
                and found
            )
        )
        if busy:
            time.sleep(3)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for each in alive:
        each.kill()
    assert not alive


CHILD = """
import subprocess, sys, time
from activarium.tasks.processes import end_child_with_this

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
end_child_with_this(child.pid)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_programs_of_others__end_when_their_parent_is_killed():
    command = [sys.executable, "-Wignore", "-c", CHILD]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as parent:
        try:
            child = psutil.Process(int(parent.stdout.readline()))
            watchers = wait_for(lambda: [each for each in children(parent.pid) if each != child])
            time.sleep(1)
            assert child.is_running()
        finally:
            os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([child, *watchers], timeout=20)
    for each in alive:
        each.kill()
    assert not alive


def test_check_processes__more_than_the_processors_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "cpu_count", lambda: 4)
    monkeypatch.setattr(processes, "cpu_quota", lambda: 2.5)
    monkeypatch.setattr(processes, "usable_memory", lambda: None)
    check_processes(3, setting="here")
    with pytest.raises(UserError, match=r"here: 4 processes, and 3 cores .*: ask for 3 at most"):
        check_processes(4, setting="here")
    assert most_processes() == 3


def test_check_processes__more_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "usable_processors", lambda: 64)
    monkeypatch.setattr(processes, "usable_memory", lambda: 2 * GIB)
    check_processes(4, setting="here")
    with pytest.raises(UserError, match=r"more than 2.5 GiB of memory, and 2.0 GiB are free"):
        check_processes(5, setting="here")
    assert most_processes() == 4
    monkeypatch.setattr(processes, "usable_memory", lambda: 0)
    check_processes(1, setting="here")
    assert most_processes() == 1


@pytest.mark.parametrize(
    "devices", [["cpu:9999"], ["cpu:99999999999999999999"], ["cpu"] * 10_000, ["cpu:2"] * 9_999]
)
def test_device_per_process__runaways_are_refused_before_anything_is_started(devices):
    with pytest.raises(UserError, match=r"record\.devices: [\d,]+ processes, and \d+ core"):
        device_per_process(devices)


def test_usable_memory__keeps_to_a_container(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {8 * 2**20} kB\n")
    monkeypatch.setattr(processes, "MEMORY_INFO", str(tmp_path / "meminfo"))
    (tmp_path / "memory.max").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {GIB}\ninactive_file {GIB}\nactive_file 0\n")
    limits = ((str(tmp_path / "memory.max"), "memory.current"),)
    monkeypatch.setattr(processes, "MEMORY_LIMITS", limits)
    assert usable_memory() == 2 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory() == 8 * GIB
    monkeypatch.setattr(processes, "MEMORY_INFO", str(tmp_path / "nothing"))
    assert usable_memory() is None
