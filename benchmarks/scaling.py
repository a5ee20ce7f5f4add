"""`activarium record` by two processes on two cores against one process on one core.

    python benchmarks/scaling.py [--quick] [--repeats N] [--images N]

Each process computes on one thread; the one process is held to one core. Two times are reported:
of the whole command, which includes starting Python and its packages, and from the moment when
the store is there until the last shard's receipt, which includes starting the workers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from timings import Times, circumstances, table

HERE = Path(__file__).parent
CLI = "from activarium.flows.cli import main; main()"
SHARDS = 8


@dataclass(frozen=True)
class Recorded:
    """How long one recording took, in seconds."""

    command: float
    recording: float


def write_config(folder: Path, *, images: int, size: int, width: int) -> Path:
    """Write the run's settings and return the file."""
    config = {
        "name": "scaling",
        "test_set": {
            "source": "entry-point",
            "entry_point": "synthetic_images:synthetic_images",
            "path": str(HERE),
            "options": {"images": images, "size": size},
            "name": "synthetic",
        },
        "preprocessing": {"size": size},
        "model": {"architecture": "resnet18", "width": width, "weights": "untrained"},
        "record": {"threads": 1, "readers": 1, "shard_images": -(-images // SHARDS)},
    }
    path = folder / "scaling.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


def record(config: Path, root: Path, *, processes: int, cores: set[int]) -> Recorded:
    """Record once into a new atlas."""
    command = [sys.executable, "-c", CLI, "record", str(config), "--no-prefect"]
    command += ["--root", str(root), "--devices", f"cpu:{processes}"]
    began = time.time()
    done = subprocess.run(  # noqa: PLW1510 - what it printed is shown first
        command,
        capture_output=True,
        text=True,
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )
    took = time.time() - began
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()
    (store,) = (root / "recordings").glob("*.zarr")
    created = (store / "channel_mean" / "zarr.json").stat().st_mtime
    receipts = [file.stat().st_mtime for file in (store / "receipts").glob("shard-*.json")]
    if len(receipts) != SHARDS:
        raise RuntimeError(f"{store}: expected {SHARDS} receipts, found {len(receipts)}")
    return Recorded(took, max(receipts) - created)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=16_384)
    parser.add_argument("--quick", action="store_true", help="a small run, to try it")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    images, size, width = (512, 16, 8) if arguments.quick else (arguments.images, 32, 64)
    cores = sorted(os.sched_getaffinity(0))[: arguments.processes]
    several = f"{arguments.processes} processes on {len(cores)} cores"
    runs: dict[str, list[Recorded]] = {"one process on one core": [], several: []}
    for _ in range(arguments.repeats):
        for name, each in runs.items():
            processes = arguments.processes if name == several else 1
            with tempfile.TemporaryDirectory() as folder:
                config = write_config(Path(folder), images=images, size=size, width=width)
                own = set(cores[:processes])
                each.append(record(config, Path(folder) / "atlas", processes=processes, cores=own))
    print(circumstances("torch"))
    print(f"ResNet-18 {size}x{size}, width {width}, {images:,} images, all layers.\n")
    print(table(("time", *runs, "speed-up"), list(map(partial(_line, runs), PARTS))))


PARTS = {"whole command": "command", "store created to last receipt": "recording"}


def _line(runs: dict[str, list[Recorded]], part: str) -> list[str]:
    one, several = (
        Times(tuple(getattr(run, PARTS[part]) for run in each)) for each in runs.values()
    )
    return [part, f"{one.median:.1f} s", f"{several.median:.1f} s", f"{one.ratio(several):.2f}"]


if __name__ == "__main__":
    main()
