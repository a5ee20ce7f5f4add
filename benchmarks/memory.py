"""Peak memory of recording many images against few: it should not grow with their number.

Each recording runs in a process of its own, over synthetic images that are made when they are
read. `python benchmarks/memory.py` prints one row of the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FEW, MANY = 20_000, 200_000
SIDE = 16
CLASSES = 10


class SyntheticImages:
    """Grey images of noise, each made from its index."""

    thread_safe = True
    classes = tuple(f"class-{label}" for label in range(CLASSES))

    def __init__(self, images: int) -> None:
        self._noise = np.random.default_rng(0).integers(0, 256, 4_096 + SIDE * SIDE, np.uint8)
        self._images = images

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= self._images:
            raise IndexError(index)
        start = index * 37 % 4_096
        return self._noise[start : start + SIDE * SIDE].reshape(SIDE, SIDE), index % CLASSES

    @property
    def targets(self) -> list[int]:
        """Class of each image."""
        return [index % CLASSES for index in range(self._images)]


def images(count: int) -> SyntheticImages:
    """Return a torch dataset of so many images."""
    return SyntheticImages(count)


def record_once(count: int) -> None:
    """Record so many images and print the peak of this process's memory in MiB."""
    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RunConfig
    from activarium.tasks.recording.checkpoints import choose_checkpoint, record_checkpoint

    config = RunConfig.model_validate(
        {
            "name": "memory",
            "test_set": {
                "source": "entry-point",
                "entry_point": "memory:images",
                "path": str(Path(__file__).parent),
                "options": {"count": count},
                "version": "1",
            },
            "model": {"architecture": "two-block-cnn", "width": 8, "weights": "untrained"},
            "record": {"device": "cpu", "threads": 1, "shard_images": 4_096},
        }
    )
    with tempfile.TemporaryDirectory() as root:
        receipt = record_checkpoint(Atlas(Path(root)), config, choose_checkpoint(config.model))
        assert receipt.images == count
    status = Path("/proc/self/status").read_text("ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1_024)


def peak(count: int) -> float:
    """Return the peak memory of recording so many images, in MiB."""
    command = [sys.executable, __file__, "--images", str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print one row: the peaks and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, help="record so many images and print the peak")
    chosen = parser.parse_args().images
    if chosen is not None:
        record_once(chosen)
        return
    few, many = peak(FEW), peak(MANY)
    print("| work | ours | peer | peer's | ratio |\n|---|---|---|---|---|")
    what = f"peak memory, {MANY:,} synthetic images of {SIDE}x{SIDE}"
    print(f"| {what} | {many:.0f} MiB | {FEW:,} images | {few:.0f} MiB | {many / few:.3f} |")


if __name__ == "__main__":
    main()
