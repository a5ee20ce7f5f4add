"""A cluster that goes away, or whose workers see something else, is told; nobody waits for ever."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import EmbedConfig, RecordCall, RunConfig
from activarium.schemas.errors import UserError
from activarium.tasks.embedding.embed import embed
from activarium.tasks.recording.checkpoints import choose_checkpoint
from activarium.tasks.recording.spreading import record_spread
from activarium.tasks.scheduling import run_pieces
from activarium.tasks.shared_folders import PREFIX, marked, unseen
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import open_recording
from activarium.tasks.stores.recording_store import read_attributes


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

    def start(self, what, *options, **settings):
        command = [str(Path(sys.executable).parent / "dask"), what, *options, "--no-dashboard"]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log, **settings)

    def add_worker(self, **settings):
        options = ("--no-nanny", "--nthreads", "1", "--local-directory", Path(self.log.name).parent)
        self.workers.append(self.start("worker", self.address, *map(str, options), **settings))

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


def test_run_pieces__scheduler_that_goes_away_is_an_error(running, caplog):
    with pytest.raises(UserError, match=f"the Dask scheduler at {running.address} went away"):
        run_two(running, time.sleep, 60, running.scheduler.kill)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("running", [0], indirect=True)
def test_run_pieces__piece_that_kills_its_worker_is_an_error(running):
    with pytest.raises(UserError, match=r"died one after the other.*nothing.*is lost"):
        run_pieces(os._exit, [(1,)], scheduler=running.address, advance=lambda _: None)


WORKER = rf"worker tcp://127.0.0.1:\d+ on {re.escape(socket.gethostname())}"
HERE = Path("/proc/self/cwd/atlas")
"""An absolute path that is another folder for each process of another working folder."""

sees_by_folder = pytest.mark.skipif(not HERE.parent.exists(), reason="needs Linux's /proc")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A cluster whose only worker sees another folder under the path `HERE`."""
    for name in ("client", "worker"):
        (tmp_path / name / "atlas").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "client")
    cluster = Cluster(tmp_path)
    cluster.add_worker(cwd=tmp_path / "worker")
    yield cluster
    cluster.close()


@pytest.fixture
def small_run():
    """A run of two shards."""
    return RunConfig.model_validate(
        {
            "name": "small",
            "test_set": {"source": "digits", "limit": 40},
            "preprocessing": {"size": 16},
            "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
            "record": {"device": "cpu", "batch_size": 10, "shard_images": 20, "threads": 1},
        }
    )


@sees_by_folder
def test_cluster__worker_that_sees_another_folder_is_named(elsewhere, small_run):
    with pytest.raises(UserError, match=rf"^{WORKER} does not see {HERE} as this machine does"):
        run_pieces(abs, [(1,)], scheduler=elsewhere.address, advance=lambda _: None, shared=[HERE])
    with pytest.raises(UserError, match=rf"^{WORKER} does not see {HERE}/recordings as"):
        record_spread(
            Atlas(HERE),
            small_run,
            choose_checkpoint(small_run.model),
            call=RecordCall(dask=elsewhere.address),
        )
    assert not [*HERE.rglob("*.zarr"), *HERE.rglob(f"{PREFIX}*")]
    # The same worker, asked for what it need not see.
    pieces = {"scheduler": elsewhere.address, "advance": lambda _: None}
    assert run_pieces(abs, [(-1,)], **pieces) == [1]
    for function, argument, problem in (
        (read_attributes, place_at(HERE / "gone.zarr"), "no recording at"),
        (os.listdir, "/no/such/folder", "No such file or directory: '/no/such/folder'"),
    ):
        with pytest.raises(UserError, match=rf"^{WORKER}: .*{problem}"):
            run_pieces(function, [(argument,)], **pieces)


def test_cluster__worker_that_no_longer_sees_the_folder_is_named(running, tmp_path):
    def act():
        for mark in tmp_path.glob(f"{PREFIX}*"):
            mark.unlink()

    pieces = [(each,) for each in (0, 0.5, 0.5)]
    with pytest.raises(UserError, match=rf"^{WORKER} does not see {tmp_path} as"):
        run_pieces(
            time.sleep,
            pieces,
            scheduler=running.address,
            advance=lambda _: act(),
            shared=[tmp_path],
        )


def test_cluster__worker_without_this_program_or_with_another_version_is_named(
    tmp_path, monkeypatch
):
    (tmp_path / "shadow" / "activarium").mkdir(parents=True)
    (tmp_path / "shadow" / "activarium" / "__init__.py").touch()
    cluster = Cluster(tmp_path)
    pieces = {"scheduler": cluster.address, "advance": lambda _: None}
    try:
        cluster.add_worker()
        monkeypatch.setattr("activarium.tasks.cluster_worker.program_version", lambda: "99.9")
        with pytest.raises(UserError, match=rf"expected activarium 99.9 .*{WORKER} has \d"):
            run_pieces(abs, [(1,)], **pieces)
        monkeypatch.undo()
        cluster.add_worker(env={**os.environ, "PYTHONPATH": str(tmp_path / "shadow")})
        with Client(cluster.address) as client:
            client.wait_for_workers(2)
        with pytest.raises(
            UserError, match=r"worker tcp://\S+ cannot load this program .*No module"
        ):
            run_pieces(abs, [(1,)], **pieces)
    finally:
        cluster.close()


@pytest.mark.slow
def test_cluster__what_is_not_here_in_the_end_is_an_error_that_names_who_made_it(
    running, tmp_path, small_run
):
    """As where a worker's disk only looks like this machine's."""
    atlas = Atlas(tmp_path / "atlas")
    recorded = {"call": RecordCall(dask=running.address)}

    def lose(pattern):
        @contextmanager
        def progress(description, total):
            yield lambda _: None
            for path in sorted(atlas.root.glob(pattern))[:1]:
                path.unlink()

        return progress

    checkpoint = choose_checkpoint(small_run.model)
    with pytest.raises(UserError, match=rf"^1 of 2 shards of .* are not at .*; made by {WORKER}"):
        record_spread(
            atlas, small_run, checkpoint, **recorded, progress=lose("recordings/*/receipts/shard*")
        )
    receipt = record_spread(atlas, small_run, checkpoint, **recorded)
    assert (receipt.shards_left, receipt.made) == (0, True)
    maps = EmbedConfig(methods=("pca",), scheduler=running.address)
    recording = open_recording(atlas, receipt.recording)
    lost = "tables/embeddings/*/*.parquet"
    with pytest.raises(UserError, match=r"^1 of \d maps of .* were made but are not in"):
        embed(atlas, recording, config=maps, progress=lose(lost))
    assert embed(atlas, recording, config=maps).made
    assert not [*atlas.root.rglob(f"{PREFIX}*")]


def test_marked__folder_is_seen_until_the_end_and_leftovers_are_swept(tmp_path):
    (tmp_path / f"{PREFIX}of-a-killed-program").touch()
    with marked([tmp_path]) as marks, marked([tmp_path]) as others:
        assert len(list(tmp_path.iterdir())) == 2, "what is in use stays"
        assert unseen([*marks, *others]) == ()
        assert unseen([tmp_path / "sub" / marks[0].name]) == (tmp_path / "sub",)
    assert not list(tmp_path.iterdir())
    assert unseen(marks) == (tmp_path,)


def test_marked__folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file"), marked([tmp_path / "file"]):
        pass
