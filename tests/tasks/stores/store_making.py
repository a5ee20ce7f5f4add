"""Small stores, made step by step; also imported by processes that tests start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from activarium.schemas.layout import RecordingLayout
from activarium.schemas.receipts import ShardReceipt
from activarium.tasks.stores.places import place_at  # noqa: F401 - the processes use it
from activarium.tasks.stores.recording_store import (
    create_store,
    finalise,
    pending_shards,
    read_attributes,
    read_receipt,
    write_receipt,
    write_shard,
)

IMAGES, UNITS, LAYERS, CLASSES, BINS = 61, 300, 2, 3, 4
RNG = np.random.default_rng(0)
ROWS = {
    "channel_mean": RNG.normal(size=(IMAGES, UNITS)).astype(np.float32),
    "logits": RNG.normal(size=(IMAGES, CLASSES)).astype(np.float32),
    "thumbnail": RNG.integers(0, 256, (IMAGES, 2, 2, 3)).astype(np.uint8),
    "valid": np.ones(IMAGES, bool),
}


def layout_of(shard_images=25):
    return RecordingLayout(
        images=IMAGES,
        units=UNITS,
        features=0,
        layers=LAYERS,
        classes=CLASSES,
        outputs=CLASSES,
        reductions=("mean",),
        thumbnail=(2, 2, 3),
        shard_images=shard_images,
        bins=BINS,
    )


def coordinates_of(layout):
    arrays = [array for array in layout.arrays() if array.spec.phase == "create"]
    return {
        array.spec.name: np.array([f"{array.spec.name}-{i}" for i in range(array.shape[0])], object)
        if array.spec.is_text
        else np.arange(array.shape[0])
        for array in arrays
    }


def create(place, shard_images=25):
    create_store(
        place,
        layout_of(shard_images),
        attributes={"fingerprint": "the same for all", "shard_images": shard_images},
        coordinates=coordinates_of(layout_of()),
    )


def density_of(shard):
    counts = np.arange(LAYERS * CLASSES * BINS).reshape(1, LAYERS, CLASSES, BINS)
    return counts * shard.images


def rows_of(shard):
    rows = {name: values[shard.start : shard.stop] for name, values in ROWS.items()}
    return {**rows, "shard_density": density_of(shard)}


def fill(place, layout, shard):
    receipt = ShardReceipt(
        shard=shard.index,
        start=shard.start,
        stop=shard.stop,
        fingerprint=read_attributes(place)["fingerprint"],
        batch_size=16,
        objects=write_shard(place, layout, shard, rows_of(shard)),
        device="cpu",
        read_seconds=0,
        forward_seconds=0,
        write_seconds=0,
    )
    write_receipt(place, shard, receipt)


def make(place, turn=0):
    """Do all of a recording, as one of several processes that do the same."""
    create(place, shard_images=20 if turn % 2 else 25)
    layout = layout_of(int(read_attributes(place)["shard_images"]))
    shards = layout.shards()
    for shard in (*shards[turn % len(shards) :], *shards[: turn % len(shards)]):
        if read_receipt(place, shard) is None:
            fill(place, layout, shard)
        if not pending_shards(place, shards):
            finalise(place)
    return layout.shard_images


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from store_making import make, place_at
for line in sys.stdin:
    address, turn = line.split()
    print(make(place_at(address), int(turn)), flush=True)
"""


class Makers:
    """Processes that make stores at the same time."""

    def __init__(self, count):
        command = [sys.executable, "-c", PROCESS, str(Path(__file__).parent)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.processes = [
            subprocess.Popen(command, text=True, bufsize=1, **pipes) for _ in range(count)
        ]

    def make(self, address):
        """Let all make this store; return the sizes of shards that they found."""
        for turn, process in enumerate(self.processes):
            process.stdin.write(f"{address} {turn}\n")
        return {int(process.stdout.readline()) for process in self.processes}

    def close(self):
        for process in self.processes:
            process.stdin.close()
            process.stdout.close()
            process.wait()
