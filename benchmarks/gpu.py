"""Recording all layers on a GPU against the bare compiled forward pass of the same images.

    PYTHONPATH=.src python benchmarks/gpu.py [--output FOLDER] [--store FOLDER] [--minutes 8]

Needs torch, torchvision, numpy and zarr alone. Without a GPU it runs tiny models on the CPU, to
show that it works.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from device_load import Load
from gpu_pass import Images, bare_pass, captured_pass, own_capture, stored_pass
from subjects import RESNET18, RESNET50, Architecture, place
from timings import Times, circumstances, table

from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.engine_agreement import deviations
from activarium.tasks.capture.engines import LOW_TOLERANCE, TOLERANCE
from activarium.tasks.models.architectures import resnet18

if TYPE_CHECKING:
    from collections.abc import Callable

    from subjects import Subject

    from activarium.schemas.config import Precision

BARE = "bare forward, batches normalised before"


@dataclass(frozen=True)
class Case:
    """One model in one precision, and how much of it is run."""

    architecture: Architecture
    precision: Precision
    batch_size: int
    images: int
    """Images on the device."""


@dataclass(frozen=True)
class Settings:
    """How long things run, and by which engine."""

    device: torch.device
    compiled: bool
    rounds: int
    seconds: float
    """Of one pass of one round."""
    store: Path
    stored_bytes: int
    """Rows at most that one pass stores."""

    @property
    def engine(self) -> str:
        """What is measured beside hooks."""
        return "compiled" if self.compiled else "traced"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    model: str
    precision: str
    batch_size: int
    units: int
    work: str
    images_per_second: float
    ratio: float
    """Time to that of the bare forward pass."""
    utilisation: float | None
    """Of all rounds, in percent."""
    peak_memory: int
    """Bytes of the device's memory, beyond what models and images take."""


TINY = Architecture("tiny ResNet 32x32", 32, lambda: resnet18(width=4))

CASES = (
    Case(RESNET18, "bfloat16", 1024, 51_200),
    Case(RESNET50, "bfloat16", 256, 8_192),
    Case(RESNET18, "tf32", 1024, 51_200),
    Case(RESNET50, "tf32", 256, 8_192),
    Case(RESNET18, "float32", 1024, 51_200),
    Case(RESNET50, "float32", 256, 8_192),
)


def settings_for(store: Path) -> tuple[Settings, tuple[Case, ...]]:
    """Return what is run on this machine."""
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
        print(f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}")
        return Settings(device, True, 3, 2.0, store, 8 * 2**30), CASES
    print("no GPU here: a tiny model on the CPU, not compiled; the numbers mean nothing")
    small = Settings(torch.device("cpu"), False, 1, 0.1, store, 2**20)
    return small, tuple(Case(TINY, precision, 8, 32) for precision in ("float32", "bfloat16"))


def works_of(
    subject: Subject, case: Case, settings: Settings
) -> tuple[dict[str, Callable[[int], None]], Callable[[int], None]]:
    """Return the passes that take turns, the bare one first, and the one that stores."""
    images = Images.random(
        case.images, subject.size, batch_size=case.batch_size, device=settings.device
    )
    bare = copy.deepcopy(subject.model)
    model = torch.compile(bare, dynamic=False) if settings.compiled else bare
    engine = settings.engine
    capture = own_capture(subject, case.precision, engine, case.batch_size)
    other = replace(subject, model=copy.deepcopy(subject.model))
    hooks = own_capture(other, case.precision, "hooks", case.batch_size)
    works = {
        BARE: bare_pass(model, images, case.precision, ready=True),
        "bare forward from bytes on the device": bare_pass(
            model, images, case.precision, ready=False
        ),
        f"{engine}: means of all layers": captured_pass(capture, images, to_host=False),
        f"{engine}: the same, copied to the host": captured_pass(capture, images, to_host=True),
        "hooks: means of all layers, copied to the host": captured_pass(
            hooks, images, to_host=True
        ),
    }
    return works, stored_pass(capture, images, settings.store)


