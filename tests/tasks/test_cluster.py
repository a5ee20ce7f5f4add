"""A cluster that goes away in the middle of the work is told, and the caller does not wait for ever."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.scheduling import run_pieces


class Cluster:
    """A scheduler and workers in processes of their own, without nannies that replace the dead."""

    def __init__(self, folder):
        self.log = (folder / "cluster.log").open("wb")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", port)
        self.workers = []

    def start(self, what, *options):
        command = [str(Path(sys.executable).parent / "dask"), what, *options, "--no-dashboard"]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def add_worker(self):
        options = ("--no-nanny", "--nthreads", "1", "--local-directory", Path(self.log.name).parent)
        self.workers.append(self.start("worker", self.address, *map(str, options)))

    def close(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture
def running(request, tmp_path, monkeypatch):
    """A cluster of one worker; a task may kill as many as the test says, or three."""
    failures = getattr(request, "param", 3)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", str(failures))
    cluster = Cluster(tmp_path)
    cluster.add_worker()
    yield cluster
    cluster.close()


def run_two(running, function, second, act):
    """Run a piece that ends at once, act, and run the second piece on the same worker."""
    pieces = [(0,), (second,)]
    return run_pieces(function, pieces, scheduler=running.address, advance=lambda _: act())


def test_run_pieces__cluster_that_loses_all_workers_is_an_error(running, monkeypatch):
    def act():
        monkeypatch.setattr("activarium.tasks.cluster.WAIT_SECONDS", 1)
        running.workers[0].kill()

    with pytest.raises(UserError, match=r"has lost all its workers, and none came within 1 s"):
        run_two(running, time.sleep, 60, act)


def test_run_pieces__worker_lost_with_results_that_were_not_fetched_is_an_error(
    running, monkeypatch, caplog
):
    monkeypatch.setattr("activarium.tasks.cluster.FETCH_SECONDS", 1)
    steps = []

    def act():
        if not steps:
            time.sleep(2)  # by now the other pieces are done too, and only that worker has them
            monkeypatch.setattr("activarium.tasks.cluster.WAIT_SECONDS", 1)
            running.workers[0].kill()
            running.workers[0].wait()
        steps.append(1)

    pieces = [(value,) for value in range(5)]
    with pytest.raises(UserError, match=r"has lost all its workers, and none came within 1 s"):
        run_pieces(abs, pieces, scheduler=running.address, advance=lambda _: act())
    # One line is enough.
    assert not [each for each in caplog.records if "gather" in each.message]


def test_run_pieces__another_worker_does_what_a_lost_one_left(running):
    steps = []

    def act():
        if not steps:
            running.add_worker()
            running.workers[0].kill()
        steps.append(1)

    assert run_two(running, abs, -3, act) == [0, 3]
    assert len(steps) == 2


def test_run_pieces__scheduler_that_goes_away_is_an_error(running):
    with pytest.raises(UserError, match=f"the Dask scheduler at {running.address} went away"):
        run_two(running, time.sleep, 60, running.scheduler.kill)


@pytest.mark.parametrize("running", [0], indirect=True)
def test_run_pieces__piece_that_kills_its_worker_is_an_error(running):
    with pytest.raises(UserError, match=r"died one after the other.*nothing.*is lost"):
        run_pieces(os._exit, [(1,)], scheduler=running.address, advance=lambda _: None)
