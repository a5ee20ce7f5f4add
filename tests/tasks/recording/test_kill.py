"""Recordings survive kill -9 at any moment: what is finished later is what was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RunConfig
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording_store import read_receipts

KILLS = int(os.environ.get("ACTIVARIUM_TEST_KILLS", "8"))
"""Kills of each series; more of them by the environment, such as 100."""

IMAGES = 540
SHARD_IMAGES = 45

CONFIG = RunConfig.model_validate(
    {
        "name": "kill",
        "test_set": {"source": "digits"},
        "preprocessing": {"size": 16},
        "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
        "record": {"device": "cpu", "batch_size": 20, "shard_images": SHARD_IMAGES, "threads": 1},
    }
)

# Imports once, then forks processes for every line that it reads, which record parts of one
# recording into that folder. One thread: sums in another order differ in their last bits.
STARTER = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RunConfig
from activarium.tasks.recording.checkpoints import choose_checkpoint, record_checkpoint
from activarium.tasks.recording.share import Share
import sklearn.datasets, sklearn.model_selection, torch
torch.set_num_threads(1)
config = RunConfig.model_validate_json(sys.argv[1])

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

@contextmanager
def progress(description, total):
    def advance(more):
        say("advanced", more)
    yield advance

def record(root, part, parts):
    receipt = record_checkpoint(
        Atlas(Path(root)), config, choose_checkpoint(config.model), progress=progress,
        share=Share(part=part, parts=parts),
    )
    say("left", receipt.shards_left)
    os._exit(0)

for line in sys.stdin:
    parts, root = line.strip().split(" ", 1)
    children = []
    for part in range(int(parts)):
        child = os.fork()
        if child == 0:
            record(root, part + 1, int(parts))
        children.append(child)
    say("pids", *children)
    for child in children:
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

    def run(self, root, *, parts=1, kill=None, after=0, delay=0.0):
        """Record; kill the processes at these places after so many words, and a delay.

        Return what was said; all processes have ended.
        """
        self.process.stdin.write(f"{parts} {root}\n")
        said, pids = [], []
        for line in self.process.stdout:
            if line == "ended\n":
                return said
            said.append(line.strip())
            if line.startswith("pids"):
                pids = [int(pid) for pid in line.split()[1:]]
            if pids and kill and len(said) > after:
                time.sleep(delay)
                for place in kill:
                    with suppress(ProcessLookupError):  # it has ended before
                        os.kill(pids[place], signal.SIGKILL)
                kill = None
        raise AssertionError("the starter ended")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def starter():
    made = Starter()
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(starter, tmp_path_factory):
    """Return the store of a recording that nobody stopped."""
    root = tmp_path_factory.mktemp("whole")
    assert starter.run(root)[-1] == "left 0"
    return only_store(root)


def moment(rng, parts):
    """Return when to kill and whom: early in the creation, within shards, while finalising."""
    chosen = rng.choice(parts, size=rng.integers(1, parts + 1), replace=False)
    return {
        "kill": [int(place) for place in chosen],
        "after": int(rng.integers(0, 8)),
        "delay": rng.uniform(0, 0.06),
    }


def stored(path):
    files = [file for file in path.rglob("*") if file.is_file() and file.parent.name != "receipts"]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def objects(path):
    return [receipt.objects for receipt in read_receipts(place_at(path))]


def entries(path):
    return {each.relative_to(path).as_posix() for each in path.rglob("*")}


def only_store(root):
    (path,) = Path(Atlas(root).recordings).iterdir()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_record__killed_again_and_again_is_byte_identical_in_the_end(
    tmp_path, starter, whole, parts
):
    rng = np.random.default_rng(parts)
    kills, recordings = 0, 0
    while kills < KILLS:
        root, recordings = tmp_path / str(recordings), recordings + 1
        for _ in range(KILLS):
            said = starter.run(root, parts=parts, **moment(rng, parts))
            kills += sum(line.startswith("left") for line in said) < parts
            if "left 0" in said:
                break
        assert starter.run(root)[-1] == "left 0"
        killed = only_store(root)
        assert killed.name == whole.name
        assert stored(killed) == stored(whole)
        assert objects(killed) == objects(whole)
        assert len(objects(killed)) == IMAGES // SHARD_IMAGES
        assert entries(killed) == entries(whole)
        assert starter.run(root)[1:] == ["left 0"]