def measure(case: Case, settings: Settings) -> list[Row]:
    """Return the rows of one case."""
    subject = place(case.architecture, settings.device)
    works, stored = works_of(subject, case, settings)
    for work in works.values():
        work(2 * case.batch_size)  # compiles
    began = time.perf_counter()
    works[BARE](4 * case.batch_size)
    batch_seconds = (time.perf_counter() - began) / 4
    count = case.batch_size * max(4, round(settings.seconds / batch_seconds))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    loads: dict[str, list[float]] = {name: [] for name in works}
    peaks = dict.fromkeys(works, 0)
    for _ in range(settings.rounds):
        for name, work in works.items():
            took, load, peak = _timed(work, count, settings.device)
            seconds[name].append(took)
            loads[name] += [] if load is None else [load]
            peaks[name] = max(peaks[name], peak)
    times = {name: Times(tuple(each)) for name, each in seconds.items()}

    def row(name: str, images: int, took: float, ratio: float) -> Row:
        busy = fmean(loads[name]) if loads[name] else None
        return Row(
            subject.name, case.precision, case.batch_size, subject.layers.units, name,
            images / took, ratio, busy, peaks[name],
        )  # fmt: skip

    rows = [row(name, count, each.median, each.ratio(times[BARE])) for name, each in times.items()]
    row_bytes = 4 * (subject.layers.units + subject.layers.outputs)
    stored_count = min(count, settings.stored_bytes // row_bytes)
    stored_count = max(1, stored_count // case.batch_size) * case.batch_size
    name = f"the same, stored beside ({stored_count * row_bytes / 2**20:,.0f} MiB)"
    took, load, peaks[name] = _timed(stored, stored_count, settings.device)
    loads[name] = [] if load is None else [load]
    rows.append(row(name, stored_count, took, took / stored_count / times[BARE].median * count))
    return rows


def _timed(
    work: Callable[[int], None], count: int, device: torch.device
) -> tuple[float, float | None, int]:
    """Return the seconds, the utilisation in percent and the memory that a pass takes at most.

    What lies on the device already, as models and images do, is not the pass's.
    """
    on_gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    with Load(device) as load:
        began = time.perf_counter()
        work(count)
        took = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else 0
    return took, load.mean, peak - before


def agreement(case: Case, settings: Settings) -> str:
    """Say how far the means that are measured are from the hooks', of each layer's largest value.

    Raises
    ------
    SystemExit
        If they differ by more than the engine would be allowed to.
    """
    subject = place(case.architecture, settings.device)
    size, engine = subject.size, settings.engine
    batch = torch.randn(case.batch_size, 3, size, size, device=settings.device)
    batch = batch.to(memory_format=torch.channels_last)
    wanted = Wanted(subject.layers, ("mean",), (), case.precision)
    with HookCapture(subject.model, wanted) as hooks:
        expected = hooks.run(batch)
    found = own_capture(subject, case.precision, engine, case.batch_size).run(batch)
    off = deviations(wanted, expected, found)
    worst = max(off, key=off.__getitem__)
    told = f"largest difference of {engine} graph and hooks {off[worst]:.1e}, in {worst}"
    if not off[worst] <= LOW_TOLERANCE.get(case.precision, TOLERANCE):
        raise SystemExit(f"{case.architecture.name}, {case.precision}: {told}, which is too much")
    return told


HEADINGS = (
    "model", "precision", "batch", "units", "work", "images/s", "time to bare", "busy", "memory",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    """Return one line of the table as text."""
    busy = "" if row.utilisation is None else f"{row.utilisation:.0f} %"
    return [
        row.model, row.precision, str(row.batch_size), f"{row.units:,}", row.work,
        f"{row.images_per_second:,.0f}", f"{row.ratio:.3f}", busy,
        f"{row.peak_memory / 2**20:,.0f} MiB",
    ]  # fmt: skip


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=os.environ.get("OUT"), help="JSON goes here")
    parser.add_argument("--store", type=Path, default=tempfile.gettempdir(), help="stores go here")
    parser.add_argument("--minutes", type=float, default=8.0, help="no case begins after these")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    settings, cases = settings_for(Path(arguments.store))
    print(circumstances("torch", "torchvision", "numpy", "zarr"), flush=True)
    rows, longest = [], 0.0
    for case in cases:
        name = f"{case.architecture.name}, {case.precision}"
        began = time.monotonic()
        if began + longest > end:
            print(f"{name}: left out, the time is up")
            continue
        print(f"{name}: {agreement(case, settings)}", file=sys.stderr)
        rows += measure(case, settings)
        longest = max(longest, time.monotonic() - began)
        if arguments.output is not None:
            _write(Path(arguments.output) / "gpu.json", rows)
    print("\n" + table(HEADINGS, [cells(row) for row in rows]))


def _write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
