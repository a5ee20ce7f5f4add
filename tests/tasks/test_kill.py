"""Recordings survive kill -9 at any moment: what is finished later is what was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RunConfig
from activarium.schemas.receipts import ShardReceipt

KILLS = 8
IMAGES = 540
SHARD_IMAGES = 45

CONFIG = RunConfig.model_validate(
    {
        "name": "kill",
        "test_set": {"source": "digits"},
        "preprocessing": {"size": 16},
        "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
        "record": {"device": "cpu", "batch_size": 20, "shard_images": SHARD_IMAGES},
    }
)

# Imports once, then forks a process for every line that it reads, which records into that folder.
# One thread everywhere: sums in another order differ in their last bits.
STARTER = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RunConfig
from activarium.tasks.checkpoints import choose_checkpoint, record_checkpoint
import sklearn.datasets, sklearn.model_selection, torch
torch.set_num_threads(1)
config = RunConfig.model_validate_json(sys.argv[1])

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

@contextmanager
def progress(description, total):
    done = 0
    def advance(more):
        nonlocal done
        done += more
        say("done", done)
    yield advance

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        say("pid", os.getpid())
        record_checkpoint(
            Atlas(Path(line.strip())), config, choose_checkpoint(config.model), progress=progress
        )
        say("complete")
        os._exit(0)
    os.waitpid(child, 0)
    say("ended")
"""


class Starter:
    """Starts recordings in processes of their own, and kills them."""

    def __init__(self):
        command = [sys.executable, "-c", STARTER, CONFIG.model_dump_json()]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, root):
        """Start a recording and return its process id."""
        self.process.stdin.write(f"{root}\n")
        word, pid = self.process.stdout.readline().split()
        assert word == "pid"
        return int(pid)

    def run(self, root, *, batches=None, until=None, delay=0.0):
        """Record; kill after so many batches, or so many images, and a delay. Return what it said.

        It is left to end where neither is given.
        """
        pid = self.start(root)
        said = []
        if batches == 0:
            self.kill(pid, delay)
        for line in self.process.stdout:
            if line == "ended\n":
                return said
            said.append(line.strip())
            if len(said) == batches or line == f"done {until}\n":
                self.kill(pid, delay)
        raise AssertionError("the starter ended")

    def kill(self, pid, delay):
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def starter():
    made = Starter()
    yield made
    made.close()


def kills():
    """Return the moments: early in the creation, within shards, and at the end, maybe too late."""
    rng = np.random.default_rng(7)
    moments = [{"batches": 0, "delay": rng.uniform(0.01, 0.15)}]
    moments += [
        {"batches": int(rng.integers(1, 7)), "delay": rng.uniform(0, 0.03)}
        for _ in range(KILLS - 3)
    ]
    moments += [{"until": IMAGES, "delay": rng.uniform(0, 0.05)} for _ in range(2)]
    return moments


def stored(path):
    files = [file for file in path.rglob("*") if file.is_file() and file.parent.name != "receipts"]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def objects(path):
    files = sorted((path / "receipts").glob("shard-*.json"))
    return [ShardReceipt.model_validate_json(file.read_bytes()).objects for file in files]


def only_store(root):
    (path,) = Atlas(root).recordings.iterdir()
    return path


@pytest.mark.slow
def test_record__killed_again_and_again_is_byte_identical_in_the_end(tmp_path, starter):
    root = tmp_path / "killed"
    said = [starter.run(root, **moment) for moment in kills()]
    assert sum("complete" not in lines for lines in said) >= KILLS - 2, said
    assert starter.run(root)[-1] == "complete"
    assert starter.run(tmp_path / "whole")[-1] == "complete"
    killed, whole = only_store(root), only_store(tmp_path / "whole")
    assert killed.name == whole.name
    assert stored(killed) == stored(whole)
    assert objects(killed) == objects(whole)
    assert len(objects(killed)) == IMAGES // SHARD_IMAGES
    files = [
        {each.relative_to(store).as_posix() for each in store.rglob("*")}
        for store in (killed, whole)
    ]
    assert files[0] == files[1]
    assert starter.run(root) == ["complete"]
